# SPDX-License-Identifier: Apache-2.0
"""Handoffs through a real Apache to a daemon that is written in Python here: what arrives, what the client gets,
and what happens when the daemon is slow, gone, full, or somebody else."""
import contextlib
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest

import handoff1
from env import wait_for
from receiver import ROGUE_UID, Answer, Site, as_uid, read_all, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

CONFIG = """
AddHandler send-as-is asis
MergeTrailers On
<Location /dressed>
    Header set X-Set set
    Header always set X-Always always
    Header set X-Handoff-Token forged
    SetOutputFilter DEFLATE
</Location>
<Location /hurried>
    SocketHandoffMaxRetries 0
    SocketHandoffConnectTimeoutMs 300
    SocketHandoffAcceptTimeoutMs 100
</Location>
<Location /patient>
    SocketHandoffMaxRetries 10
</Location>
AliasMatch ^/(dressed|hurried|patient)/app.php @docroot@/app.php
<Directory @docroot@/index>
    DirectoryIndex app.php
    SetEnv HANDOFF_BINDING from-the-configuration
</Directory>
<Directory @docroot@/fallback>
    DirectoryIndex disabled
    FallbackResource /app.php
</Directory>
<Directory @docroot@/rewritten>
    RewriteEngine On
    RewriteRule ^(?!app) /app.php [QSA,L]
</Directory>
<Location /errors>
    ErrorDocument 404 /app.php
</Location>
ProxyPass /backend http://127.0.0.1:@backend@
<Location /overridden>
    ProxyErrorOverride On
</Location>
ProxyPass /overridden http://127.0.0.1:@backend@
"""


