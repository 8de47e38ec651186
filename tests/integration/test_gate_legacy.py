# SPDX-License-Identifier: Apache-2.0
"""Listeners with legacy = yes: bare data with the client's socket, as the original module sends it, on SOCK_SEQPACKET or
SOCK_STREAM. docs/protocol.md, section 4.
"""
import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import env as harness
import handoff1
from handoff1 import Sender, tcp_pair
from receiver import Site, as_uid
from streams import read_all

UID_TEST = os.geteuid()
UID_OTHER = 64299
FIXED = b"This is the demo backend of handoffd"
KIB_64 = 65536


class Gate:
    """A running handoffd with a legacy listener and one that is none."""

    def __init__(self, environment, kind):
        self.kind = kind
        keys = harness.KeyRing(environment)
        self.daemon = harness.Handoffd(
            environment, backends={"demo": {"type": "demo", "delay": 1}},
            listens={"chat": {"backend": "demo"}, "legacy": {"backend": "demo", "legacy": True, "mode": "0666",
                                                              "legacy-stream": kind == socket.SOCK_STREAM}},
            keys=keys, options={"key-file": keys.file(harness.UID_GATE)}, allow_peer=(UID_TEST, harness.UID_APACHE))
        self.key = keys.key
        self.pid = self.daemon.pid("gate")
        self.path = self.daemon.path("legacy")
        self.serve()
        self.daemon.wait_introduced()
        time.sleep(0.1)
        self.fds = self.count_fds()

    def count_fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def serve(self):
        """The listener that is not legacy is as it was."""
        with Sender(self.daemon.path("chat")) as sender, tcp_pair() as pair:
            reply = sender.handoff(pair.server, b'{"prompt":"one two"}', key=self.key).receive()
            assert reply is not None and reply.accepted, reply
            pair.server.close()
            assert b"[DONE]" in read_all(pair.client)


@pytest.fixture(scope="module", name="gate", params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM],
                ids=["seqpacket", "stream"])
def fixture_gate(env, request):
    gate = Gate(env, request.param)
    yield gate
    gate.daemon.stop()


@pytest.fixture(autouse=True)
def unharmed(gate):
    """The same gate, serving, with nothing left over."""
    yield
    gate.serve()
    assert gate.daemon.pid("gate") == gate.pid
    harness.wait_for(lambda: gate.count_fds() <= gate.fds, 3, "the descriptors")


def connect(path) -> socket.socket:
    """A connection of the kind that the listener has."""
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.settimeout(5)
        if (error := sock.connect_ex(path)) != errno.EPROTOTYPE:
            break
        sock.close()
    assert error in (0, errno.EAGAIN), os.strerror(error)
    return sock


def hand_off(path, *pieces, fds=None) -> bytes:
    """Send the pieces, the first with the client (or the descriptors), and close; what the client gets."""
    with tcp_pair() as pair:
        with connect(path) as sock:
            socket.send_fds(sock, [pieces[0]], [pair.server.fileno()] if fds is None else fds)
            for piece in pieces[1:]:
                time.sleep(0.05)
                sock.sendall(piece)
        pair.server.close()
        return read_all(pair.client)


def json_of(length: int) -> bytes:
    start, end = b'{"prompt":"', b'"}'
    return start + b"x" * (length - len(start) - len(end)) + end


def refused(gate, reason, *pieces, **how):
    """The gate closes the client; one log line and one count."""
    name = f"daemon_handoff_errors_total/{reason}"
    before, since = gate.daemon.counters("gate").get(name, 0), gate.daemon.log.position()
    assert hand_off(gate.path, *pieces, **how) == b""
    gate.daemon.log.wait(f"event=refused reason={reason} listener=\\S*legacy.sock", since=since)
    assert gate.daemon.counters("gate").get(name, 0) == before + 1


def test_kind(gate):
    with connect(gate.path) as sock:
        assert sock.type == gate.kind


def test_start_is_logged(gate):
    assert gate.daemon.log.find(r"handoffd-gate\[\d+\]: .*event=legacy-listener listener=\S*/legacy.sock backend=demo")
    assert not gate.daemon.log.find("event=legacy-listener listener=\\S*/chat.sock")


@pytest.mark.parametrize("pieces", [[b'{"prompt":"one two"}'], [b'{"prompt":"on', b'e two"}']], ids=["one", "two writes"])
def test_whole_stream(gate, pieces):
    answer = hand_off(gate.path, *pieces)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.count(b"[DONE]") == 1
    assert b'{"content":"one"}' in answer


def test_no_data(gate):
    answer = hand_off(gate.path, b"\0")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"0\r\n\r\n") and b'This"}' in answer


def test_largest_data(gate):
    answer = hand_off(gate.path, json_of(KIB_64))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.count(b"x") > KIB_64 - 100 and b"[DONE]" in answer


def test_too_large_data(gate):
    refused(gate, "data-too-large", json_of(KIB_64 + 1))


def test_two_descriptors(gate):
    with tcp_pair() as one, tcp_pair() as two:
        refused(gate, "descriptors", b"{}", fds=[one.server.fileno(), two.server.fileno()])


