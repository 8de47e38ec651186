# SPDX-License-Identifier: Apache-2.0
"""Handler backends from the gate on: whole answers in each mode, answers that are none, limits, and how runs end."""
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

import handoff1
from client import HttpError
from env import UID_STREAMER, alive, descendants, open_fds, wait_for
from handlers import Handlers, relayed, run
from streams import DONE, Exchange, read_all, refused

LATER = "time.sleep(0.05)\n"


@pytest.fixture(scope="module")
def daemon(env):
    with Handlers(env) as made:
        yield made


@pytest.fixture
def handlers_factory(factory):
    return lambda *arguments, **options: factory(Handlers, *arguments, **options)


def fails(daemon, listener, code, status=502, outcome="handler-failed", log=None, **how):
    """The client gets an error in place of an answer, and the log says why."""
    since = daemon.log.position()
    response = run(daemon, listener, code, **how)
    assert response.status == status and json.loads(response.body)["error"]["code"] == outcome, response
    assert response.header("Content-Type") == "application/json; charset=utf-8"
    daemon.log.wait(f"event=stream-end .*status={status} .*outcome={outcome}", 5, since)
    if log is not None:
        daemon.log.wait(log, 5, since)
    return response


def cut(daemon, listener, code, outcome="handler-failed", log=None, **how):
    """The client gets a body without its end; returns what it got of it."""
    since = daemon.log.position()
    with Exchange(daemon, code.encode(), listener, **how) as made:
        with pytest.raises(HttpError) as caught:
            made.response()
    assert caught.value.incomplete, made.raw
    daemon.log.wait(f"event=stream-end .*outcome={outcome}", 5, since)
    if log is not None:
        daemon.log.wait(log, 5, since)
    return made.raw.partition(b"\r\n\r\n")[2]


# ---------------------------------------------------------------- http

def test_http_until_the_end(daemon):
    """A head as it was but for the connection's own; the body in the daemon's chunks."""
    response = run(daemon, "http", 'head(b"Content-Type: text/x", b"X-A: b", b"Connection: keep-alive", b"Date: never",'
                                   'b"Keep-Alive: 5", status=b"203 Mine")\nout(b"first ")\n' + LATER + 'out(b"second\\n")')
    assert response.status == 203 and response.body == b"first second\n"
    names = [name for name, _ in response.headers]
    assert names == ["Date", "Content-Type", "X-A", "Transfer-Encoding", "Connection"]
    assert response.header("Content-Type") == "text/x" and response.header("Connection") == "close"
    assert response.header("Date").endswith("GMT")
    assert re.search("status=0 limit=none", daemon.exited(response))
    daemon.log.wait(f"event=stream-end id={response.id} .*status=203 .*outcome=done", 5)


def test_http_1_0_client(daemon):
    response = run(daemon, "http", 'head()\nout(b"x" * 1000)', protocol="HTTP/1.0")
    assert response.body == b"x" * 1000 and response.header("Transfer-Encoding") is None


def test_http_content_length(daemon):
    response = run(daemon, "http", 'head(b"Content-Length: 10")\nout(b"01234")\n' + LATER + 'out(b"56789")')
    assert response.header("Content-Length") == "10" and response.body == b"0123456789"
    assert response.header("Transfer-Encoding") is None


def test_http_chunks(daemon):
    """Those of the program are undone, the daemon's are made."""
    response = run(daemon, "http", r'''head(b"Transfer-Encoding: chunked")
out(b"5;ext=1\r\nhel")
''' + LATER + r'''out(b"lo\r\n6\r\n world\r\n0\r\nX-Trailer: y\r\n\r\n")''')
    assert response.body == b"hello world" and b"ext" not in response.raw and b"Trailer" not in response.raw


@pytest.mark.parametrize("first", [r'b"Content-Length: 4")' + r'; out(b"body"', r'b"Transfer-Encoding: chunked"); out(b"4\r\nbody\r\n0\r\n\r\n"',
                                   r'b"Content-Length: 0", status=b"200 body"'])
