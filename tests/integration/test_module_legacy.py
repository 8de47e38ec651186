# SPDX-License-Identifier: Apache-2.0
"""Sites that ran the original module: its documented contract (headers, directives, statuses), and receivers in C,
Python and PHP that were written without any part of this project (tests/legacy), in raw mode through Apache."""
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import stat
import subprocess

import pytest

import handoff1
from env import ROOT, wait_for
from receiver import Answer, Site, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

LEGACY = ROOT / "tests" / "legacy"
# What such a site has, and the two lines that it needs now.
CONFIG = """
SocketHandoffProtocol raw
SocketHandoffRequireToken Off
SocketHandoffEnabled On
<Location /off>
    SocketHandoffEnabled Off
</Location>
AliasMatch ^/off/app.php$ @docroot@/app.php
AddOutputFilter INCLUDES .shtml
<Directory @docroot@>
    Options +Includes
</Directory>
<VirtualHost 127.0.0.1:@tls@>
    DocumentRoot @docroot@
    SSLEngine On
    SSLCertificateFile @certificate@/cert.pem
    SSLCertificateKeyFile @certificate@/key.pem
</VirtualHost>
"""


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env):
    port, folder = env.port(), env.folder("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=localhost", "-days", "2", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
                   check=True, capture_output=True)
    conf = CONFIG.replace("@tls@", str(port)).replace("@certificate@", str(folder))
    with Site(env, request.param, conf, peer=None, keys=None, listen=[f"127.0.0.1:{port}"]) as site:
        site.tls_port = port
        site.page("page.shtml", 'before<!--#include virtual="/emit.php" -->after\n')
        site.page("emit.php", f"<?php\nheader('X-Socket-Handoff: {site.path}');\n"
                  "header('X-Handoff-Data: {}');\necho 'part';\n")
        yield site


# ---------------------------------------------------------------- receivers

def program(env, language, path):
    """The command that starts a receiver at path."""
    if language == "c":
        binary = env.folder("legacy") / "receiver"
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-o", binary, LEGACY / "receiver.c"], check=True)
        return [binary, path, LEGACY / "handler.sh"]
    interpreter = {"python": "/usr/bin/python3", "php": shutil.which("php")}[language]
    if interpreter is None:
        pytest.skip("php-cli is not installed")
    if language == "php" and b"sockets" not in subprocess.run([interpreter, "-m"], capture_output=True).stdout:
        pytest.skip("PHP has no ext-sockets")
    return [interpreter, LEGACY / f"receiver.{'py' if language == 'python' else 'php'}", path]


@pytest.fixture(scope="module", params=["c", "python", "python stream", "php"])
def receiver(request, env, site):
    language, *kind = request.param.split()
    path = pathlib.Path(site.socket_folder / f"{''.join([language, *kind])}.sock")
    process = env.start([*program(env, language, path), *kind], env.folder("legacy-log") / "log")
    wait_for(lambda: path.exists() and stat.S_IMODE(path.stat().st_mode) == 0o666, 10, "the receiver's socket")
    yield str(path)
    process.stop()
    assert "rror" not in process.log() and "arning" not in process.log(), process.log()


@pytest.mark.parametrize("form, data, repeat", [
    ("header", '{"user_id":123,"prompt":"Hello"}', 1), ("header", "", 1), ("header", "x", 7000), ("body", "x", 100000),
    ("header", '{"prompt": "grüße, \\"x\\" $HOME `id`"}', 1)], ids=["json", "none", "long", "body", "text"])
def test_receiver(site, receiver, form, data, repeat):
    plan = site.plan(data, form=form, repeat=repeat, sign=False, socket_path=receiver)
    answer = site.fetch(site.target(plan))
    assert answer.status == 200 and answer.header("content-type") == "text/event-stream"
    assert answer.body == f"data: {data * repeat}\n\ndata: [DONE]\n\n".encode()


