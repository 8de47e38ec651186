# SPDX-License-Identifier: Apache-2.0
"""What a streamer does about upstreams that cannot be reached, fail, or have only so many connections: attempts, the
breaker, the queue. And what its HTTP client must not do by itself."""
import os
import re
import threading
import time

import pytest

from env import SANITIZE, ScriptedUpstream, wait_for
from streams import Exchange, KEY, exchange, in_memory, prompt_data


@pytest.fixture
def scripted(openai_factory):
    """scripted(script, upstream options, backend options...) -> (upstream, daemon)"""
    upstreams = []

    def make(script, upstream=None, **backend):
        upstreams.append(ScriptedUpstream(script))
        return upstreams[-1], openai_factory(upstreams[-1].url, backend, upstream)
    yield make
    for made in upstreams:
        made.stop()
        assert not made.errors, made.errors


def answer(connection, text="ok"):
    connection.read_request()
    connection.head()
    connection.event(text)
    connection.done()


def status_only(status: str):
    def script(connection):
        connection.read_request()
        connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    return script


# ---------------------------------------------------------------- attempts


def test_tried_again_until_it_can_be_reached(env, openai_factory):
    port = env.port()
    daemon = openai_factory(f"http://127.0.0.1:{port}/v1", upstream={"retries": 10})
    with Exchange(daemon, prompt_data("x")) as made:
        wait_for(lambda: daemon.counters("streamer").get("handoffd_upstream_retries_total", 0) > 0, 5, "a second attempt")
        with ScriptedUpstream(answer, port=port) as upstream:
            assert made.response().text() == "ok"
            assert len(upstream.connections) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_attempts_are_numbered(env, openai_factory, retries):
    daemon = openai_factory(f"http://127.0.0.1:{env.port()}/v1", upstream={"retries": retries})
    assert exchange(daemon, prompt_data("x")).status == 502
    counters = daemon.counters("streamer")
    assert counters["handoffd_upstream_retries_total"] == retries
    assert counters["handoffd_dials_failed_total"] == retries + 1


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
                                   b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"])
def test_never_again_what_may_have_been_dealt_with(scripted, piece):
    def script(connection):
        connection.read_request()
        connection.send(piece)
    upstream, daemon = scripted(script, {"retries": 5})
    response = exchange(daemon, prompt_data("x"))
    assert response.status in (200, 502) and response.error()["code"] == "upstream-error"
    time.sleep(0.5)
    assert len(upstream.connections) == 1
    assert daemon.counters("streamer")["handoffd_upstream_retries_total"] == 0


@pytest.mark.parametrize("delay, asked", [(0, ["one", "two", "two"]), (1.5, ["one", "two"])])
def test_a_kept_connection_that_closes(scripted, delay, asked):
    """At once: it was about to close anyway. Later: the upstream may have been at work on the request."""
    prompts = []

    def script(connection):
        connection.read_request()
        prompts.append(connection.json["messages"][-1]["content"])
        connection.head()
        connection.event("ok")
        connection.done()
        connection.read_request()
        prompts.append(connection.json["messages"][-1]["content"])
        time.sleep(delay)
    upstream, daemon = scripted(script, {"retries": 0})
    assert exchange(daemon, prompt_data("one")).text() == "ok"
    response = exchange(daemon, prompt_data("two"))
    assert prompts == asked
    assert response.status == (502 if delay else 200)


def test_a_client_that_leaves_between_two_attempts(env, openai_factory):
    port = env.port()
    daemon = openai_factory(f"http://127.0.0.1:{port}/v1", upstream={"retries": 10})
    with Exchange(daemon, prompt_data("x")):
        wait_for(lambda: daemon.counters("streamer").get("handoffd_upstream_retries_total", 0) > 2, 5, "a third attempt")
    daemon.log.wait("event=stream-end .*outcome=client-gone", 2)
    with ScriptedUpstream(answer, port=port) as upstream:
        time.sleep(2.2)
        assert not upstream.connections


