# SPDX-License-Identifier: Apache-2.0
"""Every route to every kind of handler on every MPM, and every shape a request can have: the binding is that of the
request that is answered, the handoff has what the application signed, and the client gets one answer."""
import contextlib
import http.client
import json
import os
import re
import socket
import time

import pytest

import handoff1
from env import curl, wait_for
from receiver import HANDLERS, Answer, Everywhere, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

CONFIG = """
RemoteIPHeader X-Forwarded-For
RemoteIPInternalProxy 127.0.0.1
LogFormat "%a %{remote}p %{handoff-result}n" addresses
CustomLog addresses.log addresses
<Location /dressed>
    Header set X-Set set
    Header always set X-Always always
    Header set X-Handoff-Token forged
    Header always set X-Handoff-Subject forged
    SetOutputFilter DEFLATE
</Location>
AliasMatch ^/dressed/(.*) @docroot@/$1
"""


@pytest.fixture(scope="module", params=["event", "worker", "prefork"])
def site(request, env):
    port6, port_both, http2 = env.port(), env.port(), request.param != "prefork"
    conf = CONFIG + ("Protocols h2c http/1.1\n" if http2 else "")
    with Everywhere(env, request.param, conf, listen=[f"[::1]:{port6}", f"[::]:{port_both}"], more_modules=["http2"] * http2) as site:
        site.port6, site.port_both = port6, port_both
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def hand_off(site, gate, request: bytes):
    """Send a request, serve its handoff: what arrived there, and all that the client received."""
    sock = site.raw(request)
    handoff, = site.serve(gate)
    return handoff, read_all(sock)


def assert_one_answer(received: bytes) -> None:
    assert received.count(b"HTTP/1.1 ") == 1 and received.startswith(b"HTTP/1.1 200 OK\r\n"), received[:500]
    assert received.endswith(b"\r\n\r\nhanded off\n") and b"andoff-" not in received.split(b"\r\n\r\n")[0]


# ---------------------------------------------------------------- routes

@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("route", Everywhere.ROUTES)
def test_route(site, gate, route, handler):
    target = site.route(route, handler)
    handoff, received = hand_off(site, gate, site.request(site.plan('{"a":1}', subject="u1"), target))
    assert_one_answer(received)
    request = handoff.request
    assert request.target == target.encode() and request.method == b"GET" and handoff.data == b'{"a":1}'
    assert request.status == (404 if route == "errors" and handler != "back" else 200)
    assert handoff1.verify_token([site.key], request.token, request.binding, site.path, "u1",
                                 handoff1.digest(handoff.data)) == "ok"


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("form", ["header", "body"])
def test_part_of_a_page(site, gate, handler, form):
    """What a subrequest answers is text of the page around it; it neither has a binding nor hands off."""
    received = read_all(site.raw(site.request(site.plan("{}", form=form), f"/{handler}/page.shtml",
                                              headers=["Connection: close"])))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"andoff" not in head
    assert b"before" in body and b"after" in body
    assert site.quiet(gate)
    shown = read_all(site.raw(site.request({"show": 1}, f"/{handler}/page.shtml", headers=["Connection: close"])))
    assert b"HTTP_HOST" in shown or b"Host" in shown
    assert b"HANDOFF_BINDING" not in shown and b"X-Edge-Binding" not in shown


def test_redirect_to_a_file(site, gate):
    """A program that asks for a handoff and redirects to a plain page: the page, and nothing else."""
    site.page("to-plain.cgi", f"#!/bin/sh\nprintf 'Location: /plain.txt\\nX-Socket-Handoff: {site.path}\\n"
              "X-Handoff-Data: {}\\n\\n'\n")
    answer = site.fetch("/to-plain.cgi")
    assert answer.status == 200 and answer.body == b"plain\n" and answer.leaks() == [] and site.quiet(gate)


# ---------------------------------------------------------------- the binding as a request header