def test_descriptor_in_second_write(gate):
    since = gate.daemon.log.position()
    with tcp_pair() as one, tcp_pair() as two, connect(gate.path) as sock:
        socket.send_fds(sock, [b"{"], [one.server.fileno()])
        socket.send_fds(sock, [b"}"], [two.server.fileno()])
        assert sock.recv(1) == b""
        gate.daemon.log.wait("event=refused reason=descriptors", since=since)


def test_no_descriptor(gate):
    refused(gate, "descriptors", b"{}", fds=[])


def test_not_tcp(gate):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        refused(gate, "client-socket", b"{}", fds=[theirs.fileno()])
    with open("/dev/null", "rb") as null:
        refused(gate, "client-socket", b"{}", fds=[null.fileno()])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused(gate, "client-socket", b"{}", fds=[listening.fileno()])


def test_other_uid(gate):
    if UID_TEST != 0:
        pytest.skip("other uids need root")
    since = gate.daemon.log.position()
    with as_uid(UID_OTHER), connect(gate.path) as sock:
        assert sock.recv(1) == b""
    gate.daemon.log.wait(f"event=refused reason=peer-forbidden .*uid={UID_OTHER}", since=since)


def test_silent_sender(gate):
    """It has 5 seconds; others are served meanwhile."""
    since, start = gate.daemon.log.position(), time.monotonic()
    with connect(gate.path) as silent, connect(gate.path) as half, tcp_pair() as pair:
        socket.send_fds(half, [b"{"], [pair.server.fileno()])
        pair.server.close()
        assert b"[DONE]" in hand_off(gate.path, b"{}") and time.monotonic() - start < 4
        silent.settimeout(20)
        assert silent.recv(1) == b"" and 4.5 < time.monotonic() - start < 12
        assert read_all(pair.client) == b""
    assert len(gate.daemon.log.wait("event=refused reason=message-malformed", since=since, count=2)) == 2


def test_nothing_sent(gate):
    """Somebody looks whether there is a listener."""
    since = gate.daemon.log.position()
    connect(gate.path).close()
    gate.serve()
    assert not gate.daemon.log.find("event=refused", since)


def test_bad_json(gate):
    since = gate.daemon.log.position()
    answer = hand_off(gate.path, b'{"prompt":')
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b'"code":"refused"' in answer
    gate.daemon.log.wait(r"handoffd-streamer\[\d+\]: .*event=refused .*reason=request-invalid", since=since)


def test_full_streamer(env):
    daemon = harness.Handoffd(env, backends={"demo": {"type": "demo", "delay": 1000, "max-streams": 1}},
                              listens={"legacy": {"backend": "demo", "legacy": True}}, allow_peer=(UID_TEST,))
    with daemon, tcp_pair() as pair:
        with connect(daemon.path()) as sock:
            socket.send_fds(sock, [b"{}"], [pair.server.fileno()])
        pair.server.close()
        pair.client.settimeout(5)
        assert pair.client.recv(100).startswith(b"HTTP/1.1 200 ")
        answer = hand_off(daemon.path(), b"{}")
        assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in answer


def test_slots_are_used_again(env, gate):
    """Sixty connections that say nothing, or half of it, and are held open: they never lock a sender out for good."""
    daemon = harness.Handoffd(env, backends={"demo": {"type": "demo", "delay": 1}}, allow_peer=(UID_TEST,),
                              listens={"legacy": {"backend": "demo", "legacy": True, "legacy-stream": gate.kind == socket.SOCK_STREAM,
                                                  "max-connections": 8}})
    held = []
    with daemon:
        daemon.wait_introduced()
        pid = daemon.pid("gate")
        before = len(os.listdir(f"/proc/{pid}/fd"))
        for _ in range(3):
            for number in range(20):
                sock, pair = connect(daemon.path()), tcp_pair()
                held += [sock, pair.client]
                if number % 2:
                    try:
                        socket.send_fds(sock, [b'{"prompt":'], [pair.server.fileno()])
                    except (BrokenPipeError, ConnectionResetError):  # no slot for it just now
                        pass
                pair.server.close()
            assert len(os.listdir(f"/proc/{pid}/fd")) <= before + 2 * 8
            time.sleep(0.6)  # then others may have their slots
            assert hand_off(daemon.path(), b"{}").endswith(b"0\r\n\r\n")
        assert daemon.log.find("event=refused reason=rate-limited listener=\\S*legacy.sock .*connections=8")
        assert read_all(held[3]) == b""  # the client of a connection that lost its slot is let go
        for thing in held:
            thing.close()
        harness.wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, 3, "the descriptors")
        assert daemon.pid("gate") == pid


