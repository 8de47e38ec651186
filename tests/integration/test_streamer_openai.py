# SPDX-License-Identifier: Apache-2.0
"""The streamer with the openai backend: a real OpenAI-compatible service for what works, a scripted one for what fails."""
import json
import re
import threading
import time

import pytest

from client import HttpError
from env import Authority, Handoffd, MockLLM, TlsFront, wait_for
from streams import CONTENT, Exchange, KEY, PROMPTS, credential, exchange, openai, prompt_data, refused, sse_script


@pytest.fixture(scope="module")
def llm(env, mock_llm):
    with openai(env, mock_llm.url) as daemon:
        yield daemon


@pytest.mark.parametrize("prompt", PROMPTS, ids=["quotes", "line-ends", "unicode", "sse", "long"])
def test_echo(env, prompt):
    """mock-llm builds its answer from the request it got, so the text went both ways."""
    with MockLLM(env, streaming={"chunkSize": 50, "chunkIntervalMs": 0}) as mock, openai(env, mock.url) as daemon:
        response = exchange(daemon, prompt_data(prompt))
        assert response.status == 200
        assert response.text() == prompt


def test_messages_and_connection_reuse(llm):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "last one"}]
    for _ in range(5):
        assert exchange(llm, json.dumps({"messages": messages}).encode()).text() == "last one"
    counters = llm.counters("streamer")
    assert counters["handoffd_upstream_requests_total"] >= 5
    assert counters["handoffd_dials_total"] < counters["handoffd_upstream_requests_total"], "no connection was used twice"


def test_many_at_once(llm, in_threads):
    texts = in_threads([lambda n=n: exchange(llm, prompt_data(f"number {n}")).text() for n in range(50)])
    assert texts == [f"number {n}" for n in range(50)]


def test_head_does_not_ask(llm):
    before = llm.counters("streamer").get("handoffd_upstream_requests_total", 0)
    assert exchange(llm, prompt_data("x"), method="HEAD").status == 200
    assert llm.counters("streamer").get("handoffd_upstream_requests_total", 0) == before


def test_prompt_is_needed(llm):
    assert refused(llm, b"{}").reason == "request-invalid"


def test_real_error(env):
    wrong_key = {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}}
    rules = [("contains(body.messages[-1].content, 'error-401')", 401, wrong_key)]
    with MockLLM(env, rules) as mock, openai(env, mock.url) as daemon:
        # Asked to stream, mock-llm answers 200 and tells of the error in the stream.
        response = exchange(daemon, prompt_data("error-401"))
        assert response.status == 200 and response.error()["code"] == "upstream-error"
        assert b"API key" not in response.raw and b"[DONE]" not in response.raw
        assert exchange(daemon, prompt_data("fine")).text() == "fine"


def test_tls(env, mock_llm, openai_factory):
    authority = Authority(env)
    with TlsFront(mock_llm.port, authority.context("DNS:localhost")) as front:
        daemon = openai_factory(f"https://localhost:{front.port}/v1", upstream={"ca-file": authority.ca_file})
        for number in range(3):
            assert exchange(daemon, prompt_data(f"over TLS {number}")).text() == f"over TLS {number}"


@pytest.mark.parametrize("names, same_authority", [(("DNS:other.example",), True), (("DNS:localhost",), False)])
def test_tls_verification(env, mock_llm, openai_factory, names, same_authority):
    authority = Authority(env)
    trusted = authority if same_authority else Authority(env, "another")
    with TlsFront(mock_llm.port, authority.context(*names)) as front:
        daemon = openai_factory(f"https://localhost:{front.port}/v1", upstream={"ca-file": trusted.ca_file})
        response = exchange(daemon, prompt_data("secret"))
        assert response.status == 502 and response.error()["code"] == "upstream-error"
        daemon.log.wait("event=upstream-failed", 2)


# ---------------------------------------------------------------- scripted


only_http1 = pytest.mark.parametrize("scripted", ["http1"], indirect=True)


