# SPDX-License-Identifier: Apache-2.0
"""The HTTP/2 transport with nginx as the TLS front of a service: what works, what clients do to each other, and what an
operator does to nginx. test_streamer_openai.py runs over it too."""
import os
import signal
import socket
import threading
import time

import pytest

from env import Authority, ScriptedUpstream, wait_for
from nginx import Nginx
from streams import Exchange, PROMPTS, exchange, prompt_data


@pytest.fixture
def behind_nginx(env, authority, openai_factory):
    """behind_nginx(script or port, ...) -> (upstream or None, nginx, daemon)"""
    made = []

    def make(script, upstream=None, backend=None, ca=None, **how):
        service = ScriptedUpstream(script, backlog=4096) if callable(script) else None
        front = Nginx(env, service.port if service else script, authority, **how)
        made.extend(part for part in (front, service) if part)
        daemon = openai_factory(front.url, backend=backend,
                                upstream={"http": "2", "ca-file": ca or authority.ca_file, **(upstream or {})})
        return service, front, daemon
    yield make
    for part in made:
        part.stop()
    for part in made:
        assert not getattr(part, "errors", None), part.errors


def echo(connection):
    """Requests one after the other, each answered with its prompt."""
    while True:
        connection.read_request()
        connection.head()
        connection.event(connection.json["messages"][-1]["content"])
        connection.done()


class Held:
    """A script: an event, then, once `go_on` is set, another."""

    def __init__(self):
        self.go_on = threading.Event()

    def __call__(self, connection):
        while True:
            connection.read_request()
            connection.head()
            connection.event("a")
            self.go_on.wait(30)
            connection.event("b")
            connection.done()


def hold(daemon, count: int) -> list:
    """So many streams of which the first event has come."""
    made = [Exchange(daemon, prompt_data(f"{number}")) for number in range(count)]
    for one in made:
        one.read_until(b'"a"')
    return made


def connections(front, since: int = 0) -> set:
    return {request["conn"] for request in front.requests(since)}


@pytest.mark.parametrize("prompt", PROMPTS, ids=["quotes", "line-ends", "unicode", "sse", "long"])
def test_echo(behind_nginx, mock_llm, prompt):
    """mock-llm builds its answer from the request it got, so the text went both ways."""
    _, front, daemon = behind_nginx(mock_llm.port)
    assert exchange(daemon, prompt_data(prompt)).text() == prompt
    made, = wait_for(front.requests, 5)
    assert (made["protocol"], made["status"], made["sni"]) == ("HTTP/2.0", "200", "localhost")


# ---------------------------------------------------------------- TLS


@pytest.mark.parametrize("names, same_authority", [(("DNS:other.example",), True), (("DNS:*",), True), (("DNS:localhost",), False)],
                         ids=["name", "wildcard", "authority"])
def test_certificate(env, behind_nginx, names, same_authority):
    """What cannot prove to be the upstream gets no request."""
    ca = None if same_authority else Authority(env, "another").ca_file
    service, front, daemon = behind_nginx(echo, names=names, ca=ca)
    response = exchange(daemon, prompt_data("secret"))
    assert response.status == 502 and response.error()["code"] == "upstream-error"
    daemon.log.wait("event=upstream-connection .*error=.*(certificate|[Hh]ostname)", 2)
    assert not service.connections and not front.requests()


def test_no_http2(behind_nginx):
    service, front, daemon = behind_nginx(echo, http2=False)
    assert exchange(daemon, prompt_data("x")).status == 502
    assert not service.connections


def test_not_tls(env, openai_factory, authority):
    with ScriptedUpstream(lambda connection: connection.wait_gone(5)) as upstream:
        daemon = openai_factory(f"https://localhost:{upstream.port}/v1", upstream={
            "http": "2", "ca-file": authority.ca_file, "connect-timeout": 1000})
        assert exchange(daemon, prompt_data("x")).status == 504


@pytest.mark.parametrize("protocols", ["TLSv1.2", "TLSv1.3"])
def test_versions_and_resumption(behind_nginx, protocols):
    """A new connection goes on with the session of an earlier one."""
    service, front, daemon = behind_nginx(echo, protocols=protocols, options="keepalive_requests 1;",
                                          upstream={"spare-connections": 0})
    for number in range(4):
        assert exchange(daemon, prompt_data(f"{number}")).text() == f"{number}"
    made = wait_for(lambda: len(front.requests()) == 4 and front.requests(), 5)
    assert len(connections(front)) == 4
    assert [one["resumed"] for one in made] == [".", "r", "r", "r"]
    counters = daemon.counters("streamer")
    assert counters["handoffd_upstream_tls_handshakes_total"] == 4
    assert counters["handoffd_upstream_tls_resumed_total"] == 3


# ---------------------------------------------------------------- the pool