def test_receiver_after_a_body(site, receiver):
    """A POST whose body PHP read or not, and earlier requests: the receiver's client is ready to be answered."""
    for plan in (site.plan("{}", sign=False, socket_path=receiver),
                 site.plan("{}", sign=False, socket_path=receiver, read=1)):
        sock = site.raw(b"GET /plain.txt HTTP/1.1\r\nHost: a\r\n\r\n" +
                        f"POST {site.target(plan)} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode() +
                        b"b" * 100000)
        assert read_all(sock).endswith(b"\r\n\r\ndata: {}\n\ndata: [DONE]\n\n")


def test_receiver_many(site, receiver, in_threads):
    def client(number):
        return lambda: site.fetch(site.target(site.plan(f"{number}", sign=False, socket_path=receiver))).body
    assert in_threads([client(number) for number in range(20)]) == [
        f"data: {number}\n\ndata: [DONE]\n\n".encode() for number in range(20)]


# ---------------------------------------------------------------- the contract

@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM], ids=["seqpacket", "stream"])
def gate(site, request):
    with handoff1.RawListener(site.path, request.param) as gate:
        yield gate


@pytest.fixture
def stream(site):
    with handoff1.RawListener(site.path, socket.SOCK_STREAM) as gate:
        yield gate


def answer_raw(gate, expected):
    data, client = gate.receive()
    assert data == expected and client.type == socket.SOCK_STREAM and client.family == socket.AF_INET
    client.setblocking(True)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nraw\n")
    client.close()


# headers that the application sets -> (status for the client, bytes that the receiver gets, None: it gets nothing)
CONTRACT = {
    "path and data": (["X-Socket-Handoff: {path}", "X-Handoff-Data: {{\"a\":1}}"], 200, b'{"a":1}'),
    "path alone": (["X-Socket-Handoff: {path}"], 200, b"\0"),
    "lower case": (["x-socket-handoff: {path}", "x-handoff-data: d"], 200, b"d"),
    "upper case": (["X-SOCKET-HANDOFF: {path}", "X-HANDOFF-DATA: d"], 200, b"d"),
    "no path": (["X-Handoff-Data: d"], "page", None),
    "neither": ([], "page", None),
    "outside of the prefix": (["X-Socket-Handoff: {outside}"], 403, None),
    "out by dots": (["X-Socket-Handoff: {folder}/../outside.sock"], 403, None),
    "another folder": (["X-Socket-Handoff: /etc/passwd"], 403, None),
    "the folder itself": (["X-Socket-Handoff: {folder}"], 403, None),
    "relative": (["X-Socket-Handoff: chat.sock"], 403, None),
    "nobody there": (["X-Socket-Handoff: {folder}/nobody.sock"], 503, None),
    "nobody listens any more": (["X-Socket-Handoff: {folder}/stale.sock"], 503, None),
    "a name too long": (["X-Socket-Handoff: {folder}/" + "x" * 120], 403, None),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_contract(site, gate, name):
    lines, status, data = CONTRACT[name]
    stale = site.socket_folder / "stale.sock"
    if not stale.exists():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(stale))
        stale.chmod(0o666)
    site.expect("AHSH0101")
    lines = [line.format(path=site.path, folder=site.socket_folder, outside=site.outside) for line in lines]
    future = site.pool.submit(site.fetch, site.target({"headers": [*lines, "X-Application: a"], "output": "the page"}))
    if data is not None:
        answer_raw(gate, data)
    answer = future.result()
    assert answer.leaks() == []
    if status == "page":
        assert answer.status == 200 and answer.body == b"the page" and answer.header("x-application") == "a"
    else:
        assert answer.status == status and b"the page" not in answer.body and answer.header("x-application") is None
        assert answer.body == b"raw\n" or status != 200
    if data is None:
        with pytest.raises(TimeoutError):
            gate.receive(0.05)


def test_switched_off(site, gate):
    plan = {"headers": [f"X-Socket-Handoff: {site.path}", "X-Handoff-Data: d"], "output": "the page"}
    answer = site.fetch(site.target(plan, "/off/app.php"))
    assert answer.status == 200 and answer.body == b"the page" and answer.leaks() == []


