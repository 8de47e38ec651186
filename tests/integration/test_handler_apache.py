# SPDX-License-Identifier: Apache-2.0
"""Programs that answer, from end to end: a client, Apache, PHP that signs, gate, streamer, launcher and the program in
its cage."""
import os
import re

import pytest

from env import (AS_ROOT, Apache, Authority, Client, Handoffd, alive, curl, descendants, get, request, sse_text,
                 wait_for)
from test_relay import tls_host

pytestmark = [
    pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out"),
    pytest.mark.skipif(not AS_ROOT, reason="needs root: the roles become users of their own"),
]

# Runs its data.
PROGRAM = """
import os, signal, sys, time
def out(*pieces):
    for piece in pieces:
        while piece:
            piece = piece[os.write(1, piece):]
def head(*lines, status=b"200 OK"):
    out(b"HTTP/1.1 " + status + b"\\r\\n" + b"".join(line + b"\\r\\n" for line in lines) + b"\\r\\n")
exec(os.pread(3, os.fstat(3).st_size, 0))
"""

SECTIONS = {
    "http": {"mode": "http"},
    "cgi": {"mode": "cgi"},
    "text": {"mode": "text"},
    "sse": {"mode": "sse"},
    "single": {"mode": "http", "concurrency": 1, "queue": 0},
    "short": {"mode": "http", "wall-time": 1, "kill-grace": 0},
}


class Site:
    """Apache over HTTP at `port` and over TLS at `tls_port`, PHP, and a handler section for each mode."""

    def __init__(self, env, fpm):
        program = env.folder("programs") / "program.py"
        program.write_text(PROGRAM)
        command = ["/usr/bin/python3", "-I", "-S", str(program)]
        self.daemon = Handoffd(env, backends={name: {"type": "handler", "handler": name} for name in SECTIONS},
                               listens={name: {"backend": name, "relay": True} for name in SECTIONS},
                               handlers={name: {"command": command, **options} for name, options in SECTIONS.items()})
        self.authority, self.tls_port = Authority(env, "handlers"), env.port()
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=self.daemon.keys, modules=("ssl",),
                             conf=tls_host(env, self.authority, self.tls_port))
        self.apache.emit_page(self.daemon.keys.key)
        self.apache.page("post.php", f"""<?php
require '{env.php_src}/autoload.php';
$handoff = new Handoffd\\Handoff(new Handoffd\\Signer('{self.daemon.keys.file(self.apache.php_uid)}'));
$handoff->send('{self.daemon.path("http")}', file_get_contents('php://input'));
""")
        self.port = self.apache.port

    def target(self, section, code, **plan) -> str:
        """What to ask for, so that a section's program runs this code. body=False: it travels in a header line."""
        return self.apache.emit(**{"path": self.daemon.path(section), "data": code, "body": True, **plan})

    def ask(self, section, code, **plan):
        return request(self.port, self.target(section, code, **plan), timeout=20)

    def exited(self, since) -> str:
        return self.daemon.log.wait("event=handler-exited", 15, since)[0]

    def programs(self) -> list:
        """The pids of all that launchers have started."""
        return [pid for launcher in self.daemon.roles()["launcher"] for pid in descendants(launcher) if alive(pid)]

    def stop(self):
        self.apache.stop()
        self.daemon.stop()


@pytest.fixture(scope="module")
def site(env, fpm):
    made = Site(env, fpm)
    yield made
    made.stop()


# ---------------------------------------------------------------- modes

def test_http(site):
    since = site.daemon.log.position()
    response = site.ask("http", 'head(b"Content-Type: text/html", b"X-Program: yes", status=b"201 Made"); out(b"<p>hello")')
    assert (response.status, response.body.decode()) == (201, "<p>hello")
    assert response.header("Content-Type") == "text/html" and response.header("X-Program") == "yes"
    assert response.header("Connection") == "close" and response.header("Date")
    assert re.search(r"handler=http status=0 limit=none", site.exited(since))


def test_headers_of_the_application_travel(site):
    target = site.target("http", 'head(b"Content-Type: text/plain"); out(b"x")', headers=["Set-Cookie: a=b", "X-Page: one"])
    response = request(site.port, target)
    assert response.all("Set-Cookie") == ["a=b"] and response.header("X-Page") == "one"


def test_content_length_is_kept(site):
    response = site.ask("http", 'head(b"Content-Type: text/plain", b"Content-Length: 5"); out(b"exact")')
    assert response.header("Content-Length") == "5" and response.header("Transfer-Encoding") is None
    assert response.body.decode() == "exact"


def test_cgi(site):
    response = site.ask("cgi", r'out(b"Status: 404 Nowhere\nContent-Type: text/plain\n\nnot here")')
    assert (response.status, response.header("Content-Type"), response.body.decode()) == (404, "text/plain", "not here")