def test_binding_header(site):
    """Only as the module makes it, and made afresh for each request."""
    spellings = ["X-Edge-Binding: forged", "x_edge_binding: forged", "X.Edge-Binding: forged"]
    seen = set()
    for _ in range(2):
        received = read_all(site.raw(site.request({"show": 1}, "/app.back", headers=["Connection: close", *spellings])))
        assert b"forged" not in received
        seen.add(json.loads(received.partition(b"\r\n\r\n")[2])["X-Edge-Binding"])
    assert len(seen) == 2
    assert all(re.fullmatch(r"v1;127\.0\.0\.1;\d+;[A-Za-z0-9_-]{22}", binding) for binding in seen)


def test_binding_header_in_a_trailer(site):
    for handler in HANDLERS:
        received = read_all(site.raw(site.request({"show": 1, "read": 1}, f"/app.{handler}", "POST", headers=[
            "Connection: close", "Transfer-Encoding: chunked", "Trailer: X-Edge-Binding"],
            body=b"1\r\na\r\n0\r\nX-Edge-Binding: forged\r\nX-Handoff-Binding: forged\r\n\r\n")))
        assert received.startswith(b"HTTP/1.1 200 ") and b"forged" not in received


# ---------------------------------------------------------------- statuses and shapes of requests

@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("status", [201, 202, 204, 206, 302, 304, 400, 401, 403, 404, 410, 429, 500, 503])
def test_status_travels(site, gate, handler, status):
    """What the application sets is what the daemon is told, also where httpd would make a page of its own of it."""
    plan = site.plan("{}", status=status, add=["X-Application: a", "Location: /elsewhere"] if status == 302 else [])
    handoff, received = hand_off(site, gate, site.request(plan, f"/app.{handler}"))
    assert handoff.request.status == status
    assert_one_answer(received)


PLAIN = b"GET /plain.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = b"b" * 300000
CHUNKED = b"1000\r\n" + b"b" * 4096 + b"\r\n0\r\n\r\n"

# httpd judges the condition for a CGI or FastCGI program that names a validator: the daemon is told 304.
BY_CONDITION = {"cgi": (304,), "php": (200, 304), "back": (200,)}

# name: (method, version, headers, body, what the plan adds)
SHAPES = {
    "get": ("GET", "1.1", [], b"", {}),
    "post": ("POST", "1.1", ["Content-Length: 5"], b"12345", {"read": 1}),
    "unread body": ("POST", "1.1", ["Content-Length: 300000"], LONG, {}),
    "unread chunked body": ("POST", "1.1", ["Transfer-Encoding: chunked"], CHUNKED, {}),
    "chunked body": ("PUT", "1.1", ["Transfer-Encoding: chunked"], CHUNKED, {"read": 1}),
    "flush, body unread": ("POST", "1.1", ["Content-Length: 300000"], LONG, {"late": "unread"}),
    "flush before reading": ("POST", "1.1", ["Content-Length: 300000"], LONG, {"late": "read"}),
    "flush before reading chunks": ("POST", "1.1", ["Transfer-Encoding: chunked"], CHUNKED, {"late": "read"}),
    "http/1.0": ("GET", "1.0", [], b"", {}),
    "http/1.0 kept alive": ("GET", "1.0", ["Connection: keep-alive"], b"", {}),
    "range": ("GET", "1.1", ["Range: bytes=0-1"], b"", {"headers+": ["Accept-Ranges: bytes"]}),
    "conditional": ("GET", "1.1", ['If-None-Match: "1"'], b"", {"headers+": ['ETag: "1"']}),
    "compressed": ("GET", "1.1", ["Accept-Encoding: gzip"], b"", {"output": "a" * 2000}),
    "upgrade": ("GET", "1.1", ["Connection: Upgrade", "Upgrade: websocket"], b"", {}),
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shape(site, gate, handler, shape):
    method, version, headers, body, more = SHAPES[shape]
    site.expect("AH02651")  # a CGI program that ends without reading its body
    more = dict(more)
    plan = {**site.plan('{"a":1}', add=more.pop("headers+", [])), **more}
    request = site.request(plan, f"/app.{handler}", method, version, headers, body)
    handoff, received = hand_off(site, gate, request)
    assert_one_answer(received)
    assert handoff.request.method == method.encode()
    assert handoff.request.status in (BY_CONDITION[handler] if shape == "conditional" else (200,))
    assert handoff.request.protocol == f"HTTP/{version}".encode() and handoff.data == b'{"a":1}'


@pytest.mark.parametrize("handler", HANDLERS)
def test_conditional_on_the_date(site, gate, handler):
    plan = site.plan("{}", add=["Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"])
    handoff, received = hand_off(site, gate, site.request(plan, f"/app.{handler}", headers=[
        "If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"]))
    assert_one_answer(received)
    assert handoff.request.status in BY_CONDITION[handler]


@pytest.mark.parametrize("handler", HANDLERS)
def test_head(site, gate, handler):
    sock = site.raw(site.request(site.plan("{}"), f"/app.{handler}", "HEAD"))
    handoff = gate.receive()
    assert handoff.request.method == b"HEAD" and handoff.data == b"{}"
    handoff.accept()
    handoff.client.setblocking(True)
    handoff.client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    handoff.close()
    assert read_all(sock) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("handler", HANDLERS)
def test_expect_continue(site, gate, handler):
    sock = site.raw(site.request(site.plan("{}"), f"/app.{handler}", "POST",
                                 headers=["Expect: 100-continue", "Content-Length: 5"]))
    assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"12345")
    site.serve(gate)
    assert_one_answer(read_all(sock))