# ---------------------------------------------------------------- the breaker


def test_breaker(scripted):
    works = threading.Event()

    def script(connection):
        (answer if works.is_set() else status_only("500 Internal Server Error"))(connection)
    upstream, daemon = scripted(script, {"breaker-failures": 3, "breaker-time": 1})
    for _ in range(3):
        assert exchange(daemon, prompt_data("x")).status == 502
    refused = exchange(daemon, prompt_data("x"))
    assert refused.status == 503 and refused.header("Retry-After") == "1"
    assert len(upstream.connections) == 3
    assert daemon.counters("streamer")["handoffd_breaker_open"] == 1
    time.sleep(1)
    assert exchange(daemon, prompt_data("x")).status == 502  # the probe
    assert exchange(daemon, prompt_data("x")).status == 503
    assert len(upstream.connections) == 4
    works.set()
    time.sleep(1)
    assert exchange(daemon, prompt_data("x")).text() == "ok"
    assert exchange(daemon, prompt_data("x")).text() == "ok"
    found = [re.search("event=breaker-([a-z]+)", line).group(1) for line in daemon.log.find("event=breaker-")]
    assert found == ["open", "probes", "open", "probes", "closed"]
    counters = daemon.counters("streamer")
    assert counters["handoffd_breaker_open"] == 0 and counters["handoffd_breaker_opened_total"] == 1
    assert counters["handoffd_breaker_refused_total"] == 2


def test_silence_opens_the_breaker(scripted):
    upstream, daemon = scripted(lambda connection: connection.wait_gone(),
                                {"breaker-failures": 1}, **{"first-byte-timeout": 1})
    assert exchange(daemon, prompt_data("x")).status == 504
    assert exchange(daemon, prompt_data("x")).status == 503
    assert len(upstream.connections) == 1


def test_a_probe_that_nobody_waits_for(scripted):
    silent = threading.Event()

    def script(connection):
        connection.read_request()
        if silent.is_set():
            connection.wait_gone()
    upstream, daemon = scripted(script, {"breaker-failures": 1, "breaker-time": 1})
    assert exchange(daemon, prompt_data("x")).status == 502
    silent.set()
    time.sleep(1)
    with Exchange(daemon, prompt_data("x")):
        upstream.wait_connections(2)
        assert exchange(daemon, prompt_data("x")).status == 503  # one probe at a time
    silent.clear()
    daemon.log.wait("outcome=client-gone", 2)
    assert exchange(daemon, prompt_data("x")).status == 502
    assert len(upstream.connections) == 3


@pytest.mark.parametrize("status", ["429 Too Many Requests", "400 Bad Request", "401 Unauthorized"])
def test_what_does_not_open_the_breaker(scripted, status):
    upstream, daemon = scripted(status_only(status), {"breaker-failures": 1})
    for _ in range(3):
        assert exchange(daemon, prompt_data("x")).status in (400, 429, 502)
    assert len(upstream.connections) == 3


def test_no_breaker(scripted):
    upstream, daemon = scripted(status_only("500 Internal Server Error"), {"breaker-failures": 0})
    for _ in range(20):
        assert exchange(daemon, prompt_data("x")).status == 502
    assert len(upstream.connections) == 20


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("most", [1, 2])
def test_only_so_many_connections(scripted, most):
    """Who finds none waits, in order, and comes by one that was used before."""
    go_on = threading.Event()
    prompts = []

    def script(connection):
        while True:
            connection.read_request()
            prompts.append(connection.json["messages"][0]["content"])
            connection.head()
            connection.event("a")
            go_on.wait(20)
            connection.done()
    upstream, daemon = scripted(script, {"max-connections": most})
    running = [Exchange(daemon, prompt_data(f"first {number}")) for number in range(most)]
    for made in running:
        made.read_until(b'"a"')
    waiting = [Exchange(daemon, prompt_data(f"{number}")) for number in range(4)]
    wait_for(lambda: daemon.counters("streamer").get("handoffd_connection_waits_total") == 4, 5, "waits")
    assert len(upstream.connections) == len(prompts) == most
    go_on.set()
    for made in [*running, *waiting]:
        assert made.response().text() == "a"
        made.close()
    if most == 1:  # several connections' prompts may be noted in another order than they went out
        assert prompts[most:] == ["0", "1", "2", "3"]
    assert len(prompts) == most + 4 and len(upstream.connections) == most


