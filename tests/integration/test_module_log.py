# SPDX-License-Identifier: Apache-2.0
"""One line in the error log for each refusal, whoever refuses and why, with a stable id and reason; and the notes of
the access log."""
import http.client
import os
import re
import socket
import struct
import time

import pytest

import handoff1
from env import wait_for
from receiver import ROGUE_UID, Site, as_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

CONFIG = """
LogFormat "%m %>s result=%{handoff-result}n id=%{handoff-id}n" handoff
CustomLog handoff.log handoff
SocketHandoffMaxRetries 0
<Location /hurried>
    SocketHandoffAcceptTimeoutMs 100
</Location>
AliasMatch ^/hurried/app.php @docroot@/app.php
ErrorDocument 429 /busy.html
AddHandler send-as-is asis
<Files gone.asis>
    SocketHandoffRequireToken Off
</Files>
"""


@pytest.fixture(scope="module")
def site(env):
    with Site(env, "event", CONFIG) as site:
        site.page("busy.html", "busy\n")
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def assert_logged(site, mark, name, reason, status, level):
    """Exactly one line of ours, in its form."""
    wait_for(lambda: site.reasons(mark), 5, f"a line with {reason}")
    lines = [line for line in site.error_log.lines(mark) if "AHSH" in line or "socket_handoff" in line]
    assert len(lines) == 1
    assert re.search(rf"\[socket_handoff:{level}\] .*{name}: handoff refused by the \w+: "
                     rf"reason={reason} status={status} socket={re.escape(site.path)} kid=[a-z0-9-]+ "
                     r"\([^()]+\)$", lines[0]), lines[0]


def last_note(site):
    return (site.root / "handoff.log").read_text().splitlines()[-1]


@pytest.mark.parametrize("reason", [name for name in handoff1.reason_names() if name not in ("ok", "client-gone")])
@pytest.mark.parametrize("status", [403, 429, 503])
def test_every_reason_of_the_daemon(site, gate, reason, status):
    site.expect("AHSH0102")
    mark = site.error_log.position()
    future = site.ask(site.plan())
    handoff = gate.receive()
    handoff.refuse(status, reason)
    handoff.close()
    answer = future.result()
    assert answer.status == status and answer.leaks() == [] and reason.encode() not in answer.body
    assert_logged(site, mark, "AHSH0102", reason, status, "error" if status == 503 else "warn")


def test_notes(site, gate):
    for stream, noted in ((0, "-"), (1, "1"), (2**64 - 1, "18446744073709551615")):
        future = site.ask(site.plan())
        handoff = gate.receive()
        handoff.accept(stream)
        handoff.answer()
        future.result()
        wait_for(lambda: last_note(site) == f"GET 200 result=accepted id={noted}", 5, "the note")
    site.fetch("/plain.txt")
    wait_for(lambda: last_note(site) == "GET 200 result=- id=-", 5, "a line without notes")


def test_note_of_a_refusal(site, gate):
    site.expect("AHSH0102")
    future = site.ask(site.plan())
    handoff = gate.receive()
    handoff.reply_socket.send(handoff1.Reply(handoff1.REFUSED, 503, "stopping", 3, 77).encode())
    handoff.close()
    assert future.result().header("retry-after") == "3"
    wait_for(lambda: last_note(site) == "GET 503 result=stopping id=77", 5, "the note")


def test_note_when_an_error_document_answers(site, gate):
    """The note is on the request that the application answered: %<{...}n."""
    site.expect("AHSH0102")
    future = site.ask(site.plan())
    handoff = gate.receive()
    handoff.refuse(429, "rate-limited")
    handoff.close()
    assert future.result().body == b"busy\n"
    wait_for(lambda: "429 " in site.notes()[-1], 5, "a line")


def test_lost(site, gate):
    site.expect("AHSH0103")
    mark = site.error_log.position()
    future = site.ask(site.plan())
    handoff = gate.receive()
    handoff.reply_socket.send(b"rubbish")
    lines = site.error_log.wait("AHSH", 5, mark)
    assert len(lines) == 1 and "AHSH0103" in lines[0] and "socket_handoff:error" in lines[0]
    handoff.close()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        future.result()
    wait_for(lambda: last_note(site) == "GET 200 result=lost id=-", 5, "the note")


# ---------------------------------------------------------------- reasons of the module beyond those of a wrong header

def test_daemon_unreachable(site):
    site.expect("AHSH0101")
    mark = site.error_log.position()
    assert site.fetch(site.target(site.plan())).status == 503
    assert_logged(site, mark, "AHSH0101", "daemon-unreachable", 503, "error")


def test_daemon_timeout(site, gate):
    site.expect("AHSH0101")
    mark = site.error_log.position()
    assert site.fetch(site.target(site.plan(), "/hurried/app.php")).status == 503
    assert_logged(site, mark, "AHSH0101", "daemon-timeout", 503, "error")


def test_daemon_peer(site):
    site.expect("AHSH0101")
    mark = site.error_log.position()
    with as_uid(ROGUE_UID):
        rogue = site.listener()
    with rogue:
        assert site.fetch(site.target(site.plan())).status == 503
    assert_logged(site, mark, "AHSH0101", "daemon-peer", 503, "error")


def test_client_gone(site, gate):
    """A client that leaves while the module reads what the handler left of its body: no fault of anybody here."""
    mark = site.error_log.position()
    site.page("gone.asis", f"X-Socket-Handoff: {site.path}\nX-Handoff-Data: d\nContent-Type: text/plain\n\n")
    sock = site.raw(b"GET /gone.asis HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"b" * 100000)
    time.sleep(0.05)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert_logged(site, mark, "AHSH0101", "client-gone", 400, "info")
    assert site.quiet(gate)


def test_body_of_rubbish(site, gate):
    site.expect("AH01095")  # mod_proxy reads it first
    mark = site.error_log.position()
    sock = site.raw(f"POST {site.target(site.plan())} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "rubbish\r\n".encode())
    received = sock.recv(65536)
    sock.close()
    assert received.startswith(b"HTTP/1.1 400 ") and site.quiet(gate)
    assert len([line for line in site.error_log.lines(mark) if "AHSH" in line]) <= 1


def test_refusal_with_hostile_text(site, gate):
    """Nothing in a header value can make a second line, or colour a terminal."""
    site.expect("AHSH0101")
    mark = site.error_log.position()
    for value in ("a\x1b[31m", "a\tb", "a\x7f", '"\\'):
        plan = site.plan(socket_path=f"{site.path}{value}", sign=False)
        assert site.fetch(site.target(plan)).status == 403
    lines = site.error_log.path.read_bytes()[mark:].splitlines()
    assert len(lines) == 4 and all(b"AHSH0101" in line for line in lines)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", b"".join(lines))