@pytest.mark.parametrize("handler", HANDLERS)
def test_between_other_requests(site, gate, handler):
    """Pipelined: the answers before it are whole and in order; the request behind it is not answered by anybody."""
    request = site.request(site.plan("{}"), f"/app.{handler}")
    handoff, received = hand_off(site, gate, PLAIN * 5 + request + PLAIN * 3)
    assert received.count(b"plain\n") == 5 and received.count(b"HTTP/1.1 ") == 6
    assert received.endswith(b"\r\n\r\nhanded off\n")


@pytest.mark.parametrize("handler", HANDLERS)
def test_on_a_connection_that_was_used(site, gate, handler):
    """Keep-alive requests before it, to the same handler too."""
    def ask(plan, target):
        connection.request("GET", target, headers={"X-Plan": site.query(plan)})
        return connection
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    for _ in range(3):
        assert ask({}, "/plain.txt").getresponse().read() == b"plain\n"
        assert ask({"output": "an ordinary page"}, f"/app.{handler}").getresponse().read() == b"an ordinary page"
    ask(site.plan("{}"), f"/app.{handler}")
    site.serve(gate)
    assert Answer(connection.getresponse()).body == b"handed off\n"
    connection.close()


@pytest.mark.parametrize("handler", HANDLERS)
def test_filters_of_the_configuration(site, gate, handler):
    """mod_headers' values travel, mod_deflate changes neither data nor headers, and control headers set here count for
    nothing."""
    handoff, _ = hand_off(site, gate, site.request(site.plan("{}" * 500, form="body"), f"/dressed/app.{handler}",
                                                   headers=["Accept-Encoding: gzip"]))
    headers = dict(handoff.request.headers())
    assert headers["X-Set"] == "set" and headers["X-Always"] == "always" and "Content-Encoding" not in headers
    assert handoff.data == b"{}" * 500 and handoff.request.subject is None


@pytest.mark.parametrize("handler", HANDLERS)
def test_remote_address(site, gate, handler):
    """mod_remoteip's address is for logs; the binding is about the socket."""
    handoff, received = hand_off(site, gate, site.request(site.plan("{}"), f"/app.{handler}",
                                                          headers=["X-Forwarded-For: 203.0.113.9"]))
    assert_one_answer(received)
    assert handoff.request.client_address == b"203.0.113.9"
    assert handoff.request.binding.startswith(b"v1;127.0.0.1;")