class Backend(http.server.BaseHTTPRequestHandler):
    """A proxied application. The path says what it answers; the request's headers come back as JSON."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        status = 404 if "404" in self.path else 200
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if "forged" in self.path or "dies" in self.path:
            self.send_header("X-Socket-Handoff", self.server.path)
            self.send_header("X-Handoff-Data-Source" if "dies" in self.path else "X-Handoff-Data",
                             "body" if "dies" in self.path else "{}")
        self.send_header("Content-Length", str(len(body) + (1000 if "dies" in self.path else 0)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def backend():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env, backend):
    more = ["http2"] if request.param == "event" else []
    with Site(env, request.param, CONFIG.replace("@backend@", str(backend.server_port)), more_modules=more) as site:
        for folder in ("index", "fallback", "rewritten"):
            (site.docroot / folder).mkdir()
        (site.docroot / "index" / "app.php").write_text((site.docroot / "app.php").read_text())
        site.mpm = request.param
        backend.path = site.path
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


# ---------------------------------------------------------------- what arrives

@pytest.mark.parametrize("form", ["header", "body", "parts"])
@pytest.mark.parametrize("data, repeat", [("", 1), ("{}", 1), ('{"prompt": "grüße, \\u00e4, a"}', 1), ("long", 1500)],
                         ids=["none", "short", "text", "long"])
def test_data(site, gate, form, data, repeat):
    future = site.ask(site.plan(data, form=form, repeat=repeat, subject="user-42"))
    data *= repeat
    handoff, = site.serve(gate)
    assert handoff.data == data.encode() and handoff.request.flags == 0
    request = handoff.request
    assert request.socket_path == site.path.encode() and request.subject == b"user-42"
    assert request.method == b"GET" and request.target.startswith(b"/app.php?plan=")
    assert request.protocol == b"HTTP/1.1" and request.status == 200
    assert request.client_address == b"127.0.0.1" and request.server_name == b"localhost"
    peer = request.binding.decode().split(";")
    assert peer[0] == "v1" and peer[1] == "127.0.0.1" and len(peer[3]) == 22
    keys = [site.key]
    assert handoff1.verify_token(keys, request.token, request.binding, site.path, "user-42",
                                 handoff1.digest(data.encode())) == "ok"
    answer = future.result()
    assert answer.status == 200 and answer.body == b"handed off\n" and answer.leaks() == []


@pytest.mark.parametrize("size", [65536, 65537, 5_000_000])
def test_large_data(site, gate, size):
    future = site.ask(site.plan("x", form="body", repeat=size))
    handoff, = site.serve(gate)
    assert handoff.data == b"x" * size
    assert handoff.request.flags == (handoff1.FLAG_MEMFD if size > 65536 else 0)
    assert future.result().status == 200


def test_response_headers_travel(site, gate):
    lines = ["Set-Cookie: a=1", "Set-Cookie: b=2; Path=/", "Access-Control-Allow-Origin: *", "X-Request-Id: 7",
             "Content-Type: text/event-stream", "ETag: \"1\"", "Content-Encoding: gzip", "Content-Length: 5",
             "Connection: keep-alive", "Keep-Alive: timeout=5", "Trailer: X"]
    future = site.ask(site.plan(add=lines, status=201))
    handoff, = site.serve(gate)
    headers = [(name.lower(), value) for name, value in handoff.request.headers()]
    assert handoff.request.status == 201
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2; Path=/"]
    assert ("access-control-allow-origin", "*") in headers and ("x-request-id", "7") in headers
    assert [value for name, value in headers if name == "content-type"] in (
        [["text/event-stream"]], ["text/event-stream"], ["text/event-stream;charset=UTF-8"])
    forbidden = {"etag", "content-encoding", "content-length", "connection", "keep-alive", "trailer",
                 "transfer-encoding"}
    assert not forbidden & {name for name, _ in headers}
    assert not [name for name, _ in headers if "handoff" in name]
    assert future.result().status == 200


def test_filters_of_the_configuration(site, gate):
    """mod_headers' values travel, mod_deflate changes neither data nor headers, and a control header set here counts
    for nothing."""
    future = site.ask(site.plan("{}" * 1000, form="body"), path="/dressed/app.php", headers={"Accept-Encoding": "gzip"})
    handoff, = site.serve(gate)
    headers = dict(handoff.request.headers())
    assert headers["X-Set"] == "set" and headers["X-Always"] == "always"
    assert "Content-Encoding" not in headers and handoff.data == b"{}" * 1000
    assert future.result().status == 200


def test_head(site, gate):
    sock = site.raw(f"HEAD {site.target(site.plan())} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    handoff = gate.receive()
    assert handoff.request.method == b"HEAD"
    handoff.accept()
    handoff.client.setblocking(True)
    handoff.client.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    handoff.close()
    assert read_all(sock) == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def test_http10(site, gate):
    sock = site.raw(f"GET {site.target(site.plan())} HTTP/1.0\r\n\r\n".encode())
    handoff, = site.serve(gate)
    assert handoff.request.protocol == b"HTTP/1.0"
    assert read_all(sock).endswith(b"handed off\n")


@pytest.mark.parametrize("path", ["/index/", "/fallback/some/where", "/rewritten/page", "/errors/missing"])
def test_binding_on_every_route(site, gate, path):
    """The binding is that of the request that is answered, whatever the configuration made of it on the way."""
    future = site.ask(site.plan(), path=path)
    handoff, = site.serve(gate)
    assert handoff.request.target.decode().startswith(path)
    assert handoff.request.status == (404 if path.startswith("/errors") else 200)
    assert future.result().status == 200


def test_notes(site, gate):
    future = site.ask(site.plan(status=202))
    handoff = gate.receive()
    handoff.accept(2**63 + 5)
    handoff.answer()
    future.result()
    wait_for(lambda: "202 0 accepted 9223372036854775813" in site.notes(), 5, "the note in the access log")


# ---------------------------------------------------------------- the connection

def test_unread_body_and_early_flush(site, gate):
    """What the application has not read of the request is read before the socket leaves, not split between two."""
    for late in ("unread", "read"):
        target = site.target(site.plan(late=late))
        for head in (b"Content-Length: 300000\r\n\r\n" + b"b" * 300000,
                     b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"b" * 4096 + b"\r\n0\r\n\r\n"):
            sock = site.raw(f"POST {target} HTTP/1.1\r\nHost: a\r\n".encode() + head)
            site.serve(gate)
            assert read_all(sock).endswith(b"\r\n\r\nhanded off\n")


def test_expect_continue(site, gate):
    sock = site.raw(f"POST {site.target(site.plan())} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    "Content-Length: 5\r\n\r\n".encode())
    assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
    sock.sendall(b"12345")
    site.serve(gate)
    assert read_all(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_after_other_requests(site, gate):
    """Keep-alive requests before it are answered by Apache, in order."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/plain.txt")
        assert connection.getresponse().read() == b"plain\n"
    connection.request("GET", site.target(site.plan()))
    site.serve(gate)
    assert Answer(connection.getresponse()).body == b"handed off\n"
    connection.close()


def test_pipelined(site, gate):
    """The answer before is whole, the request behind is dropped: the daemon closes the connection."""
    plain = b"GET /plain.txt HTTP/1.1\r\nHost: a\r\n\r\n"
    sock = site.raw(plain * 5 + f"GET {site.target(site.plan())} HTTP/1.1\r\nHost: a\r\n\r\n".encode() + plain)
    site.serve(gate)
    received = read_all(sock)
    assert received.count(b"plain\n") == 5 and received.count(b"HTTP/1.1 ") == 6
    assert received.endswith(b"\r\n\r\nhanded off\n")


