# SPDX-License-Identifier: Apache-2.0
"""The module under valgrind: each way that a request can take through it, once or twice. No error anywhere in httpd (there
is none of its own that would have to be suppressed), and nothing that the module allocated is lost."""
import contextlib
import http.client
import os
import re
import shutil
import socket

import pytest

import handoff1
from env import SANITIZE, UID_APACHE, UID_GATE, Authority, Handoffd, KeyRing, curl, get
from receiver import Site, read_all
from test_relay import tls_host

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and handoffd under several uids need root"),
    pytest.mark.skipif(SANITIZE, reason="valgrind cannot run a sanitizer build"),
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")]

CONFIG = """
SocketHandoffConnectTimeoutMs 20000
SocketHandoffSendTimeoutMs 20000
SocketHandoffAcceptTimeoutMs 20000
Protocols h2 h2c http/1.1
<Location /raw>
    SocketHandoffProtocol raw
    SocketHandoffRequireToken Off
</Location>
<Location /off>
    SocketHandoffEnabled Off
</Location>
<Location /status>
    SetHandler socket-handoff-status
    SocketHandoffStatusSocket @status@
</Location>
AliasMatch ^/(?:raw|off)/app.php$ @docroot@/app.php
"""
OURS = re.compile(r"/(?:module|lib)/\w+\.c:\d+\)")


class Valgrind(Site):
    """Apache with app.php under valgrind, a log for each process."""

    PATIENCE = 120

    def _command(self, *arguments) -> list:
        self.logs = self.root / "valgrind"
        self.logs.mkdir(exist_ok=True)
        self.logs.chmod(0o777)
        return ["valgrind", "--tool=memcheck", "--leak-check=full", "--show-leak-kinds=definite",
                "--errors-for-leak-kinds=none", "--keep-debuginfo=yes", "--fullpath-after=", "--num-callers=30",
                "--error-limit=no", f"--log-file={self.logs}/%p", *super()._command(*arguments)]

    def findings(self) -> list:
        """Every error, and every leak with the module in its stack, of all processes."""
        found = []
        for log in self.logs.iterdir():
            text = re.sub(r"(?m)^==\d+== ?", "", log.read_text())
            assert "ERROR SUMMARY:" in text, f"{log} has no end:\n{text[-3000:]}"
            for block in re.split(r"\n\s*\n", text):
                leak = "definitely lost in loss record" in block
                if ("   at 0x" in block and not leak) or (leak and OURS.search(block)):
                    found.append(block)
        return found


@pytest.fixture
def site(env):
    """The site, with handoffd for what is relayed and for the status."""
    keys, authority, port = KeyRing(env), Authority(env, "valgrind"), env.port()
    listens = {"chat": {"backend": "demo", "relay": True}, "closed": {"backend": "demo"}}
    daemon = Handoffd(env, keys=keys, listens=listens, allow_peer=(UID_APACHE,))
    conf = CONFIG.replace("@status@", daemon.path()) + tls_host(env, authority, port)
    with daemon, Valgrind(env, "event", conf, keys=keys, workers=10, prefix=f"{env.state}/", peer=f"0 {UID_GATE}",
                          more_modules=["http2"]) as site:
        site.tls, site.daemon, site.key = f"https://127.0.0.1:{port}", daemon, keys.key
        site.chat_page(daemon)
        site.chat_page(daemon, "closed.php", "closed")
        yield site


def hand_off(site, gate, plan):
    future = site.ask(plan)
    handoff = gate.receive(30)
    handoff.accept()
    handoff.answer()
    assert future.result().body == b"handed off\n"


def handoffs(site):
    with site.listener() as gate:
        for _ in range(2):
            hand_off(site, gate, site.plan('{"a":1}', subject="u1", add=["Set-Cookie: a=b"]))
            hand_off(site, gate, site.plan("x", form="body", repeat=1000))
            hand_off(site, gate, site.plan("x", form="body", repeat=200000))
        sock = site.raw(b"GET /plain.txt HTTP/1.1\r\nHost: a\r\n\r\n"
                        b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                        b"5\r\nabcde\r\n0\r\nX-Handoff-Token: trailer\r\n\r\n" % site.target(site.plan("{}")).encode())
        site.serve(gate, timeout=30)
        assert read_all(sock).endswith(b"handed off\n")
        future = site.ask(site.plan())
        gate.receive(30).close()  # sent again
        site.serve(gate, timeout=30)
        assert future.result().status == 200


def refusals(site):
    site.expect("AHSH010[123]")
    path = f"X-Socket-Handoff: {site.path}"
    plans = [site.plan(sign=False), site.plan(signing={"version": "v2"}), site.plan(signing={"exp": -100}),
             site.plan(signing={"data": "other"}), site.plan(add=[path]), site.plan(socket_path="/etc/passwd"),
             site.plan(socket_path=f"{site.socket_folder}/nobody.sock"), site.plan(add=["X-Handoff-Data-Source: body"]),
             site.plan("x", form="body", repeat=40 << 20), {"headers": [path], "sign": None}]
    assert [site.fetch(site.target(plan)).status for plan in plans] == [403] * 6 + [503, 403, 413, 403]
    assert site.fetch(site.target(site.plan(output="page"), "/off/app.php")).body == b"page"
    with site.listener() as gate:
        future = site.ask(site.plan())
        handoff = gate.receive(30)
        handoff.refuse(429, "rate-limited", 7)
        handoff.close()
        assert future.result().header("retry-after") == "7"
        future = site.ask(site.plan())
        handoff = gate.receive(30)
        handoff.reply_socket.send(b"rubbish")
        handoff.close()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            future.result()
        sock = site.raw(get(site.target(site.plan())))
        sock.close()  # and perhaps it is handed off all the same
        with contextlib.suppress(TimeoutError):
            gate.receive(3).close()
            gate.receive(3).close()
            gate.receive(3).close()


def raw(site):
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        with handoff1.RawListener(site.path, kind) as gate:
            future = site.ask(site.plan("x", form="body", repeat=150000, sign=False), path="/raw/app.php")
            data, client = gate.receive(30)
            client.close()
            assert data == b"x" * 150000
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                future.result()


def relays(site):
    for protocol in ("--http1.1", "--http2"):
        for page, status in (("chat", 200), ("closed", 403)):
            done = curl("-k", protocol, "-w", "%{http_code}", "--data-binary", "one two", f"{site.tls}/{page}.php")
            assert done.stdout.endswith(b"%d" % status) and (b"[DONE]" in done.stdout) == (status == 200), done.stderr
    leaving = curl("-k", "--http2", "--max-time", "1", "--data-binary", "word " * 20000, f"{site.tls}/chat.php")
    assert leaving.returncode == 28


def status(site):
    for form in ("", "?format=json", "?format=prometheus"):
        assert b"refused" in site.fetch(f"/status{form}").body


def test_memory(site):
    for _ in range(2):  # the second round after a graceful restart: another configuration pool, the code loaded again
        handoffs(site)
        refusals(site)
        raw(site)
        relays(site)
        status(site)
        site.graceful()
    site.stop()
    found = site.findings()
    assert not found, "\n\n".join(found)
    # Not because there was nothing to find: the children and their parent left their logs.
    assert len(list(site.logs.iterdir())) >= 3
