# SPDX-License-Identifier: Apache-2.0
"""What the client gets of an answer: output = content, passthrough or text, and when its head goes out."""
import os
import threading
import time

import pytest

from client import HttpError
from env import Handoffd, wait_for
from streams import CONTENT, DONE, Exchange, FINISH, TEXT, chunk, exchange, prompt_data, sse_script


# ---------------------------------------------------------------- passthrough

@pytest.mark.parametrize("cut", [0, 1, 5])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_passthrough(scripted, end, cut):
    """The upstream's events, byte for byte, in one form: LF, no comments, no unknown fields."""
    lines = [b": comment", b"data: " + chunk("grüß \U0001f600"), b"", b"retry: 3000", b"", b"event: message",
             b"id: 7", b"unknown: x", b"data:{", b'data:  "choices": [', b"data:]}", b"", b"data: " + FINISH, b"",
             b"data: [DONE]", b"", b""]
    upstream, daemon = scripted(sse_script(end.join(lines), cut=cut), output="passthrough")
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200 and response.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert response.body == (b"data: " + chunk("grüß \U0001f600") + b"\n\n" + b"retry: 3000\n\n" +
                             b'event: message\nid: 7\ndata: {\ndata:  "choices": [\ndata: ]}\n\n' +
                             b"data: " + FINISH + b"\n\n" + DONE)


def test_passthrough_of_any_event(scripted):
    """Roles, tool calls, halves of a character, unknown members: what a client can make of them is its own business."""
    events = [b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
              b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}',
              b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', b'{"choices":[{"delta":{"content":"\\ude00"}}]}',
              b'{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}],"new":{"a":[1,2.50]}}', FINISH]
    raw = b"".join(b"data: " + event + b"\n\n" for event in events) + DONE
    upstream, daemon = scripted(sse_script(raw), output="passthrough")
    assert exchange(daemon, prompt_data("x")).body == raw


def test_passthrough_finish_without_done(scripted):
    """The upstream ended its answer in order and said that it is whole, so clients that wait for [DONE] get it."""
    raw = b"data: " + chunk("a") + b"\n\ndata: " + FINISH + b"\n\n"
    upstream, daemon = scripted(sse_script(raw), output="passthrough")
    assert exchange(daemon, prompt_data("x")).body == raw + DONE


@pytest.mark.parametrize("rest", [
    b"", b"data: not JSON\n\n", b'data: {"error":{"message":"secret"}}\n\n' + DONE, b"event: error\ndata: secret\n\n",
    b"data: " + b"x" * 300000, b"id: " + b"x" * 2000 + b"\n"],
    ids=["no-done", "garbage", "error", "error-event", "endless-line", "endless-id"])
def test_passthrough_never_ends_well_after_an_error(scripted, rest):
    first = b"data: " + chunk("a") + b"\n\n"
    upstream, daemon = scripted(sse_script(first + rest), output="passthrough")
    response = exchange(daemon, prompt_data("x"))
    assert response.body.startswith(first) and response.error()["code"] == "upstream-error"
    assert b"[DONE]" not in response.raw and b"secret" not in response.raw


def test_passthrough_cut_by_the_upstream(scripted):
    raw = b"data: " + chunk("a") + b"\n\ndata: " + FINISH + b"\n\n"
    upstream, daemon = scripted(sse_script(raw, finish=False), output="passthrough")
    response = exchange(daemon, prompt_data("x"))
    assert response.error()["code"] == "upstream-error" and b"[DONE]" not in response.raw


def test_passthrough_upstream_status(scripted):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n")
    upstream, daemon = scripted(script, output="passthrough")
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 429 and response.header("Retry-After") == "9"


# ---------------------------------------------------------------- text

def test_text(scripted):
    raw = b"".join(b"data: " + event + b"\n\n" for event in (
        chunk("grüß "), CONTENT % b"\\ud83d", CONTENT % b"\\ude00", chunk("\r\ndata: x\n\n<b>&amp;"), FINISH)) + DONE
    upstream, daemon = scripted(sse_script(raw, cut=3), output="text")
    response = exchange(daemon, prompt_data("x"))
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.body.decode() == "grüß \U0001f600\r\ndata: x\n\n<b>&amp;"


def test_text_of_the_demo(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 1, "output": "text"}})
    for protocol in ("HTTP/1.1", "HTTP/1.0"):
        assert exchange(daemon, prompt_data("hällo"), protocol=protocol).body.decode() == "hällo" + TEXT
    response = exchange(daemon, prompt_data("x"), method="HEAD")
    assert response.header("Content-Type") == "text/plain; charset=utf-8"


