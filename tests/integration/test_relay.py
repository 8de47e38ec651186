# SPDX-License-Identifier: Apache-2.0
"""Clients whose socket cannot travel: over TLS and over HTTP/2 the answer comes back through Apache."""
import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import pytest

import handoff1
from env import (AS_ROOT, UID_APACHE, Apache, Authority, Handoffd, PhpFpm, ScriptedUpstream, get, parse_response, parse_sse,
                 request, sse_text, wait_for)
from streams import chunk

FIXED = "This is the demo backend of handoffd"
LONG = ("x" * 990 + ' "\\é€\n\t') * 300
PROTOCOLS = ["--http1.1", "--http2"]
SPEEDS = {"chat": 1, "slow": 100, "silent": 30000}  # listener: milliseconds between two words
OUTPUTS = ("text", "passthrough")  # further listeners, of an upstream's answers
PIECES = ["one", " grüß \U0001f600", "\n\tdata: \"x\"\r\n\r\n", " last"]


def in_pieces(connection) -> None:
    """An upstream: answers in PIECES, of which it leaves the last one and the end out when asked to break off."""
    connection.read_request()
    connection.head()
    pieces = PIECES[:-1] if connection.json["messages"][-1]["content"] == "break off" else PIECES
    for number, piece in enumerate(pieces):
        connection.chunk(b"event: message\nid: %d\ndata: %s\n\n" % (number, chunk(piece)))
    if pieces is PIECES:
        connection.done()


def tls_host(env, authority, port, lines="", address="127.0.0.1") -> str:
    certificate, key = authority.issue("IP:127.0.0.1", "DNS:localhost")
    return (f"Listen {address}:{port}\n<VirtualHost {address}:{port}>\nServerName localhost\nSSLEngine on\n"
            f"SSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}\nSocketHandoffRelay On\n{lines}\n</VirtualHost>\n")


class Site:
    """Apache with TLS and HTTP/2 at `port`, h2c at `plain`, in front of handoffd with a backend for each speed."""

    def __init__(self, env, fpm):
        self.authority = Authority(env, "relay")
        self.port = env.port()
        speeds = {name: {"type": "demo", "delay": delay} for name, delay in SPEEDS.items()}
        listens = {name: {"backend": name, "relay": True} for name in SPEEDS}
        listens["closed"] = {"backend": "chat"}
        self.upstream = ScriptedUpstream(in_pieces)
        for output in OUTPUTS:
            speeds[output] = {"type": "openai", "upstream": "up", "model": "m", "output": output}
            listens[output] = {"backend": output, "relay": True}
        self.daemon = Handoffd(env, speeds, listens, {"up": {"url": self.upstream.url}},
                               allow_peer=(UID_APACHE, *([0] if AS_ROOT else [])))
        self.notes = env.folder("notes") / "notes.log"
        conf = (f'LogFormat "%{{handoff-result}}n %{{handoff-id}}n %>s %X %U" notes\nCustomLog "{self.notes}" notes\n'
                "Protocols h2 h2c http/1.1\nH2MinWorkers 20\nH2MaxWorkers 40\n"
                "<Location /off/>\nSocketHandoffRelay Off\n</Location>\n"
                "<Location /few/>\nSocketHandoffRelayMax 2\n</Location>\n"
                "<Location /deflated/>\nSetOutputFilter DEFLATE\nHeader always set X-Always yes\n</Location>\n")
        host = tls_host(env, self.authority, self.port, 'CustomLog "%s" notes' % self.notes)
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=self.daemon.keys, modules=("ssl", "http2", "deflate"),
                             conf=conf + "SocketHandoffRelay On\n" + host)
        self.url = f"https://127.0.0.1:{self.port}"
        for listener in listens:
            for folder in ("", "off/", "few/", "deflated/"):
                self.apache.chat_page(self.daemon, f"{folder}{listener}.php", listener)
        self.apache.emit_page(self.daemon.keys.key)

    def stop(self):
        self.apache.stop()
        self.daemon.stop()
        self.upstream.stop()
        assert not self.upstream.errors, self.upstream.errors

    def curl(self, *arguments, timeout=30) -> subprocess.CompletedProcess:
        return subprocess.run(["curl", "-sS", "-N", "--noproxy", "*", "--max-time", str(timeout), "--cacert",
                               self.authority.ca_file, *map(str, arguments)], capture_output=True, timeout=timeout + 5)

    def ask(self, protocol, target, *arguments):
        """One exchange; (head lines in lower case, body) of what curl -i showed."""
        done = self.curl("-i", protocol, *arguments, self.url + target)
        assert done.returncode == 0, done.stderr
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/2 " if protocol == "--http2" else "HTTP/1.1 "), lines
        assert not re.search(r"(?im)^(x-handoff|x-socket-handoff|handoff-binding)", "\n".join(lines))
        return int(lines[0].split(" ")[1]), [line.lower() for line in lines[1:]], body

    def text(self, protocol, target, *arguments):
        status, _, body = self.ask(protocol, target, *arguments)
        assert status == 200, body
        return sse_text(parse_sse(body)).partition("\n\n" + FIXED)[0]

    def start(self, protocol, target) -> "Running":
        return Running(self, protocol, target)

    def tls(self):
        context = ssl.create_default_context(cafile=self.authority.ca_file)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), 10), server_hostname="localhost")

    def stream_end(self, since, timeout=10) -> str:
        return self.daemon.log.wait("event=stream-end", timeout, since)[0]

    def noted(self, since=0) -> list:
        return self.notes.read_text()[since:].splitlines()