def test_no_connection_becomes_free(scripted):
    def script(connection):
        answer(connection) if len(upstream.connections) > 1 else connection.wait_gone(20)
    upstream, daemon = scripted(script, {"max-connections": 1, "connect-timeout": 700, "breaker-failures": 1})
    with Exchange(daemon, prompt_data("0")):
        upstream.wait_connections(1)
        started = time.monotonic()
        response = exchange(daemon, prompt_data("1"))
        assert response.status == 503 and response.header("Retry-After") == "1"
        assert 0.6 < time.monotonic() - started < 6
    # That was no fault of the upstream.
    assert exchange(daemon, prompt_data("2")).text() == "ok"


def test_unix_socket(env, openai_factory):
    path = env.folder("upstream", 0o711) / "service.sock"
    with ScriptedUpstream(answer, path=path) as upstream:
        daemon = openai_factory("http://service.example/v1", upstream={"unix-socket": str(path)})
        for _ in range(2):
            assert exchange(daemon, prompt_data("x")).text() == "ok"
        assert b"\r\nHost: service.example\r\n" in upstream.connections[0].request


# ---------------------------------------------------------------- what the client does not do by itself


def test_a_redirect_is_not_followed(scripted):
    with ScriptedUpstream(answer) as elsewhere:
        def script(connection):
            connection.read_request()
            connection.send(f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode())
        upstream, daemon = scripted(script)
        assert exchange(daemon, prompt_data("x")).status == 502
        assert len(upstream.connections) == 1 and not elsewhere.connections


def test_the_environment_says_nothing(env, monkeypatch, scripted):
    """The supervisor gives its roles no environment, a unit of systemd might: no proxy, no .netrc. A role wipes it."""
    programs = env.folder("programs", 0o755)
    for program in env.bin.iterdir():
        (programs / program.name).symlink_to(program)
    home = env.folder("home", 0o755)
    (home / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    (home / ".netrc").chmod(0o644)
    names = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    with ScriptedUpstream(answer) as proxy:
        lines = [f"export {name}=http://user:word@127.0.0.1:{proxy.port}" for name in names]
        (programs / "handoffd-streamer").unlink()
        (programs / "handoffd-streamer").write_text("\n".join(
            ["#!/bin/sh", *lines, f"export HOME={home}", f'exec {env.bin}/handoffd-streamer "$@"', ""]))
        (programs / "handoffd-streamer").chmod(0o755)
        monkeypatch.setattr(env, "bin", programs)
        upstream, daemon = scripted(answer, **{"credential-file": ""})
        if os.geteuid() == 0:
            environment = open(f"/proc/{daemon.pid('streamer')}/environ", "rb").read()
            assert environment and environment.strip(b"\0") == b"", "the role has not wiped it"
        assert exchange(daemon, prompt_data("x")).text() == "ok"
        head = upstream.connections[0].request.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
        assert b"authorization" not in head and b"proxy" not in head
        assert not proxy.connections


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to read the memory of a process that is not dumpable")
@pytest.mark.skipif(SANITIZE, reason="a sanitizer has terabytes of it, and copies")
def test_the_credential_is_in_memory_once(scripted):
    """libcurl's copies of it do not outlive their requests."""
    upstream, daemon = scripted(answer)
    for number in range(5):
        assert exchange(daemon, prompt_data(f"{number}" * 3000)).text() == "ok"
    assert in_memory(daemon.pid("streamer"), KEY.encode()) == 1