def test_a_second_response_is_cut(daemon, first):
    before = daemon.counters("streamer", "http").get("handoffd_handler_excess_bytes_total", 0)
    second = b"HTTP/1.1 200 OK\r\nSet-Cookie: evil=1\r\nContent-Length: 4\r\n\r\nevil"
    for pause in ("", LATER):
        response = run(daemon, "http", f"head({first})\n{pause}out({second!r})")
        assert response.body in (b"body", b"") and b"evil" not in response.raw
        line = daemon.exited(response)
        assert "status=0 " in line and f"excess={len(second)}" in line, line
    assert daemon.counters("streamer", "http")["handoffd_handler_excess_bytes_total"] == before + 2 * len(second)


def test_a_second_response_of_an_endless_body_is_body(daemon):
    response = run(daemon, "http", r'head(b"Content-Type: a/b"); out(b"body"); out(b"\r\n\r\n5\r\n")')
    assert response.body == b"body\r\n\r\n5\r\n"


@pytest.mark.parametrize("output, wrong", [
    (b"hello\n\n", "does not begin with a status line"),
    (b"HTTP/2 200 OK\r\n\r\n", "does not begin with a status line"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "not one from 200 to 599"),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "not one from 200 to 599"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "occurs twice"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", "exclude each other"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx", "something else than chunked"),
    (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "continued on the next line"),
    (b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n", "control bytes"),
    (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "control bytes"),
    (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "name of a header"),
    (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "longer than 64 KiB"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n", "more than 256 fields"),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n", "head has no end"),
    (b"", "there was no output"),
])
def test_http_heads_that_are_none(daemon, output, wrong):
    response = fails(daemon, "http", f"out({output[:100]!r} + {output[100:]!r})" if len(output) < 60000 else
                     'out(b"HTTP/1.1 200 OK\\r\\nX: " + b"y" * 70000 + b"\\r\\n\\r\\n")',
                     log=f'event=handler-output .*error="[^"]*{wrong}')
    assert b"Set-Cookie" not in response.raw and b"Upgrade" not in response.raw


def test_http_bad_chunks(daemon):
    body = cut(daemon, "http", r'head(b"Transfer-Encoding: chunked"); out(b"4\r\ngood\r\nzz\r\nbad\r\n0\r\n\r\n")',
               log="event=handler-output .*chunks of the body are broken")
    assert body == b"4\r\ngood\r\n"


