# SPDX-License-Identifier: Apache-2.0
"""A signed handoff from end to end: curl, Apache, PHP with the php/ package, handoffd."""
import os
import re
import threading

import pytest

import handoff1
from env import (AS_ROOT, UID_STREAMER, Apache, Client, Handoffd, KeyRing, curl, get, parse_response, proc_status,
                 request, wait_for)

FIXED = "This is the demo backend of handoffd"
# 100 KiB that JSON has to escape here and there, in long words: the demo sends one word at a time.
LONG = ("x" * 990 + ' "\\\u00e9\u20ac\n\t') * 104


def prompt_of(response) -> str:
    return response.text().partition("\n\n" + FIXED)[0]


def test_header_data(stack):
    since = stack.daemon.log.position()
    done = curl("-N", "-i", "--data-binary", "one two  three", f"{stack.url}/chat.php?tag=t1&subject=user-42")
    assert done.returncode == 0, done.stderr
    response = parse_curl(done.stdout)
    assert response.status == 200
    assert response.header("Content-Type").startswith("text/event-stream")
    assert response.all("Set-Cookie") == ["seen=yes"] and response.header("X-Request-Tag") == "t1"
    assert response.header("Connection") == "close"
    assert response.text().startswith("one two  three\n\n" + FIXED)
    contents = [data for _, data in response.events()]
    assert contents[0] == '{"content":"one"}' and contents[-1] == "[DONE]", "not one event a word"
    end, = stack.daemon.log.wait("event=stream-end", since=since)
    assert re.search(r"subject=user-42 .*status=200 .*outcome=done", end)


def parse_curl(output: bytes):
    """curl -i has taken the chunks apart already: parse the head, keep the body."""
    head, _, body = output.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding:")]
    return parse_response(b"\r\n".join(lines) + b"\r\n\r\n" + body)


def test_no_data(stack):
    response = request(stack.port, stack.emit(path=stack.daemon.path()))
    assert response.status == 200 and FIXED in response.text()


def test_body_data_of_100_kib(stack):
    assert len(LONG.encode()) > 100 * 1024
    assert prompt_of(request(stack.port, "/chat.php", body=LONG.encode(), timeout=30)) == LONG


def test_mod_php_on_prefork(handoffd, apache_factory):
    apache = apache_factory(mpm="prefork", php="mod", keys=handoffd.keys)
    apache.chat_page(handoffd)
    assert prompt_of(request(apache.port, "/chat.php", body=b"through mod_php")) == "through mod_php"
    assert prompt_of(request(apache.port, "/chat.php", body=LONG.encode(), timeout=30)) == LONG


def test_worker_mpm(handoffd, apache_factory, fpm):
    apache = apache_factory(mpm="worker", php="fpm", fpm=fpm, keys=handoffd.keys)
    apache.chat_page(handoffd)
    assert prompt_of(request(apache.port, "/chat.php", body=b"through worker")) == "through worker"


def test_http_1_0_gets_no_chunks(stack):
    with Client(stack.port) as client:
        response = client.send(get("/chat.php?prompt=old", version="1.0")).response()
    assert response.status == 200 and response.header("Transfer-Encoding") is None
    assert response.text().startswith("old\n\n")


def test_words_come_one_by_one_while_workers_are_free(env, handoffd_factory, apache_factory, fpm):
    """More streams at once than Apache has workers."""
    daemon = handoffd_factory({"slow": {"type": "demo", "delay": 100}})
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys, workers=2)
    apache.chat_page(daemon)
    clients = []
    try:
        for number in range(12):
            clients.append(Client(apache.port))
            clients[-1].send(get(f"/chat.php?prompt=stream{number}"))
        for number, client in enumerate(clients):
            client.read_until(f'"stream{number}"'.encode())
        assert not any(b"[DONE]" in client.raw for client in clients), "a whole answer came at once"
        # The one that is busy is serving this status request.
        wait_for(lambda: apache.status()["BusyWorkers"] == "1", 2, "workers free while 12 streams run")
        assert sum(b"[DONE]" in client.raw for client in clients) == 0
        for client in clients:
            assert client.response().text().count(FIXED) == 1
    finally:
        for client in clients:
            client.close()