def test_text(site):
    response = site.ask("text", r'out("gr\u00fc\u00dfe\n".encode(), b"\xff")')
    assert response.header("Content-Type").lower().replace(" ", "") == "text/plain;charset=utf-8"
    assert response.body.decode() == "grüße\n\ufffd"


def test_sse(site):
    response = site.ask("sse", r'out(b"one\ntwo"); time.sleep(0.1); out(b" three")')
    assert response.header("Content-Type").startswith("text/event-stream")
    assert sse_text(response.events()) == "one\ntwo three"


@pytest.mark.parametrize("section, code", [
    ("http", 'head(b"Content-Type: text/plain", b"Content-Length: 5"); out(b"never")'),
    ("cgi", r'out(b"Content-Type: text/plain\n\nnever")'),
    ("text", 'out(b"never")'),
    ("sse", 'out(b"never")'),
])
def test_head_has_no_body(site, section, code):
    with Client(site.port) as client:
        client.send(get(site.target(section, code, body=False), method="HEAD"))
        raw = client.read_all()
    assert raw.startswith(b"HTTP/1.1 200 ") and raw.endswith(b"\r\n\r\n") and b"never" not in raw


# ---------------------------------------------------------------- what the program knows

def test_facts(site):
    response = site.ask("http", 'head(b"Content-Type: text/plain")\n'
                        'for name in sorted(os.environ):\n'
                        '    if name != "HANDOFF_DATA": out(f"{name}={os.environ[name]}\\n".encode())', subject="user-1")
    facts = dict(line.split("=", 1) for line in response.body.decode().splitlines())
    assert facts["HANDOFF_METHOD"] == "GET" and facts["HANDOFF_TARGET"].startswith("/emit.php?plan=")
    assert facts["HANDOFF_CLIENT"] == "127.0.0.1" and facts["HANDOFF_SUBJECT"] == "user-1"
    assert facts["HANDOFF_LISTENER"] == site.daemon.path("http") and facts["HANDOFF_PROTOCOL"] == "HTTP/1.1"
    assert facts["HANDOFF_SERVER_NAME"] == "localhost" and facts["HANDOFF_STATUS"] == "200"
    assert {name for name in facts if not name.startswith("HANDOFF_")} <= {"PATH", "LC_CTYPE"}


@pytest.mark.parametrize("size, in_environment", [(1000, True), (65537, True), (131058, True), (131059, False),
                                                  (3 << 20, False)])
def test_data(site, size, in_environment):
    """By all its ways: in the message and in a memfd, with the variable and without."""
    code = 'head(b"Content-Type: text/plain"); out(b"%d %d" % (os.fstat(3).st_size, "HANDOFF_DATA" in os.environ))\n'
    response = request(site.port, "/post.php", body=code.encode().ljust(size, b"#"), timeout=30)
    assert response.body.decode() == f"{size} {in_environment:d}"


# ---------------------------------------------------------------- ends

def test_a_program_that_fails(site):
    assert site.ask("http", "sys.exit(3)").status == 502
    with Client(site.port) as client:
        client.send(get(site.target("http", 'head(b"Content-Type: text/plain"); out(b"part"); sys.exit(3)')))
        raw = client.read_all()
    assert raw.startswith(b"HTTP/1.1 200 ") and b"part" in raw and not raw.endswith(b"0\r\n\r\n")


def test_wall_time(site):
    since = site.daemon.log.position()
    assert site.ask("short", "time.sleep(100)").status == 504
    assert "limit=wall-time" in site.exited(since)


def test_the_queue_is_full(site):
    """503 before anything was accepted, with Retry-After; the next one that finds the place free is served."""
    first = Client(site.port)
    first.send(get(site.target("single", 'head(b"Content-Type: text/plain"); out(b"begin"); time.sleep(100)')))
    first.read_until(b"begin")
    response = site.ask("single", 'head(b"X: y")')
    assert response.status == 503 and int(response.header("Retry-After")) >= 1
    site.apache.expect("reason=handler-busy")
    first.close()
    wait_for(lambda: site.ask("single", 'head(b"Content-Type: text/plain"); out(b"free")').status == 200, 10,
             "the place is free again", 0.2)
    site.apache.expect("reason=handler-busy")


@pytest.mark.parametrize("code", [
    "time.sleep(100)",
    'head(b"Content-Type: text/plain"); out(b"begin"); time.sleep(100)',
    'head(b"Content-Type: text/plain")\nwhile True: out(b"x" * 1000)',
    'signal.signal(signal.SIGTERM, signal.SIG_IGN); head(b"Content-Type: text/plain"); out(b"begin"); time.sleep(100)',
    'head(b"Content-Type: text/plain")\nfor i in range(3): os.fork() or (os.setsid(), time.sleep(100))\ntime.sleep(100)',
])
def test_a_client_that_hangs_up_ends_the_program(site, code):
    since = site.daemon.log.position()
    client = Client(site.port)
    client.send(get(site.target("http", code)))
    wait_for(site.programs, 10, "it runs")
    if "head" in code:
        client.read_until(b"HTTP/1.1 200")
    client.close()
    assert "limit=stopped" in site.exited(since)
    wait_for(lambda: not site.programs(), 5, "nothing runs")