@pytest.mark.parametrize("pause", [0.2, 2])
def test_stalled_pool(env, in_threads, pause):
    """A streamer that is stopped: for a moment handoffs wait, then they are refused; nobody hangs, other backends do not
    notice, and afterwards all is as before."""
    daemon = harness.Handoffd(env, backends={"demo": {"type": "demo", "delay": 0}, "other": {"type": "demo", "delay": 0}},
                              listens={name: {"backend": name, "legacy": True} for name in ("demo", "other")},
                              allow_peer=(UID_TEST,))
    with daemon:
        pid, streamer = daemon.pid("gate"), daemon.pid("streamer", "demo")
        data = json_of(60000)
        os.kill(streamer, signal.SIGSTOP)

        def later():
            assert hand_off(daemon.path("other"), b"{}").endswith(b"0\r\n\r\n")
            assert time.monotonic() - start < 3
            time.sleep(max(start + pause - time.monotonic(), 0))
            os.kill(streamer, signal.SIGCONT)
        start = time.monotonic()
        answers = in_threads([lambda: hand_off(daemon.path("demo"), data)] * 12 + [later])[:12]
        whole = [answer for answer in answers if answer.endswith(b"0\r\n\r\n") and answer.count(b"x") >= 59900]
        assert len(whole) + answers.count(b"") == 12 and whole
        assert (b"" in answers) == (pause > 1)
        refusals = daemon.log.find("event=refused reason=no-streamer")
        assert len(refusals) == answers.count(b"")
        again = hand_off(daemon.path("demo"), data)
        assert again.partition(b"\r\n\r\n")[2] == whole[0].partition(b"\r\n\r\n")[2]  # the heads have their Date
        assert daemon.pid("gate") == pid


def test_flag_from_a_module(gate):
    since = gate.daemon.log.position()
    with Sender(gate.daemon.path("chat")) as sender, tcp_pair() as pair:
        fields = handoff1.make_fields(pair.server, gate.daemon.path("chat"), b"{}", key=gate.key)
        assert sender.send_fields(fields, pair.server, 0x0004).receive() is None and sender.closed()
    gate.daemon.log.wait("event=refused reason=message-malformed", since=since)


def test_no_streamer(env):
    daemon = harness.Handoffd(env, listens={"legacy": {"backend": "demo", "legacy": True}}, allow_peer=(UID_TEST,))
    with daemon:
        daemon.expect("event=crashed role=streamer")
        streamer, since = daemon.pid("streamer"), daemon.log.position()
        os.kill(daemon.process.pid, signal.SIGSTOP)  # so that there is no new one
        try:
            os.kill(streamer, signal.SIGKILL)
            daemon.log.wait("event=peer-lost role=streamer", since=since)
            assert hand_off(daemon.path(), b"{}") == b""
            daemon.log.wait("event=refused reason=no-streamer listener=\\S*legacy.sock peer=127.0.0.1:", since=since)
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        harness.wait_for(lambda: hand_off(daemon.path(), b"{}").endswith(b"0\r\n\r\n"), 5, "a stream")


def test_through_apache(env, gate):
    if UID_TEST != 0:
        pytest.skip("Apache under its own uid needs root")
    conf = "SocketHandoffProtocol raw\nSocketHandoffRequireToken Off\nSocketHandoffEnabled On\n" \
           f"SocketHandoffAllowedPrefix {gate.daemon.run}/\n"
    with Site(env, "event", conf, peer=None, keys=None) as site:
        for data, how, word in (('{"prompt":"through Apache"}', {}, b'through"}'), ("", {}, b'This"}'),
                                (" ", {"form": "body", "repeat": KIB_64 - 2, "output": "{}"}, b'This"}')):
            plan = site.plan(data, sign=False, socket_path=gate.path, **how)
            answer = site.fetch(site.target(plan))
            assert answer.status == 200 and word in answer.body and answer.body.endswith(b"data: [DONE]\n\n")
            assert answer.leaks() == []
        since = gate.daemon.log.position()
        site.expect("AHSH0103")  # on SOCK_STREAM, when the gate closes before all has gone
        plan = site.plan("x", form="body", repeat=KIB_64 + 1, sign=False, socket_path=gate.path)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            site.fetch(site.target(plan))
        gate.daemon.log.wait("event=refused reason=data-too-large", since=since)


@pytest.mark.parametrize("options, wrong", [({}, "this needs legacy-unsafe = yes"), ({"legacy-unsafe": True}, None),
                                            ({"relay": True}, "legacy and relay exclude each other")])
def test_configuration(env, options, wrong):
    key = env.folder("key") / "key"
    key.write_text("secret\n")
    text = 'listen "/run/x.sock" {\n backend = ai\n allow-peer = {33}\n legacy = yes\n' + "".join(
        f" {name} = {str(value).lower()}\n" for name, value in options.items()) + "}\n" \
        f'backend "ai" {{\n type = openai\n upstream = up\n user = 64003\n credential-file = "{key}"\n}}\n' \
        'upstream "up" {\n url = "http://127.0.0.1:1"\n}\n' \
        "gate-user = 64001\ndialer-user = 64002\nstreamer-user = 64004\n"
    conf = env.folder("conf") / "handoffd.conf"
    conf.write_text(text)
    done = subprocess.run([env.bin / "handoffd", "-t", "-c", conf], capture_output=True, text=True, timeout=20)
    output = done.stdout + done.stderr
    assert re.search("legacy", output) if wrong else "legacy" not in output, output
    assert (done.returncode == 0) == (wrong is None) and (wrong or "") in output, output