def test_two_tenants(env, handoffd_factory, apache_factory, fpm):
    """Each listener has its key, its backend, its uid; the key of one does not open the other."""
    keys = KeyRing(env)
    daemon = handoffd_factory({"red": {"type": "demo", "delay": 1}, "blue": {"type": "demo", "delay": 1}},
                              {"red": {"backend": "red"}, "blue": {"backend": "blue"}}, keys=keys)
    red = handoff1.Key("red", paths=(daemon.path("red"),))
    blue = handoff1.Key("blue", paths=(daemon.path("blue"),))
    keys.set(red, blue)
    daemon.stop()
    daemon.start()
    apache = apache_factory(php="fpm", fpm=fpm, keys=keys)
    apache.emit_page(red, "red.php")
    apache.emit_page(blue, "blue.php")
    for name in ("red", "blue"):
        since = daemon.log.position()
        plan = {"path": daemon.path(name), "data": '{"prompt":"tenant"}'}
        assert request(apache.port, apache.emit(f"/{name}.php", **plan)).text().startswith("tenant\n\n")
        assert f"backend={name} " in daemon.log.wait("event=stream-end", since=since)[0]
    for page, name in (("red", "blue"), ("blue", "red")):
        plan = {"path": daemon.path(name), "data": '{"prompt":"tenant"}'}
        assert request(apache.port, apache.emit(f"/{page}.php", **plan)).status == 403
    assert len(apache.error_log.wait("reason=token-key-forbidden", count=2)) == 2
    apache.expect("reason=token-key-forbidden")
    if AS_ROOT:
        uids = {proc_status(pid)["Uid"].split()[0] for pid in daemon.roles()["streamer"]}
        assert uids == {str(UID_STREAMER), str(UID_STREAMER + 1)}


def test_many_at_once(stack, in_threads):
    """Each client gets its own answer."""
    def one(number):
        for turn in range(4):
            text = request(stack.port, f"/chat.php?prompt=client{number}turn{turn}", timeout=30).text()
            assert text.startswith(f"client{number}turn{turn}\n\n"), text[:80]
    in_threads([lambda number=number: one(number) for number in range(16)])


def test_answer_is_written_once_per_connection(stack):
    """A second request sent ahead on the same connection is not answered by Apache behind the daemon's back."""
    with Client(stack.port) as client:
        two = get("/chat.php?prompt=first", [("Connection", "keep-alive")]) + get("/index.html")
        response = client.send(two).response()
    assert response.text().startswith("first\n\n")


def test_client_that_leaves_is_noticed(env, handoffd_factory, apache_factory, fpm):
    daemon = handoffd_factory({"slow": {"type": "demo", "delay": 500}})
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys)
    apache.chat_page(daemon)
    for leave in (Client.reset, Client.close):
        since = daemon.log.position()
        client = Client(apache.port)
        client.send(get("/chat.php?prompt=leaving")).read_until(b"leaving")
        leave(client)
        end, = daemon.log.wait("event=stream-end", 2, since)
        assert "outcome=client-gone" in end


# ---------------------------------------------------------------- refusals, as a client sees them

