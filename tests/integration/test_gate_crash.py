# SPDX-License-Identifier: Apache-2.0
"""What happens when a role dies, stalls or runs out of something: it is started and introduced again, the others go on,
and the module always gets an answer or an end of file.
"""
import os
import resource
import select
import signal
import time

import pytest

import env as harness
import handoff1
from handoff1 import Sender, tcp_pair
from streams import PROMPT, hand_off, read_all, serves

UID_TEST = os.geteuid()


@pytest.fixture(name="start")
def fixture_start(env, factory):
    """start(...) starts a handoffd that this test's uid may hand clients to; .keys.key signs."""
    def start(**options):
        keys = harness.KeyRing(env)
        top = {"key-file": keys.file(harness.UID_GATE), **options.pop("options", {})}
        return factory(harness.Handoffd, keys=keys, options=top, allow_peer=(UID_TEST,), **options)
    return start


def expect_death(daemon, role):
    daemon.expect(rf"handoffd\[\d+\]: event=crashed role={role} .*signal=9")


def test_streamer_dies(start):
    daemon = start()
    assert serves(daemon)
    expect_death(daemon, "streamer")
    gate, dialer = daemon.pid("gate"), daemon.pid("dialer")
    daemon.kill("streamer")
    harness.wait_for(lambda: serves(daemon), 5, "a handoff after the crash")
    assert (daemon.pid("gate"), daemon.pid("dialer")) == (gate, dialer)


def test_streamer_dies_and_the_client_sees_the_end(start):
    daemon = start(backends={"demo": {"type": "demo", "delay": 200}})
    expect_death(daemon, "streamer")
    with Sender(daemon.path()) as sender, tcp_pair() as pair:
        assert sender.handoff(pair.server, PROMPT, key=daemon.keys.key).receive().accepted
        pair.server.close()
        pair.client.settimeout(5)
        assert pair.client.recv(4096)
        daemon.kill("streamer")
        try:
            assert b"[DONE]" not in read_all(pair.client)
        except ConnectionResetError:
            pass


def test_gate_dies_and_streams_go_on(start):
    daemon = start(backends={"demo": {"type": "demo", "delay": 100}})
    expect_death(daemon, "gate")
    with Sender(daemon.path()) as sender, tcp_pair() as pair:
        assert sender.handoff(pair.server, PROMPT, key=daemon.keys.key).receive().accepted
        pair.server.close()
        streamer = daemon.pid("streamer")
        daemon.kill("gate")
        assert sender.closed()
        assert b"[DONE]" in read_all(pair.client)
    assert serves(daemon)
    assert daemon.pid("streamer") == streamer


def test_connections_wait_for_the_next_gate(start):
    """The listeners stay open while the gate is away: what is sent meanwhile is served by the next one."""
    daemon = start()
    expect_death(daemon, "gate")
    os.kill(daemon.pid("gate"), signal.SIGKILL)
    reply, answer = hand_off(daemon)
    assert reply is not None and reply.accepted and b"[DONE]" in answer


@pytest.fixture(name="upstream")
def fixture_upstream():
    def script(connection):
        connection.read_request()
        connection.head(headers=("Content-Type: text/event-stream", "Transfer-Encoding: chunked"))
        connection.event("hello from upstream")
        connection.done()
    server = harness.ScriptedUpstream(script)
    yield server
    server.stop()


CHAT = b'{"messages":[{"role":"user","content":"hi"}]}'


def start_openai(start, url, **backend):
    return start(backends={"ai": {"type": "openai", "upstream": "up", "model": "m", **backend}},
                 upstreams={"up": {"url": url, "connect-timeout": 2000}})


@pytest.mark.parametrize("role", ["dialer", "gate", "streamer"])
def test_introduced_again(start, upstream, role):
    """After the death of any of the three a streamer still gets its connections from the dialer."""
    daemon = start_openai(start, f"http://127.0.0.1:{upstream.port}/v1")
    reply, answer = hand_off(daemon, CHAT)
    assert reply.accepted and b"hello from upstream" in answer, answer
    expect_death(daemon, role)
    others = {name: daemon.pid(name) for name in ("dialer", "gate", "streamer") if name != role}
    daemon.kill(role)

    def works():
        again, text = hand_off(daemon, CHAT)
        return again is not None and again.accepted and b"hello from upstream" in text
    harness.wait_for(works, 5, f"an answer of the upstream after the death of the {role}", interval=0.1)
    assert {name: daemon.pid(name) for name in others} == others


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_dialer_resolves(start, upstream, host):
    daemon = start_openai(start, f"http://{host}:{upstream.port}/v1")
    reply, answer = hand_off(daemon, CHAT)
    assert reply.accepted and b"hello from upstream" in answer, answer


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:80"])
def test_dialer_fails(start, url):
    """The client gets a proper status when the upstream cannot be reached."""
    daemon = start_openai(start, url)
    reply, answer = hand_off(daemon, CHAT)
    assert reply.accepted
    assert answer.startswith(b"HTTP/1.1 50"), answer
    daemon.log.wait("event=dial-failed upstream=up", 10)
    daemon.stop()