class Running:
    """curl, reading a stream; with killed() it leaves as a browser that was closed."""

    def __init__(self, site, protocol, target):
        self.output = b""
        self.popen = subprocess.Popen(["curl", "-sS", "-N", "--noproxy", "*", "--cacert", site.authority.ca_file, protocol,
                                       site.url + target], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def read_until(self, needle: bytes) -> bytes:
        while needle not in self.output:
            piece = os.read(self.popen.stdout.fileno(), 65536)
            assert piece, (self.output, self.popen.stderr.read())
            self.output += piece
        return self.output

    def times(self) -> list:
        """[(seconds since the first, bytes)] of each read to the end."""
        found, first = [], None
        while piece := os.read(self.popen.stdout.fileno(), 65536):
            first = first or time.monotonic()
            found.append((time.monotonic() - first, piece))
        return found

    def killed(self):
        self.popen.kill()
        self.end()

    def end(self) -> int:
        self.output += self.popen.communicate(timeout=60)[0]
        return self.popen.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture(scope="module", name="site")
def fixture_site(env, fpm):
    site = Site(env, fpm)
    yield site
    site.stop()


# ---------------------------------------------------------------- the same page

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_same_page(site, protocol):
    since = site.daemon.log.position()
    status, head, body = site.ask(protocol, "/chat.php?prompt=one+two&tag=t1&subject=user-42")
    assert status == 200
    assert sse_text(parse_sse(body)).startswith("one two\n\n" + FIXED)
    assert "content-type: text/event-stream; charset=utf-8" in head and "x-request-tag: t1" in head
    assert "set-cookie: seen=yes" in head and "cache-control: no-cache" in head
    for name in ("date", "content-type", "set-cookie", "server"):
        assert sum(line.startswith(name + ":") for line in head) <= 1, head
    assert not any(line.startswith(("expires:", "content-length:", "content-encoding:")) for line in head), head
    end = site.stream_end(since)
    assert re.search(r"subject=user-42 .*status=200 .*outcome=done relay=yes", end), end
    number = re.search(r"\bid=(\d+) ", end).group(1)
    # Apache writes its line when it is done with the connection: an earlier request's may be the last for a while.
    noted = wait_for(lambda: [line for line in site.noted() if f" {number} " in line], 3)[-1]
    assert re.fullmatch(rf"relayed {number} 200 [-+X] /chat\.php", noted), noted


def test_plain_clients_still_travel(site):
    """On the same page, with the relay on: HTTP/1.1 without TLS goes by its own socket."""
    since = site.daemon.log.position()
    assert request(site.apache.port, "/chat.php?prompt=plain").text().startswith("plain\n\n")
    assert " relay=no" in site.stream_end(since)


def test_http2_without_tls(site):
    since = site.daemon.log.position()
    done = site.curl("--http2-prior-knowledge", f"{site.apache.url}/chat.php?prompt=cleartext")
    assert done.returncode == 0, done.stderr
    assert sse_text(parse_sse(done.stdout)).startswith("cleartext\n\n")
    assert " relay=yes" in site.stream_end(since)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_status_and_headers_travel(site, protocol):
    target = site.apache.emit(path=site.daemon.path("chat"), data='{"prompt":"x"}', status=201, headers=[
        "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", "Access-Control-Allow-Origin: *", "Content-Length: 3",
        "Content-Type: text/html", "ETag: \"x\"", "Cache-Control: private"])
    status, head, body = site.ask(protocol, target)
    assert status == 201 and sse_text(parse_sse(body)).startswith("x\n\n")
    assert [line for line in head if line.startswith("set-cookie:")] == ["set-cookie: a=1; path=/", "set-cookie: b=2"]
    assert "access-control-allow-origin: *" in head and "cache-control: private" in head
    assert "content-type: text/event-stream; charset=utf-8" in head
    assert not any(line.startswith(("etag:", "content-length:")) for line in head), head


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_prompt(site, protocol):
    """300 KB: it travels in a memfd, and the answer is that long too."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(LONG.encode())
        file.flush()
        assert site.text(protocol, "/chat.php", "--data-binary", f"@{file.name}") == LONG


# ---------------------------------------------------------------- other forms than content

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_text(site, protocol):
    since = site.daemon.log.position()
    status, head, body = site.ask(protocol, "/text.php?prompt=x")
    assert status == 200 and body == "".join(PIECES).encode()
    assert "content-type: text/plain; charset=utf-8" in head
    assert re.search(r"backend=text .*outcome=done relay=yes", site.stream_end(since))


@pytest.mark.parametrize("protocol, status", [("--http1.1", 18), ("--http2", 92)])
def test_text_that_breaks_off(site, protocol, status):
    """Text has no place for an error: that the answer is not whole shows by its framing."""
    site.apache.expect("AHSH0104")
    done = site.curl(protocol, f"{site.url}/text.php?prompt=break+off")
    assert done.returncode == status, done.stderr
    # mod_http2 leaves out what it has not sent yet.
    assert "".join(PIECES[:-1]).encode().startswith(done.stdout) and (protocol == "--http2" or done.stdout)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_passthrough(site, protocol):
    status, head, body = site.ask(protocol, "/passthrough.php?prompt=x")
    assert status == 200 and "content-type: text/event-stream; charset=utf-8" in head
    *events, done = body.split(b"\n\n")[:-1]
    assert done == b"data: [DONE]"
    assert events == [b"event: message\nid: %d\ndata: %s" % (number, chunk(piece)) for number, piece in enumerate(PIECES)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_passthrough_that_breaks_off(site, protocol):
    """The stream itself ends in order, with an event that says that the answer does not."""
    status, _, body = site.ask(protocol, "/passthrough.php?prompt=break+off")
    *events, error = body.split(b"\n\n")[:-1]
    assert status == 200 and len(events) == len(PIECES) - 1
    assert error.startswith(b"event: error\ndata: {") and b"[DONE]" not in body


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refusal_of_the_daemon_is_a_status(site, protocol):
    site.apache.expect("AHSH0102.*reason=request-invalid")
    status, _, body = site.ask(protocol, site.apache.emit(path=site.daemon.path("chat"), data="no json"))
    assert status == 400 and b"AHSH" not in body


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_head(site, protocol):
    since = site.daemon.log.position()
    target = site.apache.emit(path=site.daemon.path("chat"), data='{"prompt":"x"}')
    status, head, body = site.ask(protocol, target, "--head")
    assert (status, body) == (200, b"") and "content-type: text/event-stream; charset=utf-8" in head
    assert not any(line.startswith("content-length:") for line in head)
    assert "outcome=done relay=yes" in site.stream_end(since)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_range_is_not_for_streams(site, protocol):
    status, _, body = site.ask(protocol, "/chat.php?prompt=ranged", "-r", "0-9")
    assert status == 200 and sse_text(parse_sse(body)).startswith("ranged\n\n")


def test_http_1_0_over_tls(site):
    with site.tls() as client:
        client.sendall(get("/chat.php?prompt=old", version="1.0"))
        raw = b"".join(iter(lambda: client.recv(65536), b""))
    response = parse_response(raw)
    assert response.header("Transfer-Encoding") is None and response.text().startswith("old\n\n")


def test_keep_alive_goes_on(site):
    """httpd still owns the connection: a page, a stream, a page."""
    with site.tls() as client:
        client.settimeout(10)
        for number in range(3):
            client.sendall(get(f"/chat.php?prompt=turn{number}", [("Connection", "keep-alive")]))
            raw = b""
            while not raw.endswith(b"\r\n0\r\n\r\n"):
                piece = client.recv(65536)
                assert piece, raw
                raw += piece
            response = parse_response(raw)
            assert response.text().startswith(f"turn{number}\n\n")
            assert response.header("Connection") != "close"


# ---------------------------------------------------------------- flushing

@pytest.mark.parametrize("folder", ["", "deflated/"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_piece_comes_at_once(site, protocol, folder):
    """A word each 100 ms; a filter that compresses does not hold them back, nor makes heaps of them."""
    target = f"/{folder}slow.php?prompt=a+b+c+d"
    with site.start(protocol, target) as running:
        reads = running.times()
        assert running.end() == 0
    words = [(seconds, name) for seconds, piece in reads for name in re.findall(rb'"content":"([^"]*)"', piece)]
    assert len(words) >= 10
    assert len({seconds for seconds, _ in words}) > len(words) / 2, words
    assert words[-1][0] - words[0][0] > (len(words) - 1) * 0.1 * 0.7, words


def test_deflate_does_not_touch_it(site):
    status, head, body = site.ask("--http2", "/deflated/chat.php?prompt=plain", "-H", "Accept-Encoding: gzip")
    assert status == 200 and sse_text(parse_sse(body)).startswith("plain\n\n")
    assert not any(line.startswith("content-encoding") for line in head) and "x-always: yes" in head


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_head_comes_before_the_first_word(site, protocol):
    with tempfile.NamedTemporaryFile() as head:
        popen = subprocess.Popen(["curl", "-sS", "-N", "--noproxy", "*", "-k", protocol, "-D", head.name, "-o", "/dev/null",
                                  site.url + "/silent.php?prompt=x+y"])
        try:
            wait_for(lambda: b"text/event-stream" in open(head.name, "rb").read(), 3, "the head")
        finally:
            popen.kill()
            popen.wait()


def test_slow_reader(site):
    """All buffers on the way are full for a while: nothing is lost."""
    long = ("y" * 19999 + " ") * 400
    before = site.daemon.counters("streamer", "chat").get("handoffd_pauses_total", 0)
    with site.tls() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(get("/chat.php", method="POST", body=long.encode()))
        wait_for(lambda: site.daemon.counters("streamer", "chat").get("handoffd_pauses_total", 0) > before, 15, "a full socket")
        raw = b"".join(iter(lambda: client.recv(65536), b""))
    assert parse_response(raw).text().startswith(long.rstrip())


def test_slow_reader_over_http2(site):
    with tempfile.NamedTemporaryFile() as file:
        file.write(LONG.encode() * 3)
        file.flush()
        assert site.text("--http2", "/chat.php", "--limit-rate", "500K", "--data-binary", f"@{file.name}") == LONG * 3


def test_graceful_restart(site):
    """A stream of the old children goes on."""
    with site.start("--http2", "/slow.php?prompt=before+" + "and+" * 10) as running:
        running.read_until(b'"before"')
        site.apache.graceful()
        assert site.text("--http1.1", "/chat.php?prompt=after") == "after"
        assert running.end() == 0
        assert sse_text(parse_sse(running.output)).startswith("before and and")


def test_ten_streams_on_one_connection(site):
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for number in range(10):
            prompt = f"stream{number}+" + "w%d+" % number * (5 + number)
            arguments += [f"{site.url}/slow.php?prompt={prompt}", "-o", f"{folder}/{number}"]
        started = time.monotonic()
        done = site.curl("--http2", "--parallel", "-w", "%{local_port}\n", *arguments)
        seconds = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        ports = done.stdout.split()
        assert len(ports) == 10 and len(set(ports)) == 1, f"not one connection: {ports}"
        for number in range(10):
            with open(f"{folder}/{number}", "rb") as file:
                text = sse_text(parse_sse(file.read()))
            expected = f"stream{number} " + f"w{number} " * (5 + number)
            assert text.partition("\n\n" + FIXED)[0] == expected.rstrip() or text.startswith(expected), text[:100]
        assert seconds < 14, "one after the other"


@pytest.mark.parametrize("line, said", [
    ("SocketHandoffRelay maybe", 'SocketHandoffRelay: "maybe" is neither On nor Off'),
    ("SocketHandoffRelayMax 0", 'SocketHandoffRelayMax: "0" is not a whole number from 1 to 100000'),
    ("SocketHandoffRelayMax 100001", "from 1 to 100000")])
def test_wrong_directives(env, line, said):
    done = Apache.configtest(env, f"SocketHandoffEnabled Off\n{line}")
    assert done.returncode != 0 and said in done.stderr


# ---------------------------------------------------------------- the client leaves

@pytest.mark.parametrize("listener", ["slow", "silent"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hang_up_is_noticed(site, protocol, listener):
    """Between two words, and in a long silence."""
    since = site.daemon.log.position()
    with site.start(protocol, f"/{listener}.php?prompt=one+two+" + "more+" * 50) as running:
        running.read_until(b'"one"')
        running.killed()
        killed = time.monotonic()
    end = site.stream_end(since, 1.5)
    assert time.monotonic() - killed < 4 and "outcome=client-gone" in end, end
    wait_for(lambda: site.apache.status()["BusyWorkers"] == "1", 3, "a free worker")


def test_one_stream_of_a_connection_is_cancelled(site):
    """The others on the connection go on."""
    since = site.daemon.log.position()
    with tempfile.TemporaryDirectory() as folder:
        # curl ends the first after two seconds, when it has taken less than it asks for.
        done = site.curl("--http2", "--parallel", "--parallel-max", "4", "-o", f"{folder}/a",
                         f"{site.url}/slow.php?prompt=short", "--next", "-N", "--http2", "--cacert",
                         site.authority.ca_file, "--max-time", "2", "-o", f"{folder}/b",
                         f"{site.url}/slow.php?prompt=" + "long+" * 100)
        assert done.returncode == 28, done.stderr
        with open(f"{folder}/a", "rb") as file:
            assert sse_text(parse_sse(file.read())).startswith("short\n\n")
    ends = site.daemon.log.wait("event=stream-end", 3, since, 2)
    assert any("outcome=client-gone" in end for end in ends) and any("outcome=done" in end for end in ends)


# ---------------------------------------------------------------- the daemon leaves

@pytest.mark.parametrize("protocol, status", [("--http1.1", 18), ("--http2", 92)])
def test_killed_streamer_is_visible(site, protocol, status):
    """A cut answer does not look like a whole one."""
    site.daemon.expect("event=crashed role=streamer")
    site.apache.expect("AHSH0104")
    since = site.notes.stat().st_size
    with site.start(protocol, "/slow.php?prompt=one+two+" + "more+" * 50) as running:
        running.read_until(b'" two"')
        site.daemon.kill("streamer", "slow")
        assert running.end() == status, running.output[-200:]
    assert b"[DONE]" not in running.output
    wait_for(lambda: any(line.startswith("relay-broken ") for line in site.noted(since)), 3, "the note")
    site.apache.expect("reason=(no-streamer|daemon-unreachable)")
    wait_for(lambda: site.ask(protocol, "/slow.php?prompt=again")[0] == 200, 5, "the next stream")


# ---------------------------------------------------------------- where it is not allowed

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_relay_off(site, protocol):
    site.apache.expect("AHSH0101.*reason=not-transferable")
    assert site.ask(protocol, "/off/chat.php?prompt=x")[0] == 500


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_listener_without_relay(site, protocol):
    since = site.daemon.log.position()
    site.apache.expect("AHSH0102.*reason=relay-forbidden")
    assert site.ask(protocol, "/closed.php?prompt=x")[0] == 403
    site.daemon.log.wait("event=refused reason=relay-forbidden", since=since)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_limit(site, protocol):
    site.apache.expect("AHSH0101.*reason=relay-limit")
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(site.start(protocol, "/few/silent.php?prompt=one+two")) for _ in range(2)]
        for one in running:
            one.read_until(b'"one"')
        status, head, _ = site.ask(protocol, "/few/chat.php?prompt=x")
        assert status == 503 and "retry-after: 1" in head
        assert site.ask(protocol, "/chat.php?prompt=x")[0] == 200, "another place has a limit of its own"
        running[0].killed()
        wait_for(lambda: site.ask(protocol, "/few/chat.php?prompt=x")[0] == 200, 3, "room again")


def test_limit_is_for_all_children(env, site, apache_factory):
    """One child serves one client here; a child that is killed does not take its place with it."""
    port = env.port()
    host = tls_host(env, site.authority, port, "SocketHandoffRelayMax 2")
    apache = apache_factory(mpm="prefork", php="mod", keys=site.daemon.keys, modules=("ssl",), conf=host, workers=8)
    apache.chat_page(site.daemon, "silent.php", "silent")
    apache.chat_page(site.daemon, "chat.php", "chat")
    apache.expect("reason=relay-limit", "AH00052")

    def ask():
        done = site.curl("-o", "/dev/null", "-w", "%{http_code}", f"https://127.0.0.1:{port}/chat.php?prompt=x")
        return done.stdout
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            one = subprocess.Popen(["curl", "-sSN", "--noproxy", "*", "-k", f"https://127.0.0.1:{port}/silent.php?prompt=a+b"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            stack.callback(one.communicate)
            stack.callback(one.kill)
            assert os.read(one.stdout.fileno(), 4096)
        assert ask() == b"503"
        busy = [pid for pid in apache.workers() if client_sockets(pid, port)]
        assert len(busy) == 2, busy
        os.kill(busy[0], signal.SIGKILL)
        wait_for(lambda: ask() == b"200", 5, "the place of the killed child")


def client_sockets(pid, port) -> list:
    """Descriptors of a process that are established TCP connections to our port."""
    inodes = set()
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port and fields[3] in ("01", "08"):
                inodes.add(f"socket:[{fields[9]}]")
    return [path for path in (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")) if path in inodes]


def test_php_is_free_during_the_relay(env, site, apache_factory):
    """With one PHP process, two streams at once: the handler is done before the answer comes."""
    port = env.port()
    fpm = PhpFpm(env, children_max=1)
    try:
        apache = apache_factory(php="fpm", fpm=fpm, keys=site.daemon.keys, modules=("ssl",),
                                conf=tls_host(env, site.authority, port))
        apache.chat_page(site.daemon, "silent.php", "silent")
        apache.chat_page(site.daemon, "chat.php", "chat")
        one = subprocess.Popen(["curl", "-sSN", "--noproxy", "*", "-k", f"https://127.0.0.1:{port}/silent.php?prompt=a+b"],
                               stdout=subprocess.PIPE)
        try:
            assert os.read(one.stdout.fileno(), 4096)
            done = site.curl(f"https://127.0.0.1:{port}/chat.php?prompt=second", timeout=5)
            assert done.returncode == 0 and sse_text(parse_sse(done.stdout)).startswith("second\n\n")
        finally:
            one.kill()
            one.communicate()
    finally:
        fpm.stop()


# ---------------------------------------------------------------- a daemon that does not keep to the form

def head_of(status=200, lines=b"Content-Type: text/plain\r\n", magic=b"HANDREL1", zero=0, more=b"") -> bytes:
    fields = struct.pack("<HHI", 1, 0, 2) + struct.pack("<H", status) + struct.pack("<HHI", 2, 0, len(lines)) + lines + more
    return magic + struct.pack("<IHH", 16 + len(fields), 2, zero) + fields


def piece_of(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


END = struct.pack("<I", 0)


@pytest.fixture(scope="module", name="bare")
def fixture_bare(env, fpm, site):
    """An Apache whose daemon is the test."""
    folder = env.folder("bare")
    port = env.port()
    conf = "Protocols h2 http/1.1\n" + tls_host(env, site.authority, port)
    apache = Apache(env, php="fpm", fpm=fpm, keys=site.daemon.keys, modules=("ssl", "http2"), peer=os.geteuid(), conf=conf)
    apache.emit_page(site.daemon.keys.key)
    with handoff1.Listener(folder / "bare.sock") as listener:
        listener.apache, listener.site = apache, site
        listener.url = f"https://127.0.0.1:{port}" + apache.emit(path=listener.path, data="{}")
        yield listener
    apache.stop()


class Exchange:
    """curl at one end, the test as daemon at the other."""

    def __init__(self, bare, protocol):
        self.popen = subprocess.Popen(["curl", "-sS", "-N", "-i", "--noproxy", "*", "-k", protocol, "--max-time", "30", bare.url],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.handoff = bare.receive()
        assert self.handoff.request.flags == handoff1.FLAG_RELAY
        assert self.handoff.client.family == socket.AF_UNIX and self.handoff.client.type == socket.SOCK_STREAM
        self.handoff.client.setblocking(True)

    def end(self):
        self.handoff.close()
        output, error = self.popen.communicate(timeout=40)
        head, _, body = output.partition(b"\r\n\r\n")
        return self.popen.returncode, int(head.split(b" ")[1]), head, body


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_byte_by_byte(bare, protocol):
    exchange = Exchange(bare, protocol)
    exchange.handoff.accept(7)
    for byte in head_of(lines=b"Content-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\n") + piece_of(b"he") + piece_of(b"llo") + END:
        exchange.handoff.client.send(bytes([byte]))
    code, status, head, body = exchange.end()
    assert (code, status, body) == (0, 200, b"hello")
    assert re.findall(rb"(?i)x-a: (\d)", head) == [b"1", b"2"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_short_answer_in_one_piece(bare, protocol):
    exchange = Exchange(bare, protocol)
    exchange.handoff.accept()
    exchange.handoff.client.sendall(head_of(429, b"Content-Type: application/json\r\nRetry-After: 7\r\n") + piece_of(b"{}") + END)
    code, status, head, body = exchange.end()
    assert (code, status, body) == (0, 429, b"{}") and b"etry-" in head


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sent", [
    b"", b"HANDREL1", head_of()[:-1], head_of(magic=b"HANDOFF1"), head_of(199), head_of(600), head_of(zero=1),
    head_of(lines=b"Content-Length: 3\r\n"), head_of(lines=b"X: a\r\n\r\n"), head_of(more=b"x"),
    b"HANDREL1" + struct.pack("<IHH", 0xffffffff, 2, 0)], ids=str)
def test_no_head(bare, protocol, sent):
    """Nothing has gone to the client yet: it gets a whole answer."""
    bare.apache.expect("AHSH0101.*reason=relay-broken")
    exchange = Exchange(bare, protocol)
    exchange.handoff.accept()
    exchange.handoff.client.sendall(sent)
    code, status, head, body = exchange.end()
    assert (code, status) == (0, 502), head


@pytest.mark.parametrize("protocol, expected", [("--http1.1", 18), ("--http2", 92)])
@pytest.mark.parametrize("sent", [b"", piece_of(b"one"), piece_of(b"one") + b"\0\0\0", piece_of(b"one")[:-1],
                                  piece_of(b"one") + END + b"more"], ids=str)
def test_cut(bare, protocol, expected, sent):
    bare.apache.expect("AHSH0104")
    since = bare.apache.error_log.position()
    exchange = Exchange(bare, protocol)
    exchange.handoff.accept()
    exchange.handoff.client.sendall(head_of() + piece_of(b"zero"))
    while b"zero" not in (piece := os.read(exchange.popen.stdout.fileno(), 4096)):
        assert piece
    exchange.handoff.client.sendall(sent)
    exchange.handoff.close()
    exchange.popen.communicate(timeout=40)
    assert exchange.popen.returncode == expected
    bare.apache.error_log.wait("AHSH0104", 5, since)  # the client may know before the log does


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answer_that_makes_no_sense(bare, protocol):
    """Nobody but Apache can write to a relayed client, so it may answer."""
    bare.apache.expect("AHSH0101.*reason=relay-broken")
    exchange = Exchange(bare, protocol)
    exchange.handoff.reply_socket.send(b"nonsense")
    assert exchange.end()[:2] == (0, 502)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_client_leaves_before_the_head(bare, protocol):
    exchange = Exchange(bare, protocol)
    exchange.handoff.accept()
    exchange.popen.kill()
    exchange.popen.communicate()
    exchange.handoff.client.settimeout(5)
    assert exchange.handoff.client.recv(1) == b"", "the relay's end was not closed"
    exchange.handoff.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_left_open(bare, protocol):
    for _ in range(3):
        test_byte_by_byte(bare, protocol)
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in bare.apache.workers()]
    for _ in range(20):
        test_byte_by_byte(bare, protocol)
    wait_for(lambda: sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in bare.apache.workers()) <= sum(before), 5,
             f"no more descriptors than {before}")


# ---------------------------------------------------------------- the gate

def hand_in(site, client, listener="chat", flags=handoff1.FLAG_RELAY, binding=None):
    """A relayed handoff at the gate: the Reply, or None when the connection was closed."""
    path = site.daemon.path(listener)
    binding = binding or handoff1.make_binding(("192.0.2.1", 4242))
    with handoff1.Sender(path) as sender:
        fields = handoff1.make_fields(None, path, b'{"prompt":"x"}', key=site.daemon.keys.key, binding=binding)
        return sender.send_fields(fields, client, flags).receive()


@pytest.mark.skipif(not AS_ROOT, reason="the test's own uid must be one that the gate allows")
class TestGate:
    def test_right_one(self, site):
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                assert hand_in(site, theirs).accepted
            ours.settimeout(5)
            raw = b"".join(iter(lambda: ours.recv(65536), b""))
        assert raw.startswith(b"HANDREL1") and raw.endswith(END)
        position, body = struct.unpack_from("<I", raw, 8)[0], b""
        while size := struct.unpack_from("<I", raw, position)[0]:
            body += raw[position + 4:position + 4 + size]
            position += 4 + size
        assert position + 4 == len(raw) and sse_text(parse_sse(body)).startswith("x\n\n")

    def refused(self, site, client, reason, **how):
        since = site.daemon.log.position()
        reply = hand_in(site, client, **how)
        site.daemon.log.wait(f"event=refused reason={reason} ", since=since)
        return reply

    def test_tcp_socket(self, site):
        with handoff1.tcp_pair() as pair:
            assert self.refused(site, pair.server, "client-socket") is None

    def test_wrong_kinds(self, site):
        seqpacket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with seqpacket, other, socket.socket(socket.AF_UNIX) as unconnected:
            assert self.refused(site, seqpacket, "client-socket") is None
            assert self.refused(site, unconnected, "client-socket") is None
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(folder + "/s")
            listening.listen(1)
            assert self.refused(site, listening, "client-socket") is None
            with socket.socket(socket.AF_UNIX) as connected:
                connected.connect(folder + "/s")
                assert self.refused(site, connected, "client-socket") is None

    def test_made_by_somebody_else(self, site):
        os.seteuid(UID_APACHE)
        try:
            ours, theirs = socket.socketpair()
        finally:
            os.seteuid(0)
        with ours, theirs:
            assert self.refused(site, theirs, "peer-forbidden") is None

    def test_flag_is_missing(self, site):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert self.refused(site, theirs, "client-socket", flags=0) is None

    def test_listener_without_relay(self, site):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert self.refused(site, theirs, "relay-forbidden", listener="closed").status == 403

    def test_binding_must_have_its_form(self, site):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert self.refused(site, theirs, "binding-malformed", binding="x").status == 403