def test_request(scripted):
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("ok")
        connection.done()
    upstream, daemon = scripted(script)
    data = {"prompt": 'a "b" \n ü', "system": "be brief", "max_tokens": 7, "temperature": 0.7, "url": "http://evil/"}
    assert exchange(daemon, json.dumps(data).encode()).text() == "ok"
    connection, = upstream.connections
    head, _, body = connection.request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines[1:])}
    assert headers[b"authorization"] == b"Bearer " + KEY.encode()
    assert headers[b"content-type"] == b"application/json" and headers[b"accept"] == b"text/event-stream"
    assert headers[b"host"] == upstream.host.encode()
    assert b"accept-encoding" not in headers and b"expect" not in headers
    assert json.loads(body) == {
        "model": "test-model", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 7, "temperature": 0.7,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": 'a "b" \n ü'}]}
    assert b"0.7," in body or b"0.7}" in body
    assert KEY not in daemon.log.path.read_text()


def test_long_request(scripted):
    """More than a socket takes at once: the body is not copied for that, and must stay."""
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event(connection.json["messages"][0]["content"][-10:])
        connection.done()
    upstream, daemon = scripted(script)
    prompt = "x" * (4 << 20) + "0123456789"
    assert exchange(daemon, prompt_data(prompt)).text() == "0123456789"


@pytest.mark.parametrize("answer, status, code, retry_after", [
    ("401 Unauthorized", 502, "upstream-refused", None),
    ("403 Forbidden", 502, "upstream-refused", None),
    ("400 Bad Request", 400, "upstream-refused", None),
    ("402 Payment Required", 502, "upstream-refused", None),
    ("404 Not Found", 502, "upstream-refused", None),
    ("407 Proxy Authentication Required", 502, "upstream-refused", None),
    ("408 Request Timeout", 504, "upstream-timeout", None),
    ("413 Content Too Large", 413, "upstream-refused", None),
    ("422 Unprocessable Content", 400, "upstream-refused", None),
    ("429 Too Many Requests", 429, "upstream-refused", "17"),
    ("500 Internal Server Error", 502, "upstream-error", None),
    ("502 Bad Gateway", 502, "upstream-error", "17"),
    ("503 Service Unavailable", 503, "upstream-error", "17"),
    ("504 Gateway Timeout", 504, "upstream-timeout", None),
    ("529 Overloaded", 503, "upstream-error", "17"),
    ("599 Whatever", 502, "upstream-error", None),
    ("302 Found", 502, "upstream-error", None),
    ("204 No Content", 502, "upstream-error", None)])
def test_statuses(scripted, answer, status, code, retry_after):
    def script(connection):
        connection.read_request()
        lines = [f"HTTP/1.1 {answer}", "Content-Length: 0", "Location: http://127.0.0.1:1/"]
        if retry_after:
            lines.append("Retry-After: 17")
        connection.send("\r\n".join([*lines, "", ""]).encode())
    upstream, daemon = scripted(script)
    response = exchange(daemon, prompt_data("x"), headers=[("Set-Cookie", "a=b"), ("Content-Type", "text/html")])
    assert response.status == status
    assert response.error()["code"] == code
    assert response.header("Retry-After") == retry_after
    assert response.header("Set-Cookie") == "a=b"
    assert response.header("Cache-Control") == "no-store"
    assert response.header("Content-Type") == "application/json; charset=utf-8"


def test_error_to_head_and_http_1_0(scripted):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    upstream, daemon = scripted(script)
    assert exchange(daemon, prompt_data("x"), protocol="HTTP/1.0").status == 502


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_legal_forms(scripted, end, cut):
    lines = [b": comment", b"event: message", b"data: " + CONTENT % b"gr\xc3\xbc\xc3\x9f \\ud83d\\ude00", b"", b"data:{",
             b'data: "choices": [{"delta":', b'data: {"content": "\\r\\n\\"x\\""}}]}', b"", b"id: 7", b"data: [DONE]", b"", b""]
    upstream, daemon = scripted(sse_script(end.join(lines), cut=cut))
    assert exchange(daemon, prompt_data("x")).text() == 'grüß \U0001f600\r\n"x"'


@pytest.mark.parametrize("raw, finish, code", [
    (b"data: " + CONTENT % b"a" + b"\n\n", True, "upstream-error"),  # no [DONE]
    (b"data: " + CONTENT % b"a" + b"\n\n" + b"data: {\"choi", False, "upstream-error"),  # cut in an event
    (b"data: " + CONTENT % b"a" + b"\n\n" + b"data: garbage\n\n", True, "upstream-error"),
    (b"data: " + CONTENT % b"a" + b'\n\ndata: {"error":{"message":"inner secret"}}\n\n', True, "upstream-error"),
    (b"data: " + CONTENT % b"a" + b"\n\ndata: " + b"x" * 300000, True, "upstream-error"),  # endless line
    (b"data: " + CONTENT % b"a" + b"\n\n" + b"data: x\n" * 150000, True, "upstream-error")],  # endless event
    ids=["no-done", "cut", "garbage", "error", "endless-line", "endless-event"])
def test_late_errors(scripted, raw, finish, code):
    upstream, daemon = scripted(sse_script(raw, finish))
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200
    assert json.loads(response.events()[0][1]) == {"content": "a"}
    assert response.error()["code"] == code
    assert b"[DONE]" not in response.raw and b"secret" not in response.raw


def test_finish_reason_without_done(scripted):
    raw = b"data: " + CONTENT % b"a" + b'\n\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    upstream, daemon = scripted(sse_script(raw))
    assert exchange(daemon, prompt_data("x")).text() == "a"


def test_done_ends_the_stream_though_the_upstream_does_not(scripted):
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        connection.chunk(b"data: [DONE]\n\n")
        assert connection.wait_gone(15), "the connection was never given up"
    upstream, daemon = scripted(script)
    start = time.monotonic()
    assert exchange(daemon, prompt_data("x")).text() == "a"
    assert time.monotonic() - start < 1
    wait_for(lambda: upstream.connections[0].gone.is_set(), 3, "end of the transfer")


@pytest.mark.parametrize("answer", [
    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"", b"HTTP/1.1 200 OK\r\nX: ",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
    b"HTTP/1.1 000 OK\r\n\r\ndata: [DONE]\n\n", b"HTTP/1.1 099 OK\r\nContent-Length: 14\r\n\r\ndata: [DONE]\n\n"],
    ids=["no-http", "giant-head", "nothing", "half-a-head", "gzip", "no-stream", "status-000", "status-099"])
def test_no_acceptable_answer(scripted, answer):
    def script(connection):
        connection.read_request()
        connection.send(answer)
    upstream, daemon = scripted(script)
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 502 and response.error()["code"] == "upstream-error"


@only_http1
def test_packed_transfer(scripted):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    upstream, daemon = scripted(script)
    assert exchange(daemon, prompt_data("x")).status == 502


def test_first_byte_timeout(scripted):
    def script(connection):
        connection.read_request()
        connection.wait_gone()
    upstream, daemon = scripted(script, **{"first-byte-timeout": 1})
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 504 and response.error()["code"] == "upstream-timeout"
    wait_for(lambda: upstream.connections[0].gone.is_set(), 1, "end of the upstream call")


def test_idle_timeout(scripted):
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        connection.wait_gone()
    upstream, daemon = scripted(script, **{"idle-timeout": 1})
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200 and response.error()["code"] == "upstream-timeout"
    wait_for(lambda: upstream.connections[0].gone.is_set(), 1, "end of the upstream call")


@only_http1  # nginx sends the head with the first of the body
def test_status_then_silence_sends_the_head(scripted):
    def script(connection):
        connection.read_request()
        connection.head()
        connection.wait_gone()
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        head = made.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), "\n".join(daemon.log.lines())