@pytest.mark.parametrize("handler", HANDLERS)
def test_ipv6(site, gate, handler):
    with socket.create_connection(("::1", site.port6), 10) as sock:
        sock.settimeout(10)
        sock.sendall(site.request(site.plan("{}"), f"/app.{handler}"))
        handoff, = site.serve(gate)
        assert_one_answer(read_all(sock))
        assert handoff.request.client_address == b"::1"
    assert handoff.request.binding.startswith(b"v1;::1;")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_binding_names_the_peer_of_the_socket(site, gate, address):
    """In the form in which the daemon will see it, also of IPv4 on a listener for both; the same for each request of a
    connection."""
    connection = http.client.HTTPConnection(address, site.port_both, timeout=10)
    connection.request("GET", "/app.php", headers={"X-Plan": site.query({"show": 1})})
    shown = json.loads(connection.getresponse().read())
    connection.request("GET", "/app.php", headers={"X-Plan": site.query(site.plan("{}"))})
    handoff = gate.receive()
    host, port = handoff.client.getpeername()[:2]
    handoff.accept()
    handoff.answer()
    assert Answer(connection.getresponse()).body == b"handed off\n"
    connection.close()
    assert host == ("::1" if ":" in address else "::ffff:127.0.0.1")
    bindings = [shown["HANDOFF_BINDING"], handoff.request.binding.decode()]
    assert [binding.rsplit(";", 1)[0] for binding in bindings] == [f"v1;{host};{port}"] * 2
    assert bindings[0] != bindings[1]