@pytest.mark.parametrize("head", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_http_short_bodies(daemon, head):
    cut(daemon, "http", f'head(b"{head}"); out(b"5\\r\\nabc")', log="event=handler-output .*shorter than its head says")


def test_http_without_a_body(daemon):
    for status, code in ((204, b"204 None"), (304, b"304 Same")):
        response = run(daemon, "http", f'head(b"ETag: \\"x\\"", status={code!r}); out(b"body")')
        assert response.status == status and response.raw.endswith(b"\r\n\r\n")
        assert response.header("ETag") == '"x"' and response.header("Transfer-Encoding") is None
        assert "excess=4" in daemon.exited(response)


def test_http_what_describes_the_body(daemon):
    response = run(daemon, "http", 'head(b"Content-Encoding: gzip", b"Content-Range: bytes 0-1/2", b"ETag: x",'
                                   'status=b"206 Part"); out(b"\\x1f\\x8b\\0\\xff")')
    assert response.header("Content-Encoding") == "gzip" and response.header("ETag") == "x"
    assert response.status == 206 and response.body == b"\x1f\x8b\0\xff"


def test_http_lines_that_end_in_lf(daemon):
    response = run(daemon, "http", r'out(b"HTTP/1.0 404 No\nContent-Type: text/plain\n\nnot here\n")')
    assert response.status == 404 and response.body == b"not here\n"


def test_binary_output(daemon):
    everything = bytes(range(256)) * 3000
    response = run(daemon, "http", 'head(b"Content-Type: a/b"); out(bytes(range(256)) * 3000)')
    assert response.body == everything
    response = run(daemon, "cgi", r'out(b"Content-Type: a/b\n\n" + bytes(range(256)) * 3000)')
    assert response.body == everything


def test_head(daemon):
    response = run(daemon, "http", 'head(b"Content-Length: 5", b"X-A: " + os.environ["HANDOFF_METHOD"].encode())\n'
                                   'out(b"body!")', method="HEAD")
    assert response.header("Content-Length") == "5" and response.header("X-A") == "HEAD"
    assert "status=0 limit=none" in daemon.exited(response)
    response = run(daemon, "cgi", r'out(b"Content-Type: a/b\nX-A: b\n\nbody" + b"x" * 100000)', method="HEAD")
    assert response.header("X-A") == "b"
    assert "status=0 limit=none" in daemon.exited(response)


def test_head_of_ours_needs_no_program(daemon):
    def asked():
        return [daemon.counters("streamer", name).get("daemon_backend_requests_total", 0) for name in ("text", "sse")]
    before = asked()
    assert run(daemon, "text", "1/0", method="HEAD").header("Content-Type") == "text/plain; charset=utf-8"
    assert run(daemon, "sse", "1/0", method="HEAD").header("Content-Type") == "text/event-stream; charset=utf-8"
    assert asked() == before


# ---------------------------------------------------------------- how it ends

def test_exit_status_before_the_head(daemon):
    fails(daemon, "http", 'out(b"HTTP/1.1 200 OK\\r\\n"); sys.exit(3)', log="event=handler-exited .*status=3")
    fails(daemon, "cgi", "sys.exit(3)", log="event=handler-exited .*status=3")
    fails(daemon, "text", "sys.exit(3)", log="event=handler-exited .*status=3")
    fails(daemon, "sse", "sys.exit(3)", log="event=handler-exited .*status=3")


def test_exit_status_after_the_head(daemon):
    assert cut(daemon, "http", 'head(); out(b"part"); sys.exit(3)') == b"4\r\npart\r\n"
    assert cut(daemon, "cgi", r'out(b"Content-Type: a/b\n\npart"); sys.exit(3)') == b"4\r\npart\r\n"
    assert cut(daemon, "text", 'out(b"part"); sys.exit(3)') == b"4\r\npart\r\n"
    response = run(daemon, "sse", 'out(b"part"); sys.exit(3)')
    assert response.error()["code"] == "handler-failed" and b"[DONE]" not in response.raw
    assert response.body.startswith(b'data: {"content":"part"}\n\n')


def test_exit_status_behind_a_whole_body(daemon):
    """With a length of its own the body is whole, whatever comes of the program."""
    response = run(daemon, "http", 'head(b"Content-Length: 4"); out(b"body"); sys.exit(3)')
    assert response.body == b"body" and "status=3" in daemon.exited(response)


def test_a_signal(daemon):
    fails(daemon, "http", "os.kill(os.getpid(), signal.SIGKILL)", log="event=handler-exited .*signal=9 limit=none")


def test_output_that_is_closed_early(daemon):
    """The end of the output is not the end of the program, whose status is waited for."""
    start = time.monotonic()
    response = run(daemon, "text", 'out(b"all"); os.close(1); time.sleep(0.5)')
    assert response.body == b"all" and time.monotonic() - start > 0.4
    cut(daemon, "text", 'out(b"all"); os.close(1); time.sleep(0.2); sys.exit(1)')


def test_a_program_that_stays_after_its_answer(daemon):
    """The client has its answer; the program is let end by itself."""
    start = time.monotonic()
    response = run(daemon, "http", 'head(b"Content-Length: 4"); out(b"body"); time.sleep(2); err(b"late\\n")')
    assert response.body == b"body" and time.monotonic() - start < 1.9
    assert "status=0 limit=none" in daemon.exited(response)
    assert daemon.log.find(f"event=handler-stderr id={response.id} .*line=late")


# ---------------------------------------------------------------- cgi, text, sse

def test_cgi(daemon):
    response = run(daemon, "cgi", r'out(b"Status: 404 Not here\r\nContent-Type: text/x\r\nX-A: b\r\n\r\nbody")')
    assert (response.status, response.body, response.header("X-A")) == (404, b"body", "b")
    assert response.header("Content-Type") == "text/x" and response.header("Status") is None
    response = run(daemon, "cgi", r'out(b"Location: /elsewhere\n\n")')
    assert (response.status, response.header("Location"), response.body) == (302, "/elsewhere", b"")
    response = run(daemon, "cgi", r'out(b"Content-Type: text/x\nContent-Length: 4\n\nbody and more")')
    assert response.body == b"body"


@pytest.mark.parametrize("output", [b"body without a head", b"\n\nbody", b"Status: 200\n\nbody", b"HTTP/1.1 200 OK\nContent-Type: a/b\n\n",
                                    b"Content-Type: a/b\nTransfer-Encoding: chunked\n\n0\r\n\r\n"])
def test_cgi_heads_that_are_none(daemon, output):
    fails(daemon, "cgi", f"out({output!r})")


def test_text(daemon):
    response = run(daemon, "text", r'out("grüß \U0001f600\r\n<b>".encode())')
    assert response.body.decode() == "grüß \U0001f600\r\n<b>"
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert "status=0" in daemon.exited(response)


def test_text_cut_between_two_reads(daemon):
    text = "ü\U0001f600日本" * 3
    code = f"for byte in {text.encode()!r}:\n    out(bytes([byte])); time.sleep(0.002)"
    assert run(daemon, "text", code).body.decode() == text
    assert run(daemon, "sse", code).text() == text


def test_text_that_is_not_utf_8(daemon):
    assert run(daemon, "text", r'out(b"a\xff\xc3(z\xf0\x9f")').body.decode() == "a\ufffd\ufffd(z\ufffd"
    assert run(daemon, "sse", r'out(b"a\xff\xc3(z\xf0\x9f")').text() == "a\ufffd\ufffd(z\ufffd"


def test_empty_output(daemon):
    response = run(daemon, "text", "pass")
    assert response.status == 200 and response.body == b""
    response = run(daemon, "sse", "pass")
    assert response.status == 200 and response.body == DONE


def test_sse(daemon):
    response = run(daemon, "sse", r'out(b"say \"hi\" \\ \r\n\r\ndata: x\n\nevent: y\n")' + "\n" + LATER + 'out(b"end")')
    assert response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.body.endswith(b'data: {"content":"end"}\n\n' + DONE)
    assert response.text() == 'say "hi" \\ \r\n\r\ndata: x\n\nevent: y\nend'


def test_very_long_lines(daemon):
    assert run(daemon, "text", 'out(b"x" * 3000000)').body == b"x" * 3000000
    assert run(daemon, "sse", 'out(b"x" * 300000)').text() == "x" * 300000


# ---------------------------------------------------------------- what the program is told

def test_facts(daemon):
    code = 'out("\\0".join(f"{n}={v}" for n, v in sorted(os.environ.items()) if n != "HANDOFF_DATA").encode())'
    response = run(daemon, "text", code, target="/a?b=c d", server_name="www.example.org", subject="user-42", request_id="r1",
                   status=201, client_address="192.0.2.7")
    facts = dict(item.split("=", 1) for item in response.body.decode().split("\0"))
    number = facts.pop("HANDOFF_ID")
    assert number.isdecimal()
    assert {name: value for name, value in facts.items() if name.startswith("HANDOFF_")} == {
        "HANDOFF_METHOD": "GET", "HANDOFF_TARGET": "/a?b=c d", "HANDOFF_PROTOCOL": "HTTP/1.1", "HANDOFF_CLIENT": "192.0.2.7",
        "HANDOFF_SERVER_NAME": "www.example.org", "HANDOFF_REQUEST_ID": "r1", "HANDOFF_SUBJECT": "user-42",
        "HANDOFF_LISTENER": daemon.path("text"), "HANDOFF_STATUS": "201", "HANDOFF_DATA_FD": "3"}
    assert {"PATH", "LC_CTYPE"} >= {name for name in facts if not name.startswith("HANDOFF_")} and facts["PATH"] == "/usr/bin:/bin"


def test_facts_with_control_bytes_are_left_out(daemon):
    response = run(daemon, "text", 'out(repr((os.environ.get("HANDOFF_TARGET"), os.environ["HANDOFF_METHOD"])).encode())',
                   target="/a\n\x1b[2J")
    assert response.body == b"(None, 'GET')"


def test_data(daemon):
    """It is the program's to understand: inline and in a memfd, any bytes."""
    prefix = b'def data():\n    file.seek(0); return file.read()\nimport hashlib\nout(hashlib.sha256(data()).hexdigest().encode())\n#'
    for data in (prefix, prefix + bytes(range(1, 10)) * 1000, prefix + b"x" * 65000, prefix + b"x" * 3000000):
        assert run(daemon, "text", data).body.decode() == hashlib.sha256(data).hexdigest()
    code = 'out(str(len(os.environ.get("HANDOFF_DATA", ""))).encode())#'
    assert run(daemon, "text", code).body.decode() == str(len(code))
    assert run(daemon, "text", code + "x" * 200000).body == b"0"


def test_data_that_was_not_signed(daemon):
    with Exchange(daemon, b"pass", "http", data_digest=bytes(64)) as made:
        assert made.reply.reason in ("token-mac", "data-digest") and made.client.recv(1) == b""


def test_headers_of_the_application(daemon):
    """They travel, but for those that the program sets itself; cookies of both."""
    headers = [("Set-Cookie", "a=b"), ("X-App", "1"), ("Cache-Control", "private"), ("Content-Type", "text/html")]
    response = run(daemon, "http", 'head(b"Set-Cookie: c=d", b"cache-control: no-store", b"X-Own: 2")', headers=headers)
    assert response.all("Set-Cookie") == ["a=b", "c=d"] and response.header("Cache-Control") == "no-store"
    assert response.header("X-App") == "1" and response.header("X-Own") == "2" and response.header("Content-Type") is None
    response = run(daemon, "text", 'out(b"x")', headers=headers)
    assert response.header("Set-Cookie") == "a=b" and response.header("Cache-Control") == "private"
    assert response.header("Content-Type") == "text/plain; charset=utf-8"


def test_headers_that_are_too_many_together(daemon):
    fails(daemon, "http", 'head(*[b"X: " + b"y" * 1000] * 40)', headers=[(f"X-{n}", "z" * 1000) for n in range(30)],
          log="event=handler-output .*too long together")


# ---------------------------------------------------------------- relayed clients

@pytest.fixture(scope="module")
def relaying(env):
    with Handlers(env, {"http": {"mode": "http", "listen": {"relay": True}}, "sse": {"mode": "sse", "listen": {"relay": True}}}) as made:
        yield made


def test_relayed(relaying):
    status, lines, body, whole = relayed(relaying, "http", r'''head(b"Content-Type: a/b", b"Content-Length: 4", b"Connection: x",
    b"Content-Encoding: gzip", b"ETag: e", status=b"404 No"); out(b"body")''')
    assert (status, body, whole) == (404, b"body", True)
    assert lines == ["Content-Type: a/b", "Content-Encoding: gzip", "ETag: e"]
    status, lines, body, whole = relayed(relaying, "sse", 'out(b"x")')
    assert (status, body, whole) == (200, b'data: {"content":"x"}\n\n' + DONE, True)


def test_relayed_and_cut(relaying):
    assert relayed(relaying, "http", 'head(b"Content-Length: 10"); out(b"body")')[2:] == (b"body", False)
    assert relayed(relaying, "http", 'head(); out(b"body"); sys.exit(1)')[2:] == (b"body", False)
    status, lines, body, whole = relayed(relaying, "http", "sys.exit(1)")
    assert status == 502 and whole and b"handler-failed" in body


def test_relayed_head(relaying):
    assert relayed(relaying, "http", 'head(b"X-A: b"); out(b"body")', "HEAD") == (200, ["X-A: b"], b"", True)


# ---------------------------------------------------------------- limits

def test_output_bytes(handlers_factory):
    daemon = handlers_factory({mode: {"mode": mode, "output-bytes": 100000} for mode in ("http", "text", "sse")})
    limit = "event=handler-exited .*limit=output"
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert run(daemon, "http", f'head(); out(b"x" * {100000 - len(head)})').body == b"x" * (100000 - len(head))
    assert run(daemon, "text", 'out(b"x" * 100000)').body == b"x" * 100000
    body = cut(daemon, "text", 'out(b"x" * 100001); time.sleep(60)', "handler-limit", limit)
    assert body.count(b"x") == 100000
    cut(daemon, "http", 'head()\nwhile True: out(b"x" * 10000)', "handler-limit", limit)
    response = run(daemon, "sse", 'while True: out(b"x" * 10000)')
    assert response.error()["code"] == "handler-limit" and response.body.count(b"x") == 100000
    # Behind a whole answer it holds too.
    response = run(daemon, "http", 'head(b"Content-Length: 1")\nwhile True: out(b"x" * 10000)')
    assert response.body == b"x" and "limit=output" in daemon.exited(response)


def test_wall_time(handlers_factory):
    daemon = handlers_factory({mode: {"mode": mode, "wall-time": 1, "kill-grace": 1} for mode in ("http", "text")})
    start = time.monotonic()
    fails(daemon, "http", "time.sleep(60)", 504, "handler-limit", "event=handler-exited .*limit=wall-time")
    cut(daemon, "text", 'out(b"part"); time.sleep(60)', "handler-limit", "event=handler-exited .*limit=wall-time")
    assert 1.9 < time.monotonic() - start < 6


def test_a_slow_client_pauses_the_program(daemon):
    """What is not read stays with the program; then all of it comes."""
    before = daemon.counters("streamer", "http").get("handoffd_pauses_total", 0)
    with Exchange(daemon, b'head(b"Content-Type: a/b")\nfor n in range(200): out(b"%05d" % n * 10000); err(b"%d\\n" % n)\n',
                  "http") as made:
        wait_for(lambda: daemon.counters("streamer", "http").get("handoffd_pauses_total", 0) > before, 10, "the pause")
        time.sleep(0.3)
        lines = len(daemon.log.find(r"event=handler-stderr .*line=\d+"))
        time.sleep(0.3)
        assert len(daemon.log.find(r"event=handler-stderr .*line=\d+")) == lines, "the program went on"
        body = made.response().body
    assert body == b"".join(b"%05d" % n * 10000 for n in range(200))


@pytest.mark.parametrize("code", ["time.sleep(60)", 'head(b"X: y"); out(b"first"); time.sleep(60)',
                                  'head()\nwhile True: out(b"x" * 1000)',
                                  "signal.signal(signal.SIGTERM, signal.SIG_IGN); err(b'deaf\\n')\nwhile True: time.sleep(60)"],
                         ids=["silent", "begun", "busy", "deaf"])
def test_a_client_that_hangs_up_ends_the_program(daemon, code):
    with Exchange(daemon, code.encode(), "http") as made:
        assert made.reply.accepted
        time.sleep(0.2)
        left = time.monotonic()
    # One that writes may end by that alone: nobody reads.
    assert re.search("limit=stopped|status=1 limit=none" if "while True: out" in code else "limit=stopped", daemon.exited(made))
    assert time.monotonic() - left < 4
    daemon.log.wait(f"event=stream-end id={made.id} .*outcome=client-gone", 5)


def test_stderr(daemon):
    response = run(daemon, "text", r'err(b"one\n\x1b[2Jtwo \"quoted\" \xff\r\n" + b"x" * 3000 + b"\nlast"); out(b"y")')
    assert response.body == b"y"
    daemon.exited(response)
    lines = daemon.log.find(f"event=handler-stderr id={response.id} ")
    assert len(lines) == 4 and "handler=text line=one cut=no" in lines[0]
    assert r'line="\x1b[2Jtwo \"quoted\" \xff" cut=no' in lines[1]
    assert f"line={'x' * 1024} cut=yes" in lines[2] and "line=last" in lines[3]


def test_stderr_flood(daemon):
    """Some lines a second and how many there were more; the answer comes, others are served."""
    code = 'err(b"a line of the flood\\n" * 20000); out(b"y")'
    with Exchange(daemon, code.encode(), "text") as made:
        assert run(daemon, "text", 'out(b"z")').body == b"z"
        assert made.response().body == b"y"
    daemon.exited(made)
    lines = daemon.log.find(f"event=handler-stderr id={made.id} .*flood")
    dropped = sum(int(number) for line in daemon.log.find(f"event=handler-stderr-dropped id={made.id} ")
                  for number in re.findall(r"lines=(\d+)", line))
    assert 50 <= len(lines) <= 300 and len(lines) + dropped == 20000
    assert daemon.counters("streamer", "text")["handoffd_handler_lines_dropped_total"] >= dropped


# ---------------------------------------------------------------- places

NARROW = {"http": {"mode": "http", "concurrency": 1, "queue": 1, "queue-time": 5000}}
WAIT = b'head(b"Content-Length: 1")\nout(b"x"); time.sleep(float(os.environ["HANDOFF_TARGET"][1:] or 0))'


def send(daemon, code=WAIT, **how):
    """(reply socket, the browser's end) of a handoff that may wait."""
    pair = handoff1.tcp_pair()
    with handoff1.Sender(daemon.path()) as sender:
        reply = sender.handoff(pair.server, code, key=daemon.keys.key, **how)
    pair.server.close()
    return reply, pair.client


def waiting(daemon, n=1):
    wait_for(lambda: daemon.counters("streamer").get("handoffd_waiting_handoffs", 0) == n, 5, f"{n} that wait")


def test_queue(handlers_factory):
    """One runs, one waits and is accepted in its turn, the next is refused."""
    daemon = handlers_factory(NARROW)
    with Exchange(daemon, WAIT, target="/1.5") as first:
        assert first.reply.accepted
        reply, client = send(daemon)
        waiting(daemon)
        third = refused(daemon, WAIT)
        assert (third.status, third.reason, third.retry_after) == (503, "handler-busy", 1)
        assert reply.receive().accepted
        assert read_all(client).endswith(b"\r\n\r\nx")
        assert first.response().body == b"x"
    waiting(daemon, 0)
    reply.close()


def test_queue_time(handlers_factory):
    daemon = handlers_factory({"http": {**NARROW["http"], "queue-time": 600}})
    with Exchange(daemon, WAIT, target="/5"):
        start = time.monotonic()
        reply = refused(daemon, WAIT)
        assert (reply.status, reply.reason, reply.retry_after) == (503, "handler-busy", 1)
        assert 0.5 < time.monotonic() - start < 2
    waiting(daemon, 0)


def test_a_client_that_leaves_while_it_waits(handlers_factory):
    """Its place in the queue is free at once, and no program starts for it."""
    daemon = handlers_factory(NARROW)
    with Exchange(daemon, WAIT, target="/1.5"):
        reply, client = send(daemon, b'err(b"started\\n")')
        waiting(daemon)
        client.close()
        assert reply.receive().reason == "client-gone"
        waiting(daemon, 0)
        second, client = send(daemon)
        assert second.receive().accepted and read_all(client)
    daemon.log.wait("event=handler-exited", 10, count=2)
    assert not daemon.log.find("line=started")


def test_apache_that_waits_no_more(handlers_factory):
    """The client is Apache's again: nothing was written to it, and no program starts for it."""
    daemon = handlers_factory(NARROW)
    with Exchange(daemon, WAIT, target="/1.5") as made:
        reply, client = send(daemon, b'err(b"started\\n")')
        waiting(daemon)
        assert reply.withdraw() is None
        waiting(daemon, 0)
        assert client.recv(1) == b""
    daemon.log.wait("event=accept-too-late", 5)
    daemon.exited(made)
    time.sleep(0.3)
    assert not daemon.log.find("line=started")


def test_what_a_waiting_client_sends_is_left_alone(handlers_factory):
    """Bytes of a waiting client stay in its socket, and keep nobody busy."""
    daemon = handlers_factory(NARROW)
    pid = daemon.pid("streamer")
    with Exchange(daemon, WAIT, target="/1.5"), handoff1.tcp_pair() as pair, handoff1.Sender(daemon.path()) as sender:
        pair.client.sendall(b"more")
        reply = sender.handoff(pair.server, WAIT, key=daemon.keys.key)
        waiting(daemon)
        with open(f"/proc/{pid}/stat") as file:
            before = sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
        time.sleep(0.2)
        with open(f"/proc/{pid}/stat") as file:
            assert sum(map(int, file.read().rpartition(")")[2].split()[11:13])) - before <= 5
        assert pair.server.recv(10, socket.MSG_PEEK) == b"more"
        assert reply.receive().accepted


def test_many_at_once(handlers_factory, in_threads):
    """Twenty clients, four places: all are answered, four at a time at most."""
    daemon = handlers_factory({"http": {"mode": "http", "concurrency": 4, "queue": 64, "queue-time": 10000}})
    results = in_threads([lambda n=n: run(daemon, "http", f'head(); out(b"{n}"); time.sleep(0.05)').body for n in range(20)])
    assert results == [b"%d" % n for n in range(20)]
    waiting(daemon, 0)


# ---------------------------------------------------------------- without the launcher

def test_the_launcher_ends_while_programs_run(handlers_factory):
    daemon = handlers_factory({mode: {"mode": mode} for mode in ("http", "sse")})
    daemon.expect("event=crashed role=launcher")
    since = daemon.log.position()
    with Exchange(daemon, b"time.sleep(60)", "http") as silent, \
            Exchange(daemon, b'head(); out(b"part"); time.sleep(60)', "http") as begun, \
            Exchange(daemon, b'out(b"part"); time.sleep(60)', "sse") as events:
        begun.read_until(b"part")
        events.read_until(b"part")
        time.sleep(0.2)
        programs = [pid for launcher in daemon.roles()["launcher"] for pid in descendants(launcher)]
        assert len(programs) >= 3
        daemon.kill("launcher", "http")
        daemon.kill("launcher", "sse")
        response = silent.response()
        assert response.status == 503 and response.header("Retry-After") == "1"
        assert json.loads(response.body)["error"]["code"] == "handler-unavailable"
        with pytest.raises(HttpError) as caught:
            begun.response()
        assert caught.value.incomplete
        response = events.response()
        assert response.error()["code"] == "handler-unavailable" and b"[DONE]" not in response.raw
    wait_for(lambda: not any(alive(pid) for pid in programs), 5, "the end of the programs")
    daemon.log.wait("event=launcher-introduced", 10, since, 2)
    assert run(daemon, "http", 'head(); out(b"again")').body == b"again"
    assert run(daemon, "sse", 'out(b"again")').text() == "again"


def test_no_launcher(handlers_factory):
    """A handoff waits for it as for a place, and is refused then."""
    daemon = handlers_factory({"http": {"mode": "http", "queue-time": 300}})
    daemon.expect("event=hung", "event=crashed", "event=exited", "event=not-reached")
    assert run(daemon, "http", "head()").status == 200
    launcher = daemon.pid("launcher")
    os.kill(launcher, signal.SIGSTOP)
    try:
        reply = refused(daemon, WAIT)
        assert (reply.status, reply.reason, reply.retry_after) == (503, "handler-busy", 1)
    finally:
        os.kill(launcher, signal.SIGCONT)
    assert run(daemon, "http", "head()").status == 200


def test_stop(handlers_factory):
    """SIGTERM: programs have the streams' time, then they end with them; nothing is left."""
    daemon = handlers_factory({"http": {"mode": "http", "backend": {"stop-grace": 1}}})
    with Exchange(daemon, b'head(b"Content-Length: 4"); out(b"bo"); time.sleep(0.5); out(b"dy")') as short, \
            Exchange(daemon, b'head(); out(b"part"); time.sleep(60)') as long:
        short.read_until(b"bo")
        long.read_until(b"part")
        below = descendants(daemon.process.pid)
        ended = threading.Thread(target=daemon.stop)
        ended.start()
        assert short.response().body == b"body"
        with pytest.raises(HttpError):
            long.response()
        ended.join(15)
    assert not [pid for pid in below if alive(pid)]
    assert daemon.log.find("event=stream-end .*outcome=stopped")


def test_nothing_is_left(daemon):
    """Descriptors, streams and waiting handoffs are back to what they were."""
    pid = daemon.pid("streamer", "http")
    run(daemon, "http", "head()")
    wait_for(lambda: daemon.counters("streamer", "http")["daemon_active_streams"] == 0, 5)
    time.sleep(0.2)
    before = sorted(open_fds(pid).values())
    for code in ("head()", "sys.exit(1)", 'head(b"Content-Length: 1"); out(b"xy")', 'out(b"nonsense\\n\\n")') * 5:
        run(daemon, "http", code)
    for _ in range(5):
        with Exchange(daemon, b"time.sleep(60)", "http") as made:
            assert made.reply.accepted
        daemon.exited(made)
    wait_for(lambda: len(open_fds(pid)) == len(before), 5, "descriptors as before")


# ---------------------------------------------------------------- the account

def test_access_log(env, handlers_factory):
    folder = env.folder("access", 0o755, UID_STREAMER)
    daemon = handlers_factory({"http": {"mode": "http"}}, options={"access-log": folder / "log", "access-log-format": "json"})
    run(daemon, "http", 'head(b"Content-Length: 4", status=b"404 No"); out(b"body")', target="/x")
    run(daemon, "http", "sys.exit(1)")
    wait_for(lambda: (folder / "log").read_text().count("\n") == 2, 5)
    first, second = map(json.loads, (folder / "log").read_text().splitlines())
    assert (first["status"], first["outcome"], first["target"], first["usage"]) == (404, "done", "/x", "absent")
    assert (second["status"], second["outcome"]) == (502, "handler-failed")
    assert daemon.counters("streamer")["daemon_backend_errors_total"] == 1


def test_max_data(handlers_factory):
    daemon = handlers_factory({"http": {"mode": "http", "backend": {"max-data": 100}}})
    assert run(daemon, "http", b"head()".ljust(100)).status == 200
    reply = refused(daemon, b"head()".ljust(101))
    assert (reply.status, reply.reason) == (413, "data-too-large")
