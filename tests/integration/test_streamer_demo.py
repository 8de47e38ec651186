# SPDX-License-Identifier: Apache-2.0
"""The streamer with the demo backend, behind the real gate: what the client gets, byte for byte."""
import json
import os
import re
import signal
import socket
import time

import pytest

import handoff1
from client import HttpError
from env import UID_GATE, UID_STREAMER, Handoffd, alive, proc_status, wait_for
from streams import Exchange, LONG, TEXT, exchange, prompt_data, refused

def words(text: str) -> list:
    """The pieces that the demo backend makes of a text."""
    return re.findall(r"[ \n\t\r]*[^ \n\t\r]+|[ \n\t\r]+$", text)


def sse(pieces) -> list:
    """The events of these contents, as the streamer escapes them."""
    return [b'data: {"content":' + json.dumps(piece, ensure_ascii=False).encode() + b"}\n\n" for piece in pieces]


def chunked(pieces) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def demo(env):
    with Handoffd(env, allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 1}}) as daemon:
        yield daemon


def test_byte_exact(demo):
    response = exchange(demo, prompt_data("Hello there,  world"))
    assert response.status == 200
    names = [name for name, _ in response.headers]
    assert names == ["Date", "Content-Type", "Cache-Control", "X-Accel-Buffering", "Transfer-Encoding", "Connection"]
    assert response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.header("Cache-Control") == "no-cache"
    assert response.header("X-Accel-Buffering") == "no"
    assert response.header("Connection") == "close"
    events = sse(["Hello", " there,", "  world", *words(TEXT)]) + [b"data: [DONE]\n\n"]
    _, _, body = response.raw.partition(b"\r\n\r\n")
    last = events[-1]
    assert body == chunked(events[:-1])[:-5] + b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last)


@pytest.mark.parametrize("prompt", [
    'say "hi" \\ and \\\\ and \\n', "two\nlines\r\nand\ttab", "grüß \U0001f600 日本語\u2028end", "\x01\x1f\x7f",
    "data: x\n\nevent: y\n\n", "  leading and trailing  ", "", " ", "a" * 5000 + "ü" * 5000, "</script>&amp;"],
    ids=["quotes", "line-ends", "unicode", "control", "sse", "blanks", "empty", "blank", "long", "markup"])
def test_prompt_arrives_escaped_once(demo, prompt):
    escaped = json.dumps({"prompt": prompt}).encode()
    plain = json.dumps({"prompt": prompt}, ensure_ascii=False).encode()
    for data in (escaped, plain):
        assert exchange(demo, data).text() == prompt + TEXT


def test_unicode_escapes_and_blanks(demo):
    response = exchange(demo, b' { "prompt" : "\\u0041\\ud83d\\ude00\\/ \\u00fc" , "unknown" : [ 1 , { } ] } ')
    assert response.text() == "A\U0001f600/ ü" + TEXT


def test_messages(demo):
    messages = [{"role": "user", "content": "first"}, {"role": "user", "content": "last one"}]
    assert exchange(demo, json.dumps({"messages": messages}).encode()).text() == "last one" + TEXT


def test_no_data(demo):
    assert exchange(demo, b"").text() == TEXT


def test_head(demo):
    response = exchange(demo, prompt_data("x"), method="HEAD")
    assert response.status == 200 and response.header("Transfer-Encoding") is None
    assert response.header("Content-Type").startswith("text/event-stream")


def test_http_1_0(demo):
    response = exchange(demo, prompt_data("x"), protocol="HTTP/1.0")
    assert response.header("Transfer-Encoding") is None and response.header("Connection") == "close"
    assert response.text() == "x" + TEXT


def test_application_headers(demo):
    headers = [("Set-Cookie", "a=b; HttpOnly"), ("Set-Cookie", "c=d"), ("X-Request-Id", "42"),
               ("Content-Type", "text/html"), ("Cache-Control", "private"), ("Access-Control-Allow-Origin", "*")]
    response = exchange(demo, prompt_data("x"), headers=headers, status=201)
    assert response.status == 201
    assert response.all("Set-Cookie") == ["a=b; HttpOnly", "c=d"]
    assert response.header("X-Request-Id") == "42"
    assert response.header("Access-Control-Allow-Origin") == "*"
    assert response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.header("Cache-Control") == "private"


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_application_status_that_is_no_stream(demo, status):
    assert exchange(demo, prompt_data("x"), status=status).status == 200