def test_behind_the_proxy_protocol(env):
    """A balancer in front says whom it speaks for: that address is for logs, the binding names the balancer's socket."""
    with Everywhere(env, "event", "RemoteIPProxyProtocol On\n") as site, site.listener() as gate:
        with socket.create_connection(("127.0.0.1", site.port), 10) as sock:
            sock.settimeout(10)
            host, port = sock.getsockname()
            sock.sendall(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n" + site.request(site.plan("{}"), "/app.php"))
            handoff, = site.serve(gate)
            assert_one_answer(read_all(sock))
        assert handoff.request.client_address == b"203.0.113.9"
        assert handoff.request.binding.startswith(f"v1;{host};{port};".encode())


# ---------------------------------------------------------------- headers of the application

# name: (lines added, handlers where it is refused, reason). Elsewhere the server has made one right header of it.
WRONG = {
    "path twice": (["X-Socket-Handoff: {path}"], HANDLERS, "header-duplicate"),
    "paths merged": (["X-Handoff-Subject: a, b"], HANDLERS, "header-duplicate"),
    "token twice": (["X-Handoff-Token: v1.a.1.b"], HANDLERS, "header-duplicate"),
    "underscored twin": (["X_Socket_Handoff: {path}"], HANDLERS, "header-duplicate"),
    "dotted twin": (["X.Socket.Handoff: {path}"], ("cgi",), "header-duplicate"),
    "two sources": (["X-Handoff-Data-Source: body"], HANDLERS, "data-source"),
    "tab inside": (["X-Handoff-Subject: a\tb"], HANDLERS, "header-invalid"),
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_headers(site, gate, handler, name):
    lines, handlers, reason = WRONG[name]
    site.expect("AHSH0101")
    mark = site.error_log.position()
    plan = site.plan("{}", add=[line.format(path=site.path) for line in lines] + ["X-Application: a"])
    received = read_all(site.raw(site.request(plan, f"/app.{handler}", headers=["Connection: close"])))
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert received.startswith(b"HTTP/1.1 403 ") and b"andoff" not in head and b"x-application" not in head
    assert site.quiet(gate)
    if handler in handlers:
        assert site.reasons(mark) == [reason]
    else:
        assert len(site.reasons(mark)) == 1


# ---------------------------------------------------------------- what passes the header filters

HINTS = ["Link: </style.css>; rel=preload", "X-Socket-Handoff: @path@", "X-Handoff-Token: v1.leaked",
         "X_Handoff_Data: {}", "X-Handoff-Binding: b", "Handoff-Binding: b"]


@pytest.mark.parametrize("count", [1, 3])
def test_interim_response(site, gate, count):
    """103 Early Hints reach the client, without control headers; they do not hand off, the response does."""
    hints = [line.replace("@path@", site.path) for line in HINTS]
    plan = {**site.plan("{}"), "interim": [hints] * count}
    _, received = hand_off(site, gate, site.request(plan, "/app.back"))
    *interim, head, body = received.split(b"\r\n\r\n")
    assert len(interim) == count and b"andoff-" not in head and body == b"handed off\n"
    for each in interim:
        assert each.startswith(b"HTTP/1.1 103 ") and b"Link: </style.css>; rel=preload" in each
        assert b"andoff" not in each.replace(b"_", b"-").lower() and b"v1.leaked" not in each


def test_interim_response_of_a_page(site, gate):
    """The same before an ordinary page, twice on one connection, with hints that fill more than a buffer."""
    many = [f"X-Hint-{i}: {'h' * 1000}\r\nX-Handoff-Data: {i}" for i in range(40)]
    plan = {"output": "the page", "interim": [many]}
    request = site.request(plan, "/app.back")
    received = read_all(site.raw(request + site.request(plan, "/app.back", headers=["Connection: close"])))
    assert received.count(b"HTTP/1.1 103 ") == 2 and received.count(b"HTTP/1.1 200 ") == 2
    assert received.count(b"X-Hint-39: ") == 2 and received.count(b"the page") == 2 and b"andoff" not in received


def test_interim_response_without_a_page(site):
    """The backend's control headers do not leave with hints before an error page either."""
    plan = {"status": 404, "interim": [["X-Handoff-Token: v1.leaked"]], "headers": ["X-Handoff-Token: v1.leaked"]}
    received = read_all(site.raw(site.request(plan, "/app.back", headers=["Connection: close"])))
    assert b"HTTP/1.1 404 " in received and b"leaked" not in received


def test_response_trailers(site, gate):
    trailers = ["X-Socket-Handoff: " + site.path, "X-Handoff-Token: v1.leaked", "X-Kept: kept"]
    received = read_all(site.raw(site.request({"output": "the page", "trailers": trailers}, "/app.back",
                                              headers=["Connection: close", "TE: trailers"])))
    assert received.startswith(b"HTTP/1.1 200 ") and b"the page" in received and b"andoff" not in received
    assert site.quiet(gate)


@pytest.mark.parametrize("status", [200, 404])
def test_interim_response_and_trailers_over_http2(site, gate, status):
    """HTTP/2 sends a backend's trailers on, which httpd does not over HTTP/1.1."""
    if site.mpm == "prefork":
        pytest.skip("mod_http2 does not work with the prefork MPM")
    control = ["X-Socket-Handoff: " + site.path, "X-Handoff-Token: v1.leaked", "x_handoff_data: leaked"]
    plan = {"output": "the page", "status": status, "trailers": [*control, "X-Kept: kept"],
            "interim": [[*control, "Link: </a>"]] * 2, "headers": ["Trailer: X-Kept"]}
    result = curl("-i", "--http2-prior-knowledge", "-H", f"X-Plan: {site.query(plan)}",
                  f"http://127.0.0.1:{site.port}/app.back")
    answer = result.stdout.decode().lower()
    assert f"http/2 {status}" in answer and "the page" in answer and "leaked" not in answer and "handoff" not in answer
    assert "x-kept: kept" in answer
    assert site.quiet(gate)


def test_remote_address_in_the_log(site, gate):
    with socket.create_connection(("127.0.0.1", site.port), 10) as sock:
        sock.settimeout(10)
        port = sock.getsockname()[1]
        sock.sendall(site.request(site.plan("{}"), "/app.php", headers=["X-Forwarded-For: 203.0.113.7"]))
        site.serve(gate)
        read_all(sock)
    deadline = time.monotonic() + 15
    while not (lines := [line for line in (site.root / "addresses.log").read_text().splitlines()
                         if line.startswith("203.0.113.7 ")]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert lines[0] in (f"203.0.113.7 {port} accepted", "203.0.113.7 0 accepted")


# ---------------------------------------------------------------- the client that leaves

@pytest.mark.parametrize("handler", HANDLERS)
def test_client_that_has_gone(site, gate, handler):
    """Handed off or not, nothing hangs and the next one is served."""
    site.expect("reason=client-gone", "reason=daemon-unreachable")
    site.raw(site.request(site.plan("{}"), f"/app.{handler}?gone")).close()

    def ended() -> bool:
        with contextlib.suppress(TimeoutError):
            gate.receive(0.01).close()
        return site.access_log.find(f"/app.{handler}[?]gone ")
    wait_for(ended, 10, "the end of its request")
    _, received = hand_off(site, gate, site.request(site.plan("{}"), f"/app.{handler}"))
    assert_one_answer(received)
