# SPDX-License-Identifier: Apache-2.0
"""Defects that were found in an earlier module of this kind or in this one, each by trying it, and where it is tried
now. Whole chains with the daemon behind the module are in test_traps_module.py. test_table() looks whether each of
these tests exists.

    a symlink under the allowed prefix is followed to the outside
        test_module_refusals.py::test_refused
        test_module_legacy.py::test_contract
        test_module_handoff.py::test_path_that_changes_while_it_is_checked
    TLS and HTTP/2 connections are handed off: plain text lands in the encrypted stream
        test_module_handoff.py::test_tls_is_not_handed_off
        test_module_handoff.py::test_http2_is_not_handed_off
        test_module_legacy.py::test_tls
    a full accept queue is an instant 503
        test_module_handoff.py::test_full_backlog
    success is assumed once the message is queued: a daemon that dies leaves an empty answer
        test_module_traps.py::test_daemon_is_killed
        test_module_handoff.py::test_sent_again_after_end_of_file
        test_module_handoff.py::test_end_of_file_each_time
    a flush before the body was read makes httpd and the daemon split the request body
        test_module_traps.py::test_body_is_never_a_request
        test_module_handoff.py::test_unread_body_and_early_flush
        test_module_routes.py::test_shape
    any listener on the path receives clients
        test_module_handoff.py::test_rogue_listener
        test_module_handoff.py::test_rogue_takes_the_path_over
        test_module_config.py::test_peer
    headers of proxied backends are obeyed
        test_module_handoff.py::test_forged_by_a_backend
        test_module_traps.py::test_backend_without_a_key
        test_module_routes.py::test_interim_response
        test_module_routes.py::test_interim_response_and_trailers_over_http2
    where the module is off both headers reach the client
        test_module_refusals.py::test_headers_never_leave
        test_module_traps.py::test_off_everywhere
    Set-Cookie is lost
        test_module_headers.py::test_travel
    HEAD gets a body
        test_module_routes.py::test_head
        test_traps_module.py::test_head_gets_no_body
    more data than a socket takes at once arrives in part, with the client, and httpd answers as well
        test_module_legacy.py::test_too_large_data
        test_module_legacy.py::test_receiver_that_stops_in_the_middle
    receivers that listen on another kind of socket are not reached
        test_module_legacy.py::test_receiver
        test_gate_legacy.py::test_kind
    the binding names an address that another module has put into the connection
        test_module_routes.py::test_behind_the_proxy_protocol
    a program whose output nobody reads waits for ever
        test_module_data.py::test_body_without_being_the_data
"""
import os
import pathlib
import re
import signal

import pytest

from receiver import HANDLERS, Everywhere, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

CONFIG = """
<Location /off>
    SocketHandoffEnabled Off
    ErrorDocument 404 /app.php
</Location>
AliasMatch ^/off/app[.](php|cgi|back)$ @docroot@/app.$1
"""


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env):
    with Everywhere(env, request.param, CONFIG) as site:
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def test_table():
    here = pathlib.Path(__file__).parent
    named = re.findall(r"^ +(test_\w+\.py)::(test_\w+)$", __doc__, re.M)
    assert len(named) > 20
    for file, test in named:
        assert f"\ndef {test}(" in (here / file).read_text(), f"{file}::{test}"


def dying_gate(gate, deaths: int):
    """A process that takes so many handoffs and dies of each, accepting nothing; its successor answers."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for _ in range(deaths):
            if os.fork() == 0:  # the one that dies holds the only copies
                gate.receive(10)
                os.kill(os.getpid(), signal.SIGKILL)
            os.wait()
        handoff = gate.receive(10)
        handoff.accept()
        handoff.answer()
    finally:
        os._exit(0)


@pytest.mark.parametrize("deaths", [1, 2])
def test_daemon_is_killed(site, gate, deaths):
    """SIGKILL between the receipt of the client and the acceptance: the handoff is sent again, the answer is whole."""
    pid = dying_gate(gate, deaths)
    try:
        received = read_all(site.raw(site.request(site.plan("{}"), "/app.php")))
        assert received.count(b"HTTP/1.1 ") == 1 and received.endswith(b"\r\n\r\nhanded off\n")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("late", ["", "unread", "read"])
def test_body_is_never_a_request(site, gate, handler, late):
    """A request body that is made of requests: none of them is answered, by httpd or by the daemon, and the daemon
    finds nothing in its socket (site.serve looks)."""
    site.expect("AH02651")
    body = b"GET /plain.txt HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    sock = site.raw(site.request(site.plan("{}", late=late), f"/app.{handler}", "POST",
                                 headers=[f"Content-Length: {len(body)}"], body=body))
    site.serve(gate)
    received = read_all(sock)
    assert received.count(b"HTTP/1.1 ") == 1 and received.endswith(b"\r\n\r\nhanded off\n") and b"plain" not in received


@pytest.mark.parametrize("sign", [False, True])
def test_backend_without_a_key(site, gate, sign):
    """A proxied backend that is not ours to trust: no key, or one that it made up."""
    site.expect("reason=token-missing", "reason=token-mac")
    plan = site.plan("{}", **({"signing": {"key": "A" * 43 + "="}} if sign else {"sign": False}))
    received = read_all(site.raw(site.request(plan, "/app.back", headers=["Connection: close"])))
    assert received.startswith(b"HTTP/1.1 403 ") and b"andoff-" not in received and site.quiet(gate)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("status", [200, 204, 302, 404, 500])
def test_off_everywhere(site, gate, handler, status):
    """Off: the page or error page as it is, without control headers, and no binding for the application."""
    plan = site.plan("{}", status=status, output="the page", add=["X-Application: a"])
    received = read_all(site.raw(site.request(plan, f"/off/app.{handler}", headers=["Connection: close"])))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"andoff" not in head and b"X-Application: a" in head
    assert status == 204 or b"the page" in body
    shown = read_all(site.raw(site.request({"show": 1}, f"/off/app.{handler}", headers=["Connection: close"])))
    assert b"HANDOFF_BINDING" not in shown and b"X-Edge-Binding" not in shown and b"v1;127" not in shown
    assert site.quiet(gate)


def test_off_in_an_error_document(site, gate):
    """The error page of a place where it is off is itself in one where it is on: it may hand off."""
    sock = site.raw(site.request(site.plan("{}"), "/off/missing"))
    handoff, = site.serve(gate)
    assert handoff.request.status == 404 and handoff.request.target == b"/off/missing"
    assert read_all(sock).endswith(b"handed off\n")