REFUSALS = {
    "no token": ({"token": False}, 403, "token-missing"),
    "malformed token": ({"token": "v1.x"}, 403, "token-malformed"),
    "other version": ({"token": "v2.test1.1.AA"}, 403, "token-(version|malformed)"),
    "unknown key": ({"kid": "nobody"}, 403, "token-key-unknown"),
    "expired": ({"exp": -10}, 403, "token-expired"),
    "too far ahead": ({"exp": 3600}, 403, "token-future"),
    "another request's binding": ({"binding": "v1;127.0.0.1;1;AAAAAAAAAAAAAAAAAAAAAA"}, 403, "token-mac"),
    "another path signed": ({"signed_path": "/run/other.sock"}, 403, "token-mac"),
    "other data signed": ({"signed_data": '{"prompt":"harmless"}'}, 403, "token-mac"),
    "subject added": ({"headers": ["X-Handoff-Subject: root"]}, 403, "token-mac"),
    "path outside": ({"path": "/etc/passwd"}, 403, "path-forbidden"),
    "two tokens": ({"headers": ["X-Handoff-Token: v1.a.1.b"]}, 403, "header-|token-malformed"),
    "two data sources": ({"headers": ["X-Handoff-Data-Source: body"]}, 403, "data-source"),
    "nobody listens": ({"path": "gone"}, 503, "daemon-unreachable"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(stack, case):
    """The client gets a plain answer of Apache's without any control header (request() looks for them), the log the
    reason."""
    change, status, reason = REFUSALS[case]
    plan = {"path": stack.daemon.path(), "data": '{"prompt":"x"}', **change}
    if plan["path"] == "gone":
        plan["path"] = str(stack.daemon.run / "gone.sock")
    since, forwarded = stack.error_log.position(), stack.daemon.counters("gate")["handoffd_forwarded_total"]
    stack.expect(f"reason=({reason})")
    response = request(stack.port, stack.emit(**plan))
    assert response.status == status and b"prompt" not in response.body
    assert (response.header("Retry-After") is not None) == (status == 503)
    stack.error_log.wait(f"reason=({reason})", 3, since)
    assert stack.daemon.counters("gate")["handoffd_forwarded_total"] == forwarded, "the daemon got it all the same"


def test_refusals_of_one_status_look_alike(stack):
    answers = set()
    for change in ({"token": False}, {"kid": "nobody"}, {"exp": -10}, {"signed_data": "x"}):
        response = request(stack.port, stack.emit(path=stack.daemon.path(), data='{"prompt":"x"}', **change))
        answers.add((response.status, response.body, tuple(name for name, _ in response.headers)))
    stack.expect("reason=token-")
    assert len(answers) == 1


def test_replay_of_a_token_on_another_request(stack):
    """A token with its own binding, captured from one request, is worth nothing on the next."""
    page = stack.page("spy.php", "<?php echo $_SERVER['HANDOFF_BINDING'];")
    binding = request(stack.port, page).body.decode()
    assert re.fullmatch(r"v1;127\.0\.0\.1;[0-9]+;[A-Za-z0-9_-]{22}", binding)
    plan = {"path": stack.daemon.path(), "data": "{}"}
    token = handoff1.make_token(stack.daemon.keys.key, binding, plan["path"], b"{}")
    assert request(stack.port, stack.emit(token=token, **plan)).status == 403
    stack.expect("reason=token-mac")


def test_request_the_backend_does_not_understand(stack):
    response = request(stack.port, stack.emit(path=stack.daemon.path(), data='{"prompt": 7}'))
    assert response.status == 400
    stack.expect("reason=request-invalid")
    stack.daemon.log.wait("reason=request-invalid", 3)


def test_forged_header_of_a_proxied_backend(handoffd, apache_factory):
    """A backend behind mod_proxy_http that has no key cannot give a client away, and its attempt shows nobody the
    headers; a request's own headers of these names never arrive there."""
    from upstream import ScriptedUpstream

    def forge(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Socket-Handoff: %s\r\nX-Handoff-Data: {}\r\nContent-Length: 2\r\n"
                        b"Connection: close\r\n\r\nhi" % handoffd.path().encode())
    with ScriptedUpstream(forge) as backend:
        apache = apache_factory(keys=handoffd.keys, modules=("proxy", "proxy_http"),
                                conf=f"ProxyPass /app http://127.0.0.1:{backend.port}/")
        sent = [("X-Socket-Handoff", "/x"), ("X_Handoff-Token", "t"), ("x-handoff-data", "d"),
                ("Handoff_Binding", "v1;1.2.3.4;5;AAAAAAAAAAAAAAAAAAAAAA")]
        assert request(apache.port, "/app", headers=sent).status == 403
        apache.expect("reason=token-missing")
        head = backend.connections[0].request.lower()
        assert b"handoff" not in head, head


def test_rogue_listener_gets_no_client(env, apache_factory, fpm):
    """Somebody else's process on the socket path: the module looks whose it is before it sends anything."""
    if not AS_ROOT:
        pytest.skip("needs a second uid, which only root can take")
    folder = env.folder("rogue")
    keys = KeyRing(env)
    received = []
    with handoff1.Listener(folder / "chat.sock") as rogue:  # uid 0, not the gate's
        def serve():
            try:
                connection = rogue.accept(10)
                received.append(handoff1.receive(connection))
            except OSError:
                pass
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        apache = apache_factory(php="fpm", fpm=fpm, keys=keys)
        apache.emit_page(keys.key)
        apache.expect("reason=daemon-peer")
        response = request(apache.port, apache.emit(path=rogue.path, data="{}"))
        thread.join(10)
    assert received in ([], [(b"", [])]), "the rogue got something"
    assert response.status == 503
    apache.error_log.wait("reason=daemon-peer")


def test_handoff_off(handoffd, apache_factory, fpm):
    """Off: nothing is handed off, there is no binding, and the headers do not leak either."""
    apache = apache_factory(php="fpm", fpm=fpm, keys=handoffd.keys, conf="SocketHandoffEnabled Off")
    apache.emit_page(handoffd.keys.key)
    spy = apache.page("spy.php", "<?php var_dump(isset($_SERVER['HANDOFF_BINDING']));")
    assert request(apache.port, spy).body == b"bool(false)\n"
    response = request(apache.port, apache.emit(path=handoffd.path(), data='{"prompt":"x"}'))
    assert response.status == 200 and FIXED.encode() not in response.body


def test_php_package_says_so_where_the_module_is_off(handoffd, apache_factory, fpm):
    apache = apache_factory(php="fpm", fpm=fpm, keys=handoffd.keys, conf="SocketHandoffEnabled Off")
    apache.chat_page(handoffd)
    response = request(apache.port, "/chat.php?prompt=x")
    assert response.status in (200, 500) and b"NoBindingException" in response.body
    apache.expect("NoBindingException", "AH01071")


def test_graceful_restart_keeps_streams(env, handoffd_factory, apache_factory, fpm):
    """A stream that was handed off does not depend on Apache; a graceful restart neither cuts nor blocks anything."""
    daemon = handoffd_factory({"slow": {"type": "demo", "delay": 60}})
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys)
    apache.chat_page(daemon)
    with Client(apache.port) as client:
        client.send(get("/chat.php?prompt=before")).read_until(b"before")
        apache.graceful()
        assert request(apache.port, "/chat.php?prompt=after").text().startswith("after\n\n")
        assert client.response().text().startswith("before\n\n")


def test_stop_of_apache_keeps_streams(env, handoffd_factory, fpm):
    daemon = handoffd_factory({"slow": {"type": "demo", "delay": 60}})
    with Apache(env, php="fpm", fpm=fpm, keys=daemon.keys) as apache:
        apache.chat_page(daemon)
        client = Client(apache.port)
        client.send(get("/chat.php?prompt=before")).read_until(b"before")
    with client:
        assert client.response().text().startswith("before\n\n")


def test_harness_leaves_no_listener_behind(env):
    """stop() ends the roles too, and takes the sockets away."""
    with Handoffd(env) as daemon:
        pids = [pid for pids in daemon.roles().values() for pid in pids]
        assert len(pids) == 3
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
