# SPDX-License-Identifier: Apache-2.0
"""SIGHUP to the supervisor: all roles are started anew, with configuration, keys and programs as they are now, and take
over without losing a handoff or cutting a stream."""
import os
import re
import signal
import threading
import time

import pytest

import env as harness
import handoff1
from client import parse_response
from handoff1 import Sender, tcp_pair

PROMPT = b'{"prompt":"one two three"}'
LONG = b'{"prompt":"' + b"word " * 150 + b'"}'  # some 3 s


@pytest.fixture(name="start")
def fixture_start(env, factory):
    def start(**how):
        keys = harness.KeyRing(env)
        return factory(harness.Handoffd, keys=keys, options={"key-file": keys.file(harness.UID_GATE)},
                       allow_peer=(os.geteuid(),), **{"backends": {"demo": {"type": "demo", "delay": 20, "workers": 2}}, **how})
    return start


def hand_off(daemon, data=PROMPT, deadline=5, **how):
    """The client of a handoff that was accepted. As a module does it: again after an end of file or when nobody listens
    for a moment."""
    until = time.monotonic() + deadline
    while True:
        with tcp_pair() as pair:
            try:
                with Sender(daemon.path()) as sender:
                    reply = sender.handoff(pair.server, data, **{"key": daemon.keys.key, **how})
                    pair.server.close()
                    answer = reply.receive()
                    reply.close()
            except (ConnectionError, BlockingIOError):
                answer = None
            if answer is not None:
                assert answer.accepted, answer
                return pair.client.dup()
        assert time.monotonic() < until, "nobody takes the handoff"
        time.sleep(0.005)


def whole(client) -> bytes:
    client.settimeout(30)
    raw = b""
    while piece := client.recv(65536):
        raw += piece
    client.close()
    answer = parse_response(raw)
    assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n"), raw[-300:]
    return answer.body


def all_pids(daemon):
    return {pid for pids in daemon.roles().values() for pid in pids}


def test_streams_go_on(start):
    """Streams of the old processes end whole; the old processes end with them; new handoffs go to new ones."""
    daemon = start()
    before = all_pids(daemon)
    clients = [hand_off(daemon, LONG) for _ in range(6)]
    daemon.reload()
    assert whole(hand_off(daemon))
    streamers = set(daemon.roles()["streamer"])
    assert len(streamers - before) == 2 and len(streamers & before) == 2
    for client in clients:
        assert whole(client).count(b"word") == 150
    harness.wait_for(lambda: not any(map(harness.alive, before)), 10, "the end of the old processes")
    assert len(all_pids(daemon)) == 4
    # The old sockets are gone, the new ones work, and it can be done again.
    names = {path.name for path in (daemon.run / "roles").glob("*.sock")}
    assert not [name for name in names if re.fullmatch(r"(streamer-demo-\d|dialer)\.sock", name)], names
    daemon.reload()
    assert whole(hand_off(daemon))


def test_nothing_is_lost_under_load(start, in_threads):
    """Handoffs all the time, and five reloads meanwhile: each answer comes whole."""
    daemon = start(backends={"demo": {"type": "demo", "delay": 1, "workers": 2}})
    done, end = [], threading.Event()

    def client():
        while not end.is_set():
            done.append(whole(hand_off(daemon)))

    def reloads():
        try:
            for _ in range(5):
                daemon.reload()
                time.sleep(0.1)
        finally:
            end.set()
    in_threads([reloads, client, client, client], timeout=120)
    assert len(done) > 50
    assert len(set(done)) == 1


def test_a_bad_configuration_changes_nothing(start):
    daemon = start()
    before = all_pids(daemon)
    daemon.expect(r"event=config .*no_such_option|event=config ", r"event=reload-failed")
    daemon.reload("event=reload-failed", **{"delay = 20": "no_such_option = 1"})
    assert all_pids(daemon) == before and whole(hand_off(daemon))
    # Right again, it is taken.
    daemon.reload(**{"no_such_option = 1": "delay = 1"})
    assert whole(hand_off(daemon))


