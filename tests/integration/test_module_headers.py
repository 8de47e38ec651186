# SPDX-License-Identifier: Apache-2.0
"""Status and headers of the application's response on their way to the daemon: what travels, what does not, and that
no value becomes a header, or a response, of its own."""
import os

import pytest

from receiver import HANDLERS, Everywhere

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env):
    with Everywhere(env, request.param, "ProxyBadHeader Ignore\n") as site:
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def travelled(site, gate, handler, lines, **more):
    """The headers that the daemon is told, lower-case names, in order; and the handoff."""
    future = site.ask(site.plan("{}", add=lines, **more), path=f"/app.{handler}")
    handoff, = site.serve(gate)
    answer = future.result()
    assert answer.status == 200 and answer.body == b"handed off\n" and answer.leaks() == []
    return [(name.lower(), value) for name, value in handoff.request.headers()], handoff


@pytest.mark.parametrize("handler", HANDLERS)
def test_travel(site, gate, handler):
    lines = ["Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly",
             "Set-Cookie: c=3; Expires=Mon, 02 Jan 2034 15:04:05 GMT",
             "Access-Control-Allow-Origin: https://example.org", "Access-Control-Allow-Credentials: true",
             "Access-Control-Expose-Headers: X-Request-Id, X-Other", "X-Request-Id: 7f3a", "Vary: Origin",
             "Cache-Control: no-store", "X-Empty-Not: 0", "Content-Language: de", "Link: </a>; rel=preload"]
    headers, handoff = travelled(site, gate, handler, lines, status=201)
    assert handoff.request.status == 201
    assert [value for name, value in headers if name == "set-cookie"] == [
        "a=1; Path=/", "b=2; HttpOnly", "c=3; Expires=Mon, 02 Jan 2034 15:04:05 GMT"]
    for line in lines[3:]:
        name, value = line.split(": ", 1)
        assert [v for n, v in headers if n == name.lower()] == [value], name
    assert len([name for name, _ in headers if name == "content-type"]) == 1


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("line", [
    "Connection: close", "Connection: keep-alive, Upgrade", "Keep-Alive: timeout=5", "Transfer-Encoding: chunked",
    "Content-Length: 0", "Content-Encoding: gzip", "ETag: \"1\"", "Trailer: X-Sum", "TE: trailers", "Upgrade: h2c",
    "Proxy-Authenticate: Basic", "Proxy-Connection: close", "Content-Range: bytes 0-1/2"])
def test_does_not_travel(site, gate, handler, line):
    """Framing, hop-by-hop, and what describes the application's body: that is the daemon's to decide."""
    name = line.split(":")[0].lower()
    if handler == "back" and name in ("transfer-encoding", "content-length"):
        pytest.skip("a backend that frames its response twice is answered with 502")
    if name in ("transfer-encoding", "content-length", "content-range", "content-encoding") and handler == "php":
        line = line.replace("chunked", "identity")
    headers, _ = travelled(site, gate, handler, [line, "X-Kept: kept"])
    assert name not in dict(headers) and dict(headers)["x-kept"] == "kept"


@pytest.mark.parametrize("handler", HANDLERS)
def test_named_by_connection(site, gate, handler):
    """A header that Connection names is for one hop, whatever it is called."""
    headers, _ = travelled(site, gate, handler, ["Connection: X-Hop, close, x-second", "X-Hop: 1", "X-Second: 2",
                                                 "X-Hope: kept"])
    assert not {"connection", "x-hop", "x-second"} & {name for name, _ in headers}
    assert ("x-hope", "kept") in headers


# name: the header line as the application sends it, with bytes that no header may hold
INJECTIONS = {
    "cr": "X-A: a\rX-Injected: b",
    "cr lf": "X-A: a\r\nX-Injected: b",
    "lf": "X-A: a\nX-Injected: b",
    "end of the head": "X-A: a\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: b\r\n\r\n",
    "nul": "X-A: a\0X-Injected: b",
    "escape": "X-A: \x1b[31mred",
    "delete": "X-A: a\x7f",
    "bell": "X-A: a\x07",
    "folded": "X-A: a\r\n X-Injected: b",
    "vertical tab": "X-A: a\x0bX-Injected: b",
    "name with a blank": "X Injected: b",
    "name with a control byte": "X-\x01Injected: b",
    "no name": ": b",
    "no colon": "X-Injected",
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("name", INJECTIONS)
def test_injection(site, gate, handler, name):
    """Either it is refused (by PHP, by httpd, by the module), or what travels are plain header lines. A line that a
    program writes with a line end in it is two lines: that is the program's doing, and each must be a right one."""
    site.expect("AHSH0101", "AH0", "PHP Warning", "Premature end|malformed header|Response header name|bad HTTP")
    plan = site.plan("{}", add=[INJECTIONS[name]])
    sock = site.raw(site.request(plan, f"/app.{handler}", headers=["Connection: close"]))
    handoff = site.handoff_or_answer(gate, sock)
    if handoff is None:
        received = sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 ") and received[9:12] != b"200" or b"andoff" not in received.lower()
        assert b"x-socket" not in received.lower() and b"x-handoff" not in received.lower()
        sock.close()
        return
    lines = (handoff.request.response_headers or b"").split(b"\r\n")
    assert lines.pop() == b""
    for line in lines:
        field, separator, value = line.partition(b": ")
        assert separator and field and all(c in b"-abcdefghijklmnopqrstuvwxyz0123456789_" for c in field.lower()), line
        assert all(c >= 0x20 and c != 0x7f or c == 9 for c in value), line
        assert b"HTTP/1" not in line
    handoff.accept()
    handoff.answer()
    received = b""
    while piece := sock.recv(65536):
        received += piece
    sock.close()
    assert received.count(b"HTTP/1.1 ") == 1 and received.endswith(b"\r\n\r\nhanded off\n")


@pytest.mark.parametrize("handler", ["php", "cgi"])
def test_too_many(site, gate, handler):
    """Headers that do not fit into a message are a refusal with a reason, not a cut."""
    site.expect("reason=message-malformed")
    mark = site.error_log.position()
    plan = site.plan("{}", add=[f"X-{i}: {'h' * 1000}" for i in range(70)])
    received = b""
    sock = site.raw(site.request({**plan, "headers": plan["headers"][:2]}, f"/app.{handler}"))
    site.serve(gate)
    while piece := sock.recv(65536):
        received += piece
    assert received.endswith(b"handed off\n")
    program = site.page("many.cgi", (site.docroot / "app.cgi").read_text().replace(
        "lines += [", "lines += [b'X-%d: ' % i + b'h' * 1000 for i in range(70)]\n    lines += ["))
    answer = site.fetch(site.target(site.plan("{}"), program))
    assert answer.status == 403 and answer.leaks() == [] and site.reasons(mark) == ["message-malformed"]
    assert site.quiet(gate)