def test_streams_share_connections(behind_nginx):
    held = Held()
    service, front, daemon = behind_nginx(held, upstream={"streams-per-connection": 10, "spare-connections": 0})
    streams = hold(daemon, 25)
    assert daemon.counters("streamer")["handoffd_upstream_connections"] == 3
    held.go_on.set()
    assert [one.response().text() for one in streams] == ["ab"] * 25
    wait_for(lambda: len(front.requests()) == 25, 5)
    assert len(connections(front)) == 3
    assert exchange(daemon, prompt_data("x")).text() == "ab"
    assert daemon.counters("streamer")["handoffd_dials_total"] == 3


def test_spare_connections(behind_nginx):
    """There before the first request; the next one is made while there is room still."""
    held = Held()
    service, front, daemon = behind_nginx(held, upstream={"streams-per-connection": 2, "spare-connections": 2})
    wait_for(lambda: daemon.counters("streamer").get("handoffd_upstream_tls_handshakes_total") == 2, 5, "spares")
    streams = hold(daemon, 1)
    wait_for(lambda: daemon.counters("streamer")["handoffd_upstream_connections"] == 3, 5, "another spare")
    held.go_on.set()
    assert streams[0].response().text() == "ab"


def test_pool_that_is_full(behind_nginx):
    """Requests wait for a place, in order, and a client that leaves its place in the queue leaves no gap."""
    held = Held()
    service, front, daemon = behind_nginx(held, upstream={"max-connections": 1, "streams-per-connection": 2})
    running = hold(daemon, 2)
    waiting = [Exchange(daemon, prompt_data(f"{number}")) for number in range(4)]
    waiting[0].close()
    wait_for(lambda: daemon.counters("streamer")["daemon_active_streams"] == 5, 5, "the end of the one that left")
    assert daemon.counters("streamer")["handoffd_upstream_connections"] == 1 and len(service.connections) == 2
    held.go_on.set()
    assert [one.response().text() for one in [*running, *waiting[1:]]] == ["ab"] * 5
    assert daemon.counters("streamer")["handoffd_dials_total"] == 1


def test_waiting_has_an_end(behind_nginx):
    held = Held()
    service, front, daemon = behind_nginx(held, upstream={
        "max-connections": 1, "streams-per-connection": 1, "connect-timeout": 1000})
    running = hold(daemon, 1)
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 503 and response.header("Retry-After") is not None
    held.go_on.set()
    assert running[0].response().text() == "ab"


def test_fewer_streams_than_configured(behind_nginx):
    """nginx allows three at once, so there are more connections."""
    held = Held()
    service, front, daemon = behind_nginx(held, options="http2_max_concurrent_streams 3;", upstream={"spare-connections": 0})
    streams = hold(daemon, 9)
    held.go_on.set()
    assert [one.response().text() for one in streams] == ["ab"] * 9
    wait_for(lambda: len(front.requests()) == 9, 5)
    assert len(connections(front)) >= 3


def test_connections_of_few_requests(behind_nginx, in_threads):
    """nginx ends each after some requests, also when more are on their way to it: none is lost or sent twice."""
    service, front, daemon = behind_nginx(echo, options="keepalive_requests 5;")
    texts = in_threads([lambda n=n: exchange(daemon, prompt_data(f"number {n}")).text() for n in range(60)])
    assert texts == [f"number {n}" for n in range(60)]
    wait_for(lambda: len(front.requests()) >= 60, 5)
    assert len([made for made in front.requests() if made["status"] == "200"]) == 60


# ---------------------------------------------------------------- clients and each other


def test_dense_answers_at_once(behind_nginx, in_threads):
    events = 500

    def script(connection):
        while True:
            connection.read_request()
            connection.head()
            prompt = connection.json["messages"][-1]["content"]
            for number in range(events):
                connection.event(f"{prompt}:{number} ")
            connection.done()
    service, front, daemon = behind_nginx(script)
    texts = in_threads([lambda n=n: exchange(daemon, prompt_data(f"{n}")).text() for n in range(40)], 120)
    assert texts == ["".join(f"{n}:{number} " for number in range(events)) for n in range(40)]