def test_apache_lets_go(site, gate):
    """The worker is free while the daemon has the client, and nobody else holds the socket."""
    sock = site.raw(f"GET {site.target(site.plan())} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    handoff = gate.receive()
    handoff.accept()
    time.sleep(0.3)
    assert not ready(sock), "Apache shut the connection down"
    handoff.client.setblocking(True)
    handoff.client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nlate")
    handoff.close()
    sock.settimeout(1)  # the end of file comes with our close, not with a time-out of Apache's
    assert read_all(sock).endswith(b"late")


def test_connections_are_kept(site, gate):
    for _ in range(20):
        future = site.ask(site.plan())
        site.serve(gate)
        assert future.result().status == 200
    assert len(gate.connections) <= (1 if site.mpm == "event" else 16)


def test_no_descriptor_leaks(site, gate):
    def many(count):
        for _ in range(count):
            future = site.ask(site.plan("x", form="body", repeat=70000))
            site.serve(gate)
            assert future.result().status == 200
    many(40)
    before = site.descriptors() / len(site.workers())
    many(1000 if site.mpm == "event" else 200)
    wait_for(lambda: site.descriptors() / len(site.workers()) <= before + 3, 10, "as few descriptors as before")


def test_many_at_once(site, gate, in_threads):
    def client():
        return site.fetch(site.target(site.plan())).body
    server = threading.Thread(target=site.serve, args=(gate, 200))
    server.start()
    assert in_threads([client] * 16 if site.mpm == "prefork" else [client] * 40) == \
        [b"handed off\n"] * (16 if site.mpm == "prefork" else 40)
    for _ in range(8):
        in_threads([client] * (23 if site.mpm == "prefork" else 20))
    server.join(15)
    assert not server.is_alive()


# ---------------------------------------------------------------- the daemon's answer

@pytest.mark.parametrize("status, reason, retry", [(403, "token-mac", 0), (429, "rate-limited", 7),
                                                   (503, "stopping", 0),
                                                   (400, "request-invalid", 0), (413, "data-too-large", 0)])
def test_refused_by_the_daemon(site, gate, status, reason, retry):
    site.expect("AHSH0102")
    mark = site.error_log.position()
    future = site.ask(site.plan(add=["X-Application: a"]))
    handoff = gate.receive()
    handoff.refuse(status, reason, retry)
    handoff.close()
    answer = future.result()
    assert answer.status == status and answer.leaks() == [] and answer.header("x-application") is None
    assert answer.header("retry-after") == (str(retry) if retry else "1" if status == 503 else None)
    assert site.reasons(mark) == [reason]


def test_sent_again_after_end_of_file(site, gate):
    future = site.ask(site.plan())
    gate.receive().close()
    site.serve(gate)
    assert future.result().body == b"handed off\n"


def test_end_of_file_each_time(site, gate):
    site.expect("reason=daemon-unreachable")
    future = site.ask(site.plan())
    for _ in range(3):
        gate.receive().close()
    answer = future.result()
    assert answer.status == 503 and answer.header("retry-after") == "1"
    assert site.quiet(gate)


def test_no_answer(site, gate):
    """The module stops waiting, answers itself, and the daemon can no longer accept."""
    site.expect("reason=daemon-timeout")
    future = site.ask(site.plan(), path="/hurried/app.php")
    handoff = gate.receive()
    answer = future.result()
    assert answer.status == 503 and answer.header("retry-after") == "1" and answer.leaks() == []
    with pytest.raises(BrokenPipeError):
        handoff.accept()
    handoff.close()


def test_answer_of_rubbish(site, gate):
    """Who owns the client is not known: Apache does not write, and does not keep it."""
    site.expect("AHSH0103")
    future = site.ask(site.plan())
    handoff = gate.receive()
    handoff.reply_socket.send(b"rubbish")
    time.sleep(0.2)
    assert not future.done()
    handoff.close()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        future.result()


def test_rogue_listener(site):
    """Another user on the path gets a connection and not a byte."""
    site.expect("reason=daemon-peer")
    mark = site.error_log.position()
    with as_uid(ROGUE_UID):
        rogue = site.listener()
    with rogue:
        answer = site.fetch(site.target(site.plan()))
        assert rogue.accept().recv(10) == b""
    assert answer.status == 503 and answer.leaks() == [] and site.reasons(mark) == ["daemon-peer"]


def test_rogue_takes_the_path_over(site):
    """Connections that were checked stay with whom they were checked for; new ones are checked again."""
    site.expect("reason=daemon-peer")
    gate = site.listener()
    future = site.ask(site.plan())
    site.serve(gate)
    assert future.result().status == 200
    gate.close()
    with as_uid(ROGUE_UID):
        rogue = site.listener()
    with rogue:
        assert site.fetch(site.target(site.plan())).status == 503
        assert rogue.accept().recv(10) == b""


@pytest.mark.parametrize("moves", ["socket", "folder"])
def test_path_that_changes_while_it_is_checked(site, moves):
    """Somebody who may write there swaps the socket, or the folder that it is in, with a link to a listener outside of
    the prefix, all the time: each client is refused or reaches the right one, and nobody knocks outside."""
    site.expect("reason=path-forbidden", "reason=daemon-unreachable", "reason=daemon-timeout")
    folder, away = site.socket_folder / f"swapped-{moves}", site.folder / f"away-{moves}"
    folder.mkdir()
    away.mkdir()
    inside, path = site.socket_folder / "right.sock", folder / "chat.sock"
    there, link, new = (site.socket_folder / name for name in ("there", "link", "new"))
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            if moves == "socket":
                new.symlink_to(away / "chat.sock")
                new.replace(path)
                os.link(inside, new)
                new.replace(path)
            else:
                folder.rename(there)
                link.symlink_to(away)
                link.rename(folder)
                folder.unlink()
                there.rename(folder)
    with site.listener(inside) as gate, site.listener(away / "chat.sock") as outside:
        os.link(inside, path)
        swapper = threading.Thread(target=swap)
        swapper.start()
        served, refused = 0, 0
        try:
            futures = [site.ask(site.plan(socket_path=str(path), signing={"socket": str(path)})) for _ in range(300)]
            for future in futures:
                while not future.done():
                    with contextlib.suppress(TimeoutError):
                        site.serve(gate, timeout=0.05)
                    while gate.connections:  # none is kept: each client comes by the path
                        gate.connections.pop().close()
                served += future.result().status == 200
                refused += future.result().status in (403, 503)
        finally:
            stop.set()
            swapper.join()
        assert served + refused == 300 and served and refused, (served, refused)
        with pytest.raises(TimeoutError):
            outside.accept(0.1)


def test_daemon_restarts(site):
    """Kept connections of a daemon that is gone do not cost a request."""
    for _ in range(3):
        with site.listener() as gate:
            for _ in range(4):
                future = site.ask(site.plan())
                site.serve(gate)
                assert future.result().status == 200


def test_nobody_listens(site):
    site.expect("reason=daemon-unreachable")
    started = time.monotonic()
    answer = site.fetch(site.target(site.plan()))
    assert answer.status == 503 and answer.header("retry-after") == "1" and answer.leaks() == []
    assert 0.03 <= time.monotonic() - started < 2


def test_somebody_listens_a_moment_later(site):
    future = site.ask(site.plan(), path="/patient/app.php")
    time.sleep(0.015)
    with site.listener() as gate:
        handoff = gate.receive()
        handoff.accept()
        handoff.answer()
        assert future.result().status == 200


def fill(path) -> list:
    """Fill the backlog of a listener."""
    filled = []
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        filled.append(sock)
        try:
            sock.connect(path)
        except BlockingIOError:
            return filled


def test_full_backlog(site):
    """A connection waits for room instead of failing at once, and no longer than it may."""
    site.expect("reason=daemon-unreachable")
    with site.listener(backlog=1) as gate:
        filled = fill(site.path)
        started = time.monotonic()
        assert site.fetch(site.target(site.plan(), "/hurried/app.php")).status == 503
        assert 0.25 < time.monotonic() - started < 1.5
        future = site.ask(site.plan())
        time.sleep(0.1)
        for sock in filled:
            sock.close()
        site.serve(gate)
        assert future.result().status == 200


# ---------------------------------------------------------------- proxied backends

def test_forged_by_a_backend(site, gate):
    site.expect("reason=token-missing")
    answer = site.fetch("/backend/forged")
    assert answer.status == 403 and answer.leaks() == [] and site.quiet(gate)


def test_backend_sees_no_forged_header(site):
    headers = {name: "forged" for name in ("X-Handoff-Token", "X_Handoff_Token", "Handoff-Binding", "HANDOFF_BINDING",
                                           "X_Socket_Handoff", "x-handoff_data")}
    shown = json.loads(site.fetch("/backend/show", headers={**headers, "X-Other": "kept"}).body)
    assert shown["X-Other"] == "kept" and "forged" not in shown.values()


def test_backend_dies_in_the_middle(site, gate):
    """Half a body is no data."""
    site.expect("proxy")
    try:
        answer = site.fetch("/backend/dies")
        assert answer.status >= 500 and answer.leaks() == []
    except (http.client.HTTPException, ConnectionError):
        pass
    assert site.quiet(gate)


def test_error_page_instead_of_a_backends(site, gate):
    answer = site.fetch("/overridden/404-forged")
    assert answer.status == 404 and answer.leaks() == [] and site.quiet(gate)


def test_trailers(site):
    if site.php != "mod":
        pytest.skip("a program behind FastCGI never sees a trailer")
    sock = site.raw(f"POST {site.target({'merged': 1})} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
                    "X-Handoff-Token: forged\r\nX_Handoff_Data: forged\r\nX-Other: kept\r\n\r\n".encode())
    received = read_all(sock)
    assert b"kept" in received and b"forged" not in received


# ---------------------------------------------------------------- what cannot travel

@pytest.fixture(scope="module")
def tls(env, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    port = env.port()
    conf = f"Protocols h2c http/1.1\n<VirtualHost 127.0.0.1:{port}>\nSSLEngine On\n" \
        f"SSLCertificateFile {folder}/cert.pem\nSSLCertificateKeyFile {folder}/key.pem\n</VirtualHost>\n"
    with Site(env, "event", conf, listen=[f"127.0.0.1:{port}"], more_modules=["http2"]) as site:
        site.tls_port = port
        yield site


def test_tls_is_not_handed_off(tls):
    tls.expect("reason=not-transferable")
    with tls.listener() as gate:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", tls.tls_port, timeout=10, context=context)
        connection.request("GET", tls.target(tls.plan()))
        answer = Answer(connection.getresponse())
        connection.close()
        assert answer.status == 500 and answer.leaks() == [] and tls.quiet(gate)


def test_http2_is_not_handed_off(tls):
    tls.expect("reason=not-transferable")
    with tls.listener() as gate:
        result = subprocess.run(["curl", "-s", "-i", "--http2-prior-knowledge", "--max-time", "10",
                                 f"http://127.0.0.1:{tls.port}{tls.target(tls.plan())}"],
                                capture_output=True, text=True)
        assert result.stdout.startswith("HTTP/2 500") and "handoff" not in result.stdout.lower()
        assert tls.quiet(gate)


# ---------------------------------------------------------------- raw mode

RAW = "SocketHandoffProtocol raw\nSocketHandoffRequireToken Off\n<Location /peer>\nSocketHandoffPeer 0\n</Location>\n" \
    "<Location /token>\nSocketHandoffRequireToken On\nSocketHandoffPeer 0\n</Location>\n" \
    "AliasMatch ^/(peer|token)/app.php @docroot@/app.php\n"


@pytest.fixture(scope="module", params=["event", "prefork"])
def raw_site(request, env):
    with Site(env, request.param, RAW, peer=None) as site:
        yield site


def raw_answer(listener, expected):
    data, client = listener.receive()
    assert data == expected
    client.setblocking(True)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nraw\n")
    client.close()


@pytest.mark.parametrize("path", ["/app.php", "/peer/app.php", "/token/app.php"])
@pytest.mark.parametrize("data", ['{"user_id":123,"prompt":"Hello"}', ""])
def test_raw(raw_site, path, data):
    with handoff1.RawListener(raw_site.path) as listener:
        future = raw_site.ask(raw_site.plan(data, sign=path.startswith("/token")), path=path)
        raw_answer(listener, data.encode() or b"\0")
        assert future.result().body == b"raw\n"


def test_raw_body(raw_site):
    with handoff1.RawListener(raw_site.path) as listener:
        future = raw_site.ask(raw_site.plan("x", form="body", repeat=100000, sign=False))
        raw_answer(listener, b"x" * 100000)
        assert future.result().body == b"raw\n"


def test_raw_without_token(raw_site):
    raw_site.expect("reason=token-missing")
    with handoff1.RawListener(raw_site.path) as listener:
        assert raw_site.fetch(raw_site.target(raw_site.plan(sign=False), "/token/app.php")).status == 403
        with pytest.raises(TimeoutError):
            listener.receive(0.1)


def test_raw_rogue(raw_site):
    raw_site.expect("reason=daemon-peer")
    with as_uid(ROGUE_UID):
        rogue = handoff1.RawListener(raw_site.path)
    with rogue:
        assert raw_site.fetch(raw_site.target(raw_site.plan(sign=False), "/peer/app.php")).status == 503
        rogue.sock.settimeout(1)
        connection, _ = rogue.sock.accept()
        with connection:
            assert connection.recv(10) == b""