def test_a_role_that_does_not_start_changes_nothing(start):
    """A key ring that nobody can use is seen by the gate only: the old processes stay."""
    daemon = start()
    before = all_pids(daemon)
    keys = daemon.keys.file(harness.UID_GATE)
    right = keys.read_text()
    keys.write_text("nonsense\n")
    daemon.expect(r"event=fatal", r"event=exited role=gate", r"event=reload-failed")
    daemon.reload("event=reload-failed")
    assert whole(hand_off(daemon))
    keys.write_text(right)
    harness.wait_for(lambda: all_pids(daemon) == before, 10, "the end of the new processes")
    # A crash of the gate afterwards finds its streamers.
    daemon.kill("gate")
    daemon.expect(r"event=crashed role=gate .*signal=9")
    assert whole(hand_off(daemon))
    daemon.reload()
    assert whole(hand_off(daemon))


def test_keys(start):
    """A key that was added works after a reload, one that was revoked does not."""
    daemon = start()
    old = daemon.keys.key
    new = handoff1.Key(kid="new")
    daemon.keys.set(new, handoff1.Key(kid=old.kid, secret=old.secret, state="revoked"))
    daemon.reload()
    assert whole(hand_off(daemon))
    daemon.expect(r"event=refused reason=token-key-revoked")
    with Sender(daemon.path()) as sender, tcp_pair() as pair:
        assert sender.handoff(pair.server, PROMPT, key=old).receive().reason == "token-key-revoked"


def test_a_link_in_place_of_a_listener(start, tmp_path):
    """Whoever owns the directory can put one there; what it leads to keeps its owner and mode."""
    daemon = start()
    victim = tmp_path / "victim"
    victim.touch(0o600)
    before = os.stat(victim)
    os.unlink(daemon.path())
    os.symlink(victim, daemon.path())
    daemon.expect(r"event=socket path=\S+ error=\"is not a socket any more\"", r"event=reload-failed")
    daemon.reload("event=reload-failed")
    after = os.stat(victim)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_listeners_come_and_go(start):
    daemon = start(listens={"chat": {"backend": "demo"}, "old": {"backend": "demo"}})
    inode = os.stat(daemon.path("chat")).st_ino
    daemon.reload(**{f'listen "{daemon.path("old")}"': f'listen "{daemon.path("new")}"'})
    assert os.stat(daemon.path("chat")).st_ino == inode
    harness.wait_for(lambda: not os.path.exists(daemon.path("old")), 5, "the end of the old listener")
    with Sender(daemon.path("new")) as sender, tcp_pair() as pair:
        assert sender.handoff(pair.server, PROMPT, key=daemon.keys.key).receive().accepted
    assert whole(hand_off(daemon))


def test_modes_of_listeners_change(start):
    daemon = start(listens={"chat": {"backend": "demo", "mode": "0660"}})
    daemon.reload(**{'mode = "0660"': 'mode = "0600"'})
    assert os.stat(daemon.path()).st_mode & 0o777 == 0o600


def test_limits_hold_over_a_streamer_that_stops(start):
    """A streamer that is told to stop ends its streams; until then they count."""
    daemon = start(backends={"demo": {"type": "demo", "delay": 20, "workers": 1}},
                   listens={"chat": {"backend": "demo", "max-streams": 1}})
    client = hand_off(daemon, LONG)
    since = daemon.log.position()
    os.kill(daemon.pid("streamer"), signal.SIGTERM)
    daemon.log.wait("event=peer-stopping", 5)
    daemon.expect(r"event=refused reason=(streams-limited|no-streamer)", r"event=exited role=streamer .*status=0")
    with Sender(daemon.path()) as sender, tcp_pair() as pair:
        assert sender.handoff(pair.server, PROMPT, key=daemon.keys.key).receive().reason == "streams-limited"
    assert whole(client).count(b"word") == 150
    daemon.log.wait("event=exited role=streamer", 5)
    daemon.log.wait("event=peer-connected role=streamer", 5, since)
    assert whole(hand_off(daemon))


def test_stop_ends_streams_with_an_event(start):
    """SIGTERM to all: streams have stop-grace to end by themselves, then they are ended with an event."""
    daemon = start(backends={"demo": {"type": "demo", "delay": 50, "stop-grace": 1}})
    client = hand_off(daemon, b'{"prompt":"' + b"word " * 1000 + b'"}')
    begun = time.monotonic()
    os.kill(daemon.process.pid, signal.SIGTERM)
    client.settimeout(20)
    raw = b""
    while piece := client.recv(65536):
        raw += piece
    client.close()
    assert 0.9 < time.monotonic() - begun < 12
    body = parse_response(raw).body
    assert b"event: error\ndata: " in body and b'"stopped"' in body and b"[DONE]" not in body
    assert daemon.process.popen.wait(10) == 0