def test_clients_that_are_lost_with_their_streamer(start):
    """They are counted and told of, unlike those of one that ends in order."""
    daemon = start(backends={"demo": {"type": "demo", "delay": 30000, "stop-grace": 1}})
    expect_death(daemon, "streamer")

    def hold(count):
        clients = []
        for _ in range(count):
            with Sender(daemon.path()) as sender, tcp_pair() as pair:
                assert sender.handoff(pair.server, PROMPT, key=daemon.keys.key).receive().accepted
                clients.append(pair.client.dup())
        return clients
    clients, since = hold(3), daemon.log.position()
    daemon.kill("streamer")
    daemon.log.wait("event=streams-lost backend=demo worker=0 streams=3$", 5)
    daemon.log.wait("event=peer-connected role=streamer", since=since)
    clients += hold(2)
    daemon.reload()
    harness.wait_for(lambda: len(daemon.log.find("event=role-stopped")) >= 3, 15, "the end of those before")
    assert len(daemon.log.find("event=streams-lost")) == 1
    for client in clients:
        client.close()


def test_workers_take_turns(start):
    daemon = start(backends={"demo": {"type": "demo", "delay": 1, "workers": 3}})
    assert len(daemon.roles()["streamer"]) == 3
    for _ in range(9):
        assert serves(daemon)
    since = daemon.log.position()
    os.kill(daemon.process.pid, signal.SIGUSR1)
    daemon.log.wait(r"handoffd-gate\[\d+\]: event=counter name=handoffd_forwarded_total value=9", since=since)


def test_other_workers_serve(start):
    daemon = start(backends={"demo": {"type": "demo", "delay": 1, "workers": 2}})
    expect_death(daemon, "streamer")
    os.kill(daemon.roles()["streamer"][0], signal.SIGKILL)
    daemon.log.wait("event=peer-lost role=streamer")
    for _ in range(6):
        assert serves(daemon)


def test_stalled_streamer(start):
    """A streamer that reads nothing: handoffs wait for a moment, then they are refused, then they are served again."""
    daemon = start()
    streamer = daemon.pid("streamer")
    os.kill(streamer, signal.SIGSTOP)
    senders, pairs, replies = [Sender(daemon.path()) for _ in range(20)], [], []
    try:
        data = b'{"prompt":"' + b"x" * 50000 + b'"}'
        for sender in senders:
            pairs.append(tcp_pair())
            replies.append(sender.handoff(pairs[-1].server, data, key=daemon.keys.key))
        # Which of them the gate reads first is the event loop's affair.
        answered = select.select([reply.sock for reply in replies], [], [], 5)[0]
        refused = [reply for reply in replies if reply.sock in answered]
        assert refused
        for answer in [reply.receive() for reply in refused]:
            assert (answer.status, answer.reason, answer.retry_after) == (503, "no-streamer", 1)
        # The gate itself is not held up: it refuses at once what has no right to be here.
        with Sender(daemon.path()) as sender, tcp_pair() as pair:
            started = time.monotonic()
            reply = sender.handoff(pair.server, PROMPT, key=handoff1.Key()).receive()
            assert reply.reason == "token-mac" and time.monotonic() - started < 3
    finally:
        os.kill(streamer, signal.SIGCONT)
    rest = [reply.receive() for reply in replies if reply not in refused]
    assert any(answer.accepted for answer in rest)
    assert {answer.reason for answer in rest if not answer.accepted} <= {"no-streamer"}
    harness.wait_for(lambda: serves(daemon), 5, "a handoff after the stall")
    for thing in [*senders, *pairs]:
        thing.close()


def test_no_streamer_at_all(start):
    """Without any streamer the module is told so at once."""
    daemon = start()
    expect_death(daemon, "streamer")
    os.kill(daemon.pid("streamer"), signal.SIGKILL)
    daemon.log.wait("event=peer-lost role=streamer")
    reply, _ = hand_off(daemon)
    if not reply.accepted:  # it may be back already
        assert (reply.status, reply.reason, reply.retry_after) == (503, "no-streamer", 1)
    harness.wait_for(lambda: serves(daemon), 5, "a handoff after the crash")


def test_fewer_descriptors_than_slots(start, monkeypatch):
    """The slots are as many as there are descriptors for, so that idle connections do not use up what handoffs need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    start_process = harness.Process

    def limited(arguments, *rest, **more):
        return start_process(["prlimit", "--nofile=120:120", "--", *arguments], *rest, **more)
    monkeypatch.setattr("base.Process", limited)
    daemon = start()
    monkeypatch.undo()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    assert daemon.log.find("event=slots-reduced")
    idle = [Sender(daemon.path()) for _ in range(150)]
    time.sleep(0.7)
    for _ in range(5):
        assert serves(daemon)
    assert not daemon.log.find("event=accept-failed")
    for sender in idle:
        sender.close()


def test_stop(start):
    """SIGTERM ends all, removes the sockets and is no failure."""
    daemon = start()
    before = daemon.roles()
    os.kill(daemon.process.pid, signal.SIGTERM)
    assert daemon.process.popen.wait(10) == 0
    assert not [pid for pids in before.values() for pid in pids if harness.alive(pid)]
    assert not os.path.exists(daemon.path())
    assert not (daemon.run / "roles").exists()


def test_nobody_outlives_the_supervisor(start):
    daemon = start()
    pids = [pid for pids in daemon.roles().values() for pid in pids]
    os.kill(daemon.process.pid, signal.SIGKILL)
    harness.wait_for(lambda: not any(map(harness.alive, pids)), 5, "the end of the roles")
    daemon.process.popen.wait()
    # What it left behind does not stop the next one.
    daemon.start()
    assert serves(daemon)