def test_text_that_is_not_whole(scripted):
    """Text has no place for an error: the body is cut, so that it does not look whole."""
    upstream, daemon = scripted(sse_script(b"data: " + chunk("part") + b"\n\n"), output="text")
    with Exchange(daemon, prompt_data("x")) as made:
        with pytest.raises(HttpError) as caught:
            made.response()
    assert caught.value.incomplete and made.raw.endswith(b"4\r\npart\r\n")
    daemon.log.wait("event=stream-end .*outcome=upstream-error", 2)


def with_a_pause(connection):
    connection.read_request()
    connection.head()
    connection.event("a")
    time.sleep(1.5)
    connection.event("b")
    connection.done()


def test_text_gets_no_comments(scripted):
    upstream, daemon = scripted(with_a_pause, output="text", keepalive=1)
    assert exchange(daemon, prompt_data("x")).body == b"ab"


def test_passthrough_needs_an_upstream(env, factory):
    daemon = factory(Handoffd, wait=False, backends={"demo": {"type": "demo", "output": "passthrough"}})
    daemon.expect("event=config", "event=fatal")
    wait_for(lambda: not daemon.process.running(), 5, "the end")
    assert "a demo backend has no upstream whose events could be passed on" in daemon.log.path.read_text()


# ---------------------------------------------------------------- head-after, first-token-timeout

def silent(after, go_on):
    """An upstream that is silent until it may go on, then answers this."""
    def script(connection):
        connection.read_request()
        go_on.wait(20)
        connection.send(after)
        connection.wait_gone(5)
    return script


ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: " + CONTENT % b"late" +
          b"\n\n" + DONE)


def test_head_after(scripted):
    go_on = threading.Event()
    upstream, daemon = scripted(silent(ANSWER, go_on), **{"head-after": 1})
    start = time.monotonic()
    with Exchange(daemon, prompt_data("x")) as made:
        head = made.read_until(b"\r\n\r\n")
        assert 0.9 < time.monotonic() - start and head.startswith(b"HTTP/1.1 200 OK\r\n")
        go_on.set()
        assert made.response().text() == "late"


def test_head_after_then_an_error(scripted):
    """The status is out: the upstream's refusal becomes an event."""
    go_on = threading.Event()
    upstream, daemon = scripted(silent(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", go_on), **{"head-after": 1})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"\r\n\r\n")
        go_on.set()
        response = made.response()
    assert response.status == 200 and response.error()["code"] == "upstream-refused"
    assert b"[DONE]" not in response.raw
    line = daemon.log.wait("event=stream-end", 2)[0]
    assert "status=200" in line and "outcome=upstream-refused" in line


def test_head_after_keeps_alive_and_times_out(scripted):
    """Comments flow behind the head; the patience with the upstream is still that for its first byte."""
    go_on = threading.Event()
    upstream, daemon = scripted(silent(b"", go_on),
                                **{"head-after": 1, "keepalive": 1, "first-byte-timeout": 3, "idle-timeout": 1})
    start = time.monotonic()
    response = exchange(daemon, prompt_data("x"))
    go_on.set()
    assert 2.8 < time.monotonic() - start < 10 and response.error()["code"] == "upstream-timeout"
    assert response.body.startswith(b": ping\n\n")


def test_no_head_before_the_status(scripted):
    """Without head-after a slow refusal is a status."""
    go_on = threading.Event()
    upstream, daemon = scripted(silent(b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", go_on))
    threading.Timer(1.6, go_on.set).start()
    assert exchange(daemon, prompt_data("x")).status == 429


def test_first_token_timeout(scripted):
    """An upstream that gives signs of life, and no answer."""
    ended = threading.Event()

    def script(connection):
        connection.read_request()
        connection.head()
        for _ in range(100):
            connection.chunk(b": thinking\n\n")
            time.sleep(0.1)
        ended.set()
    upstream, daemon = scripted(script, **{"first-token-timeout": 1})
    start = time.monotonic()
    response = exchange(daemon, prompt_data("x"))
    assert 0.9 < time.monotonic() - start < 8 and response.error()["code"] == "upstream-timeout"
    assert not ended.is_set()


def test_first_token_in_time(scripted):
    upstream, daemon = scripted(with_a_pause, **{"first-token-timeout": 1})
    assert exchange(daemon, prompt_data("x")).text() == "ab"