@pytest.mark.parametrize("data", [
    b"hello", b"[]", b"{", b'{"prompt":"a"}{}', b'{"prompt":1}', b'{"prompt":"a","prompt":"b"}',
    b'{"x":{"y":1,"y":2},"prompt":"a"}', b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}', b'{"prompt":"a\\u0000b"}',
    b'{"messages":[]}', b'{"prompt":"a","max_tokens":"7"}', b"\0", b"[" * 10000, b'{"a":' * 10000,
    b'{"temperature":1e999}'], ids=range(16))
def test_invalid_requests(demo, data):
    reply = refused(demo, data)
    assert (reply.status, reply.reason) == (400, "request-invalid")


def test_data_digest(demo):
    reply = refused(demo, prompt_data("signed"), data_digest=handoff1.digest(prompt_data("another")))
    assert (reply.status, reply.reason) == (403, "data-digest")


def test_digest_comes_before_parsing(demo):
    reply = refused(demo, b"not JSON", data_digest=handoff1.digest(b"{}"))
    assert reply.reason == "data-digest"


def test_memfd(demo):
    prompt = "".join(f"word{number} " for number in range(100)).ljust(1 << 20, "x")
    response = exchange(demo, prompt_data(prompt))
    assert response.text() == prompt + TEXT


def test_memfd_digest(demo):
    reply = refused(demo, prompt_data("x" * 100000), data_digest=handoff1.digest(b"x"))
    assert reply.reason == "data-digest"


def test_memfd_too_large(demo):
    reply = refused(demo, prompt_data("x" * (32 << 20)))
    assert (reply.status, reply.reason) == (413, "data-too-large")
    reply = refused(demo, prompt_data("x" * (8 << 20)))  # by itself: more than max-prompt
    assert (reply.status, reply.reason) == (400, "request-invalid")


def test_client_that_sends_more_does_no_harm(demo):
    with Exchange(demo, prompt_data("word " * 50)) as made:
        made.read_until(b"data:")
        made.client.sendall(b"GET /pipelined HTTP/1.1\r\n" * 5000)
        assert made.response().text() == "word " * 50 + TEXT


def test_reply_too_late(demo):
    """Nobody waits for `accepted` any more: the client's socket is not touched, and closed."""
    before = demo.counters("streamer").get("handoffd_accept_too_late_total", 0)
    pair = handoff1.tcp_pair()
    data = prompt_data("x")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.shutdown(socket.SHUT_RDWR)
    with handoff1.Sender(demo.path()) as sender:
        fields = handoff1.make_fields(pair.server, demo.path(), data, key=demo.keys.key)
        handoff1.send(sender.sock, handoff1.encode(fields), [pair.server, theirs])
        theirs.close()
        wait_for(lambda: demo.counters("streamer").get("handoffd_accept_too_late_total", 0) == before + 1, 5)
        pair.client.setblocking(False)
        with pytest.raises(BlockingIOError):
            pair.client.recv(1)  # neither data nor an end: our copy is open still, as Apache's would be
    pair.close()


def test_slow_reader_delays_nobody(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 0}})
    with Exchange(daemon, prompt_data(LONG)) as slow:
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) >= 1, 10, "pause")
        before = proc_status(daemon.pid("streamer"))["VmRSS"]
        for _ in range(20):
            start = time.monotonic()
            assert exchange(daemon, prompt_data("quick")).text() == "quick" + TEXT
            assert time.monotonic() - start < 3
        after = proc_status(daemon.pid("streamer"))["VmRSS"]
        assert int(after.split()[0]) - int(before.split()[0]) < 512, "memory grows for a client that does not read"
        assert slow.response().text() == LONG + TEXT


def test_write_timeout(handoffd_factory):
    backend = {"type": "demo", "delay": 0, "write-timeout": 1}
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": backend})
    with Exchange(daemon, prompt_data(LONG)):
        daemon.log.wait("event=stream-end .*outcome=write-timeout", 5)