def test_main_requests_only(site, gate):
    answer = site.fetch("/page.shtml")
    assert answer.status == 200 and answer.body == b"beforepartafter\n" and answer.leaks() == []
    with pytest.raises(TimeoutError):
        gate.receive(0.05)


def test_tls(site, gate):
    """The original passed the encrypted connection on; ours answers 500, as the original does when it cannot."""
    site.expect("reason=not-transferable")
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", site.tls_port), 10)) as sock:
        sock.sendall(b"GET /emit.php HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := sock.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 500 ") and b"andoff" not in received.partition(b"\r\n\r\n")[0]
    with pytest.raises(TimeoutError):
        gate.receive(0.05)


@pytest.mark.parametrize("status", [200, 201, 404, 500])
def test_any_status(site, gate, status):
    future = site.ask(site.plan("d", sign=False, status=status))
    answer_raw(gate, b"d")
    answer = future.result()
    assert isinstance(answer, Answer) and answer.body == b"raw\n"


@pytest.mark.parametrize("length", [65536, 65537, 200000])
def test_large_data(site, gate, length):
    future = site.ask(site.plan("x", form="body", repeat=length, sign=False))
    answer_raw(gate, b"x" * length)
    assert future.result().body == b"raw\n"


@pytest.mark.parametrize("length", [300000, 8 << 20])
def test_data_in_pieces(site, stream, length):
    """More than a stream takes at once goes on as the receiver reads."""
    future = site.ask(site.plan("x", form="body", repeat=length, sign=False))
    answer_raw(stream, b"x" * length)
    assert future.result().body == b"raw\n"


@pytest.mark.parametrize("length", [300000, 8 << 20])
def test_too_large_data(site, length):
    """More than one message can be: not a part of it with the client, and Apache answering as well."""
    site.expect("reason=data-too-large")
    with handoff1.RawListener(site.path) as gate:
        future = site.ask(site.plan("x", form="body", repeat=length, sign=False))
        with pytest.raises(handoff1.WireError, match="0 descriptors"):
            gate.receive()
        assert future.result().status == 413


@pytest.mark.parametrize("reads", [True, False], ids=["ends", "hangs"])
def test_receiver_that_stops_in_the_middle(site, stream, reads):
    """It has the client by then, or may have: Apache does not answer as well, and the connection ends."""
    site.expect("AHSH0103")
    mark = site.error_log.position()
    future = site.ask(site.plan("x", form="body", repeat=8 << 20, sign=False))
    connection, _ = stream.sock.accept()
    with connection:
        if reads:
            _, (client,) = handoff1.receive(connection, 1000)
            os.close(client)
        else:
            site.error_log.wait("AHSH0103", 5, mark)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        future.result()
    line, = site.error_log.wait("AHSH", 5, mark)
    assert "AHSH0103" in line and str(site.path) in line


def test_directives(env):
    """As they stand in the original's documentation."""
    for line in ("SocketHandoffEnabled On", "SocketHandoffEnabled Off", "SocketHandoffAllowedPrefix /run/",
                 "SocketHandoffConnectTimeoutMs 1", "SocketHandoffConnectTimeoutMs 60000", "SocketHandoffSendTimeoutMs 200",
                 "SocketHandoffSendTimeoutMs 60000", "SocketHandoffMaxRetries 0", "SocketHandoffMaxRetries 10"):
        conf = f"SocketHandoffProtocol raw\nSocketHandoffRequireToken Off\n{line}\n"
        assert Site.configtest(env, conf).returncode == 0, line
    for line in ("SocketHandoffConnectTimeoutMs 0", "SocketHandoffConnectTimeoutMs 60001", "SocketHandoffEnabled",
                 "SocketHandoffAllowedPrefix", "SocketHandoffSendTimeoutMs 0", "SocketHandoffMaxRetries 11",
                 "SocketHandoffMaxRetries x"):
        assert Site.configtest(env, f"SocketHandoffEnabled Off\n{line}\n").returncode != 0, line
