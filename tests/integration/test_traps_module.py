# SPDX-License-Identifier: Apache-2.0
"""Defects that were found in an earlier module of this kind, each by trying it; one test each. Most are tried where the
part is tested; what is left is here.

    defect                                            test
    symlink under the prefix is followed              test_module_refusals::test_refused[link to the outside, ...]
    TLS and HTTP/2 connections are handed off         test_module_handoff::test_tls_is_not_handed_off, test_http2_...
    full accept queue is an instant 503               test_module_handoff::test_full_backlog
    success is assumed once the message is queued     test_module_handoff::test_end_of_file_each_time;
                                                      here test_daemon_that_dies_with_the_message
    flush before the body is read splits the body     test_module_handoff::test_unread_body_and_early_flush;
                                                      here test_unread_body_does_not_become_a_request,
                                                      test_early_flush_does_not_reach_the_client
    any listener on the path receives clients         test_module_handoff::test_rogue_listener,
                                                      test_rogue_takes_the_path_over; test_e2e_chat::test_rogue_...
    headers of proxied backends are obeyed            test_module_handoff::test_forged_by_a_backend, test_trailers
    headers leak to the client where it is off        test_module_refusals::test_headers_never_leave
    Set-Cookie is lost                                test_e2e_chat::test_header_data
    HEAD gets a body                                  here test_head_gets_no_body
"""
import pytest

import handoff1
from env import AS_ROOT, Client, KeyRing, get, request


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_head_gets_no_body(stack, version):
    with Client(stack.port) as client:
        client.send(get("/chat.php?prompt=x", method="HEAD", version=version))
        response = client.response("HEAD")
    assert response.status == 200 and response.header("Content-Type").startswith("text/event-stream")
    assert response.all("Set-Cookie") == ["seen=yes"]


def test_unread_body_does_not_become_a_request(stack):
    """PHP that never reads its POST body: what is left of it in the socket is neither answered as a second request nor
    in the way of the answer."""
    smuggled = b"GET /server-status?auto HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Client(stack.port) as client:
        body = smuggled * 2000
        client.send(get(stack.emit(path=stack.daemon.path(), data='{"prompt":"whole"}'), method="POST", body=body))
        response = client.response()
    assert response.text().startswith("whole\n\n") and b"BusyWorkers" not in response.raw


def test_early_flush_does_not_reach_the_client(stack):
    """What PHP flushed before it ended belongs to a response that is given up, not in front of the stream."""
    response = request(stack.port, stack.emit(path=stack.daemon.path(), data='{"prompt":"whole"}', flush=True), body=b"b" * 9000)
    assert response.text().startswith("whole\n\n")


def test_daemon_that_dies_with_the_message(env, apache_factory, fpm):
    """The gate takes the message and dies, each time: the client gets a 503, not an empty answer."""
    if not AS_ROOT:
        pytest.skip("a peer of another uid needs root")
    keys, folder = KeyRing(env), env.folder("dying")
    with handoff1.Listener(folder / "chat.sock") as gate:
        apache = apache_factory(php="fpm", fpm=fpm, keys=keys, peer=0)
        apache.emit_page(keys.key)
        apache.expect("reason=daemon-")
        with Client(apache.port) as client:
            client.send(get(apache.emit(path=gate.path, data="{}")))
            attempts = 0
            while True:
                try:
                    gate.receive(2).close()
                    attempts += 1
                except TimeoutError:
                    break
                if attempts > 20:
                    pytest.fail("it is sent again without end")
            assert attempts >= 1 and client.response().status == 503