def test_nobody_listens(openai_factory, env):
    daemon = openai_factory(f"http://127.0.0.1:{env.port()}/v1")
    start = time.monotonic()
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 502 and response.error()["code"] == "upstream-error"
    assert time.monotonic() - start < 6


@pytest.mark.parametrize("when", ["before the head", "after the head", "during the stream"])
def test_client_leaving_cancels_the_call(scripted, when):
    arrived = threading.Event()

    def script(connection):
        connection.read_request()
        if when != "before the head":
            connection.head()
        if when == "during the stream":
            connection.event("a")
        arrived.set()
        connection.wait_gone()
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        assert arrived.wait(15)
        if when == "during the stream":
            made.read_until(b'"a"')
    start = time.monotonic()
    wait_for(lambda: upstream.connections[0].gone.is_set(), 1, "end of the upstream call")
    assert time.monotonic() - start < 3
    daemon.log.wait("event=stream-end .*outcome=client-gone", 1)


def test_slow_client_holds_the_upstream_back(scripted):
    sent = []

    def script(connection):
        connection.read_request()
        connection.head()
        for number in range(400):
            connection.event(f"{number} " + "x" * 50000)
            sent.append(number)
        connection.done()
        connection.wait_gone(2)
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) > 0, 10, "pause")
        time.sleep(0.5)
        stalled = len(sent)
        time.sleep(0.5)
        assert len(sent) == stalled < 400, "the upstream is not held back"
        text = made.response().text()
        assert text == "".join(f"{number} " + "x" * 50000 for number in range(400))