def test_slow_clients_and_their_neighbours(behind_nginx):
    """Ten clients that read nothing hold back their own answers, and delay nobody on the same connection."""
    sent, events = {}, 800  # 8 MB each: two to three times what sockets and nginx keep

    def script(connection):
        connection.read_request()
        name = connection.json["messages"][-1]["content"]
        connection.head()
        if name.startswith("slow"):
            for number in range(events):
                connection.event("x" * 10000)
                sent[name] = number
        else:
            for number in range(50):
                connection.event(f"{time.monotonic()} ")
                time.sleep(0.01)
        connection.done()
    service, front, daemon = behind_nginx(script, upstream={"streams-per-connection": 100, "spare-connections": 0})
    slow = [Exchange(daemon, prompt_data(f"slow{number}")) for number in range(10)]

    def held_back():
        before = dict(sent)
        time.sleep(0.5)
        return before if len(before) == 10 and sent == before else None
    stalled = wait_for(held_back, 20, "the slow ones held back")
    assert daemon.counters("streamer")["handoffd_pauses_total"] >= 10
    with Exchange(daemon, prompt_data("quick")) as quick:
        delays = []
        while b"[DONE]" not in quick.raw:
            piece = quick.client.recv(65536)
            assert piece
            delays += [time.monotonic() - float(part.split(b'"')[3]) for part in piece.split(b"data: {")[1:]]
            quick.raw += piece
    assert sorted(delays)[len(delays) // 2] < 0.2, sorted(delays)  # on an idle machine a tenth of that, and no more at most
    assert sent == stalled and max(stalled.values()) < events - 1, "they are not held back"
    assert daemon.counters("streamer")["handoffd_upstream_connections"] == 1
    for one in slow:
        threading.Thread(target=one.read_all, daemon=True).start()
    wait_for(lambda: all(one.raw.endswith(b"0\r\n\r\n") for one in slow), 60, "the rest of the slow ones", 0.1)
    assert all(one.raw.count(b"xxxxxxxxxx" * 1000) == events for one in slow)


@pytest.mark.parametrize("begun", [True, False], ids=["streaming", "silent"])
def test_all_clients_leave_at_once(behind_nginx, begun):
    """Every upstream call ends at once. bench_stream.py measures it."""
    def script(connection):
        connection.read_request()
        if begun:
            connection.head()
            connection.event("a")
        connection.wait_gone(30)
    service, front, daemon = behind_nginx(script)
    streams = [Exchange(daemon, prompt_data(f"{number}")) for number in range(200)]
    for one in streams if begun else ():
        one.read_until(b'"a"')
    wait_for(lambda: len(service.connections) == 200 and all(one.request for one in service.connections), 10, "all requests")
    left = time.monotonic()
    for one in streams:
        one.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()
    wait_for(lambda: all(one.gone.is_set() for one in service.connections), 5, "the end of the calls")
    assert time.monotonic() - left < 6  # on an idle machine some hundredths
    wait_for(lambda: daemon.counters("streamer")["daemon_active_streams"] == 0, 5, "the end of the streams")
    assert daemon.counters("streamer")["handoffd_upstream_cancelled_total"] == 200


# ---------------------------------------------------------------- what happens to nginx


def test_reload_of_nginx(behind_nginx):
    """The old worker says GOAWAY and lets streams end; what is new goes to the new one."""
    held = Held()
    service, front, daemon = behind_nginx(held)
    streams = hold(daemon, 30)
    front.reload()
    wait_for(lambda: daemon.counters("streamer")["handoffd_dials_total"] > 2, 10, "new connections")
    held.go_on.set()
    assert [exchange(daemon, prompt_data("x")).text() for _ in range(5)] == ["ab"] * 5
    assert [one.response().text() for one in streams] == ["ab"] * 30


def test_nginx_that_dies(behind_nginx):
    """Streams that it had are visibly cut; the next request is answered."""
    held = Held()
    service, front, daemon = behind_nginx(held)
    streams = hold(daemon, 30)
    front.kill_workers()
    for one in streams:
        response = one.response()
        assert response.error()["code"] == "upstream-error" and b"[DONE]" not in response.raw
    held.go_on.set()
    wait_for(front.workers, 5)
    assert exchange(daemon, prompt_data("x")).text() == "ab"


def test_idle_connection_that_nginx_closed(behind_nginx):
    service, front, daemon = behind_nginx(echo, options="keepalive_timeout 1s;", upstream={"spare-connections": 0})
    for number in range(3):
        assert exchange(daemon, prompt_data(f"{number}")).text() == f"{number}"
        time.sleep(1.05)
    assert daemon.counters("streamer").get("daemon_backend_errors_total", 0) == 0


@pytest.mark.skipif(os.environ.get("HANDOFF_LONG") != "1", reason="takes more than a minute; HANDOFF_LONG=1")
def test_silence_and_idleness(behind_nginx):
    """A connection on which nothing comes is asked for a sign of life: a stream on one that is dead ends, a quiet one
    goes on. One that is not used is closed."""
    held, idle = Held(), Held()
    service, front, daemon = behind_nginx(held, options="keepalive_timeout 600s;")
    dead = hold(daemon, 1)
    _, other, second = behind_nginx(idle, options="keepalive_timeout 600s;", upstream={"spare-connections": 0})
    quiet = hold(second, 1)
    for pid in front.workers():
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    dead[0].client.settimeout(60)
    response = dead[0].response()
    assert response.error()["code"] == "upstream-error" and 25 < time.monotonic() - start < 45
    daemon.log.wait("event=upstream-connection .*PING", 1)
    for pid in front.workers():
        os.kill(pid, signal.SIGCONT)
    idle.go_on.set()
    assert quiet[0].response().text() == "ab"
    assert second.counters("streamer")["handoffd_upstream_connections"] == 1
    wait_for(lambda: second.counters("streamer")["handoffd_upstream_connections"] == 0, 70, "the end of the idle one", 1)


def test_streamer_has_no_thread(behind_nginx, needs_seccomp):
    service, front, daemon = behind_nginx(echo)
    assert exchange(daemon, prompt_data("x")).text() == "x"
    assert len(os.listdir(f"/proc/{daemon.pid('streamer')}/task")) == 1