def test_max_duration(handoffd_factory):
    backend = {"type": "demo", "delay": 300, "max-duration": 1}
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": backend})
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200 and response.error()["code"] == "max-duration"
    with pytest.raises(HttpError):
        response.text()


def test_keepalive(handoffd_factory):
    backend = {"type": "demo", "delay": 2500, "keepalive": 1}
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": backend})
    with Exchange(daemon, prompt_data("one two")) as made:
        raw = made.read_until(b'" two"')
    assert raw.count(b"8\r\n: ping\n\n\r\n") == 2


def test_client_gone(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 10000}})
    with Exchange(daemon, prompt_data("one two")) as made:
        made.read_until(b"data:")
    daemon.log.wait("event=stream-end .*outcome=client-gone", 1)


def test_full(handoffd_factory):
    backend = {"type": "demo", "delay": 10000, "max-streams": 2}
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": backend})
    with Exchange(daemon, b"{}") as first, Exchange(daemon, b"{}") as second:
        assert first.reply.accepted and second.reply.accepted
        reply = refused(daemon, b"{}")
        assert (reply.status, reply.reason, reply.retry_after) == (503, "streamer-full", 1)
    daemon.log.wait("outcome=client-gone", 2, count=2)
    assert exchange_begins(daemon)


def exchange_begins(daemon) -> bool:
    with Exchange(daemon, b"{}") as made:
        return made.reply.accepted and b"data:" in made.read_until(b"data:")


def test_log_line(demo):
    since = demo.log.position()
    exchange(demo, prompt_data("one"), subject='user "7"\\', request_id="req-1")
    line, = demo.log.wait("event=stream-end .*request=req-1", 5, since)
    assert re.search(r'backend=demo .*status=200 bytes=[1-9]\d* events=19 duration_ms=\d+ first_byte_ms=\d+ outcome=done',
                     line), line
    assert r"user \"7\"\\" in line


def test_stop_lets_streams_finish(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 100}})
    pid = daemon.pid("streamer")
    daemon.expect("event=exited role=streamer .*status=0")
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"data:")
        os.kill(pid, signal.SIGTERM)
        daemon.log.wait("handoffd-streamer.*event=stopping", 2)
        assert made.response().text() == "x" + TEXT
    wait_for(lambda: not alive(pid), 3, "end of the streamer")


def test_stop_ends_streams_with_an_error(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 8000}})
    pid = daemon.pid("streamer")
    daemon.expect("event=exited role=streamer .*status=0")
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"data:")
        os.kill(pid, signal.SIGTERM)
        start = time.monotonic()
        response = made.response()
        assert 9 < time.monotonic() - start < 20
        assert response.error()["code"] == "stopped"
    wait_for(lambda: not alive(pid), 4, "end of the streamer")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another uid")
def test_only_the_gate_may_connect(demo):
    path = next((demo.run / "roles").glob("streamer-demo-0*"))
    child = os.fork()
    if child == 0:
        try:
            os.setuid(UID_STREAMER + 50)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(str(path))
                os._exit(3)
        except PermissionError:
            os._exit(4)
        except BaseException:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (3, 4)
    before = demo.counters("streamer").get("handoffd_peer_forbidden_total", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))  # root may open the socket file, and is still not the gate
        sock.settimeout(15)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert demo.counters("streamer")["handoffd_peer_forbidden_total"] > before
    assert exchange_begins(demo)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the gate's uid")
def test_a_gate_that_has_gone_again_is_none(handoffd_factory):
    """Under systemd the gate connects before the streamer listens, sees a socket that is not the streamer's, and leaves."""
    daemon = handoffd_factory(options={"watchdog": "0"})
    path = next((daemon.run / "roles").glob("streamer-demo-0*"))
    pid = daemon.pid("streamer")
    before = daemon.counters("streamer")["handoffd_gate_connections_total"]
    since = daemon.log.position()
    os.kill(pid, signal.SIGSTOP)
    child = os.fork()
    if child == 0:
        try:
            os.setgid(UID_GATE)
            os.setuid(UID_GATE)
            for _ in range(3):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    sock.connect(str(path))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.kill(pid, signal.SIGCONT)
    assert daemon.counters("streamer")["handoffd_gate_connections_total"] == before
    assert not daemon.log.find("event=(gate-connected|gate-disconnected|metrics-not-shared)", since)