def test_a_slow_client_blocks_the_program(site):
    """Far more than pipes and sockets hold: the program waits in write()."""
    with Client(site.port, receive_buffer=4096) as client:
        client.send(get(site.target("http", 'head(b"Content-Type: text/plain"); out(b"x" * 8000000); out(b"the end")')))
        client.read_until(b"xxx")
        assert len(site.programs()) >= 1
        raw = client.read_all(60)
    assert raw.count(b"x") >= 8000000 and b"the end" in raw


def test_the_launcher_is_killed(site):
    """Who was answered gets a cut answer, the next one is answered by the new launcher."""
    name = "text"
    with Client(site.port) as client:
        client.send(get(site.target(name, 'out(b"begin"); time.sleep(100)')))
        client.read_until(b"begin")
        site.daemon.kill("launcher", name)
        site.daemon.expect("event=crashed role=launcher", "event=peer-lost role=launcher", "event=launcher-lost",
                           "event=handler-lost")
        raw = client.read_all(10)
    assert not raw.endswith(b"0\r\n\r\n")
    wait_for(lambda: site.ask(name, 'out(b"again")').status == 200, 10, "answers again", 0.2)
    site.apache.expect("reason=handler-unavailable", "reason=handler-busy")


def test_the_gate_is_killed(site):
    """Programs run on, and their answers are whole."""
    with Client(site.port) as client:
        client.send(get(site.target("http", 'head(b"Content-Type: text/plain"); out(b"begin"); time.sleep(3); out(b"end")')))
        client.read_until(b"begin")
        site.daemon.kill("gate")
        site.daemon.expect("event=crashed role=gate")
        raw = client.read_all(20)
    assert raw.endswith(b"end\r\n0\r\n\r\n")
    wait_for(lambda: site.ask("http", 'head(b"Content-Type: text/plain"); out(b"x")').status == 200, 10, "answers again", 0.2)
    site.apache.expect("reason=")


# ---------------------------------------------------------------- relay

def over_tls(site, target, *arguments):
    return curl("-i", "--cacert", site.authority.ca_file, *arguments, f"https://127.0.0.1:{site.tls_port}{target}")


@pytest.mark.parametrize("section, code, head, body", [
    ("http", 'head(b"Content-Type: text/plain", b"X-Program: yes", status=b"201 Made"); out(b"over TLS")', b"x-program: yes",
     b"over TLS"),
    ("cgi", r'out(b"Status: 404 Nowhere\nContent-Type: text/plain\n\nnot here")', b" 404 ", b"not here"),
    ("text", 'out(b"plain")', b"text/plain", b"plain"),
    ("sse", 'out(b"event")', b"text/event-stream", b'data: {"content":"event"}\n\ndata: [DONE]\n\n'),
])
def test_relay_over_tls(site, section, code, head, body):
    done = over_tls(site, site.target(section, code))
    assert done.returncode == 0, done.stderr
    found, _, rest = done.stdout.partition(b"\r\n\r\n")
    assert head in found.lower() and rest.endswith(body), done.stdout


def test_relay_head(site):
    code = 'head(b"Content-Type: text/plain", b"Content-Length: 5"); out(b"never")'
    done = over_tls(site, site.target("http", code, body=False), "-I")
    assert done.returncode == 0 and done.stdout.startswith(b"HTTP/1.1 200 ") and b"never" not in done.stdout


def test_relay_of_a_program_that_fails(site):
    code = 'head(b"Content-Type: text/plain", b"Content-Length: 100"); out(b"part"); sys.exit(1)'
    done = over_tls(site, site.target("http", code))
    assert done.returncode != 0 and b"part" in done.stdout
    site.apache.expect("relay: the daemon broke off in the middle")


def test_relay_client_hangs_up(site):
    since = site.daemon.log.position()
    code = 'head(b"Content-Type: text/plain")\nwhile True: out(b"tick"); time.sleep(0.05)'
    done = over_tls(site, site.target("http", code), "--max-time", "2", "-N")
    assert done.returncode == 28 and b"tick" in done.stdout
    assert "limit=stopped" in site.exited(since)
    wait_for(lambda: not site.programs(), 5, "nothing runs")


# ---------------------------------------------------------------- status

def test_counters(site):
    """What launchers count is in the sums that the gate makes."""
    site.ask("http", 'head(b"Content-Type: text/plain"); out(b"x")')
    counted = site.daemon.counters("launcher", "http")
    assert counted["handoffd_runs_started_total"] >= 1 and counted["handoffd_runs_ended_total/done"] >= 1
    assert counted["handoffd_message_malformed_total"] == 0
    assert wait_for(lambda: site.daemon.counters("launcher", "http")["handoffd_runs_running"] == 0, 5)