def test_dense_events(scripted):
    raw = b"".join(b"data: " + CONTENT % (b"%d " % number) + b"\n\n" for number in range(3000)) + b"data: [DONE]\n\n"
    upstream, daemon = scripted(sse_script(raw))
    assert exchange(daemon, prompt_data("x")).text() == "".join(f"{number} " for number in range(3000))


@only_http1
def test_reused_connection_that_was_closed(scripted):
    """The upstream closes an idle connection just when the next request goes out on it."""
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        connection.done()
        if len(upstream.connections) == 1:
            connection.read_request()  # and no answer
    upstream, daemon = scripted(script)
    assert exchange(daemon, prompt_data("x")).text() == "a"
    assert exchange(daemon, prompt_data("x")).text() == "a"
    assert len(upstream.connections) == 2


def test_dialer_starts_again(scripted):
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        connection.done()
    upstream, daemon = scripted(script)
    daemon.expect("dialer")
    daemon.kill("dialer")
    assert exchange(daemon, prompt_data("x")).text() == "a"


def test_streams_survive_gate_and_dialer(scripted):
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        go_on.wait(20)
        connection.event("b")
        connection.done()
    upstream, daemon = scripted(script)
    daemon.expect("dialer", "gate")
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"a"')
        daemon.kill("dialer")
        daemon.kill("gate")
        go_on.set()
        assert made.response().text() == "ab"


@pytest.mark.parametrize("content, mode, what", [
    ("two words\n", 0o600, "not one line"), ("", 0o600, "not one line"), ("a\r\nX: y\n", 0o600, "not one line"),
    (KEY, 0o644, "wider"), ("x" * 5000, 0o600, "too large|File")],
    ids=["blank", "empty", "two-lines", "mode", "long"])
def test_bad_credentials(env, factory, content, mode, what):
    daemon = factory(Handoffd, wait=False, upstreams={"up": {"url": "http://127.0.0.1:9/v1"}},
                     backends={"llm": {"type": "openai", "upstream": "up",
                                       "credential-file": credential(env, content, mode)}})
    daemon.expect("event=(fatal|exited|killed|gave-up)")
    line = daemon.log.wait("handoffd-streamer.*credential", 5)[0]
    daemon.stop()  # or it is tried again and again
    assert re.search(what, line), line
    assert KEY not in line


def test_no_false_done_after_a_cut(scripted):
    """A stream that broke off is visibly not whole."""
    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
    upstream, daemon = scripted(script)
    response = exchange(daemon, prompt_data("x"))
    with pytest.raises(HttpError):
        response.text()
