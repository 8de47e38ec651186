# SPDX-License-Identifier: Apache-2.0
"""Upstreams of HTTP/2 that break the rules or use them to the limit: whoever asked them gets an error, nobody else
notices, and the streamer goes on."""
import os
import struct
import threading
import time

import h2.errors
import h2.events
import h2.settings
import hpack.huffman
import hpack.huffman_constants as huffman
import pytest

from env import SANITIZE, wait_for
from h2_server import H2Upstream, answering, frame
from streams import Exchange, KEY, exchange, in_memory, prompt_data

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 5, 6, 7, 8
Codes, Settings = h2.errors.ErrorCodes, h2.settings.SettingCodes
NO_SPARES = {"spare-connections": 0}


@pytest.fixture
def hostile(env, authority, openai_factory):
    """hostile(script, ...) -> (upstream, daemon)"""
    made = []

    def make(script, upstream=None, backend=None, **how):
        made.append(H2Upstream(script, authority.context("DNS:localhost"), **how))
        return made[-1], openai_factory(made[-1].url, backend=backend, upstream={
            "http": "2", "ca-file": authority.ca_file, **NO_SPARES, **(upstream or {})})
    yield make
    for upstream in made:
        upstream.stop()
        assert not upstream.errors, upstream.errors


def fails(daemon, status=502, code="upstream-error"):
    response = exchange(daemon, prompt_data("x"))
    assert (response.status, response.error()["code"]) == (status, code)
    assert b"[DONE]" not in response.raw


class Turns:
    """A script: the first connections do what is listed, all further ones answer properly."""

    def __init__(self, *scripts):
        self.scripts, self.lock = list(scripts), threading.Lock()

    def __call__(self, connection):
        with self.lock:
            script = self.scripts.pop(0) if self.scripts else answering
        script(connection)


# ---------------------------------------------------------------- before the first request


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["none", "http1"])
def test_no_http2_agreed(hostile, alpn):
    """Although it would speak it."""
    upstream, daemon = hostile(answering, alpn=alpn)
    fails(daemon)
    assert not any(peer.headers for peer in upstream.peers)
    daemon.log.wait("event=upstream-connection.*error=", 2)


@pytest.mark.parametrize("garbage", [
    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000, frame(PING, payload=b"12345678"),
    frame(SETTINGS, payload=b"123"), frame(GOAWAY, payload=struct.pack(">II", 0, 0)), b""],
    ids=["ssh", "http1", "zeros", "no-settings", "bad-settings", "goaway", "end"])
def test_no_http2_spoken(hostile, garbage):
    """Nothing is asked of it: no credential is sent."""
    def script(connection):
        connection.raw(garbage)
        if garbage:
            assert connection.sock.recv(65536).startswith(b"PRI * HTTP/2.0")
            connection.sock.settimeout(5)
            while connection.sock.recv(65536):
                pass
    upstream, daemon = hostile(script, begin=False)
    fails(daemon)
    assert b"authorization" not in upstream.peers[0].connection.request


def test_silence_in_place_of_settings(hostile):
    def script(connection):
        while connection.sock.recv(65536):
            pass
    upstream, daemon = hostile(script, begin=False, upstream={"connect-timeout": 500})
    start = time.monotonic()
    fails(daemon, 504, "upstream-timeout")
    assert time.monotonic() - start < 8


def test_no_streams_allowed(hostile):
    upstream, daemon = hostile(lambda connection: connection.wait_end(), settings={Settings.MAX_CONCURRENT_STREAMS: 0},
                               upstream={"retries": 0})
    fails(daemon)
    assert len(upstream.peers) == 1


def test_spares_of_an_upstream_that_ends_them(hostile):
    """Connections on stock are not made faster than they fail."""
    upstream, daemon = hostile(lambda connection: None, upstream={"spare-connections": 3})
    time.sleep(4)
    assert len(upstream.connections) < 20, len(upstream.connections)


# ---------------------------------------------------------------- requests that were not begun


def refuse(connection, code=Codes.REFUSED_STREAM):
    while (stream := connection.request()) is not None:
        connection.reset(stream, code)


def test_refused_stream_is_sent_again(hostile):
    """The whole request, once more."""
    bodies = []

    def script(connection):
        first = connection.request()
        bodies.append(connection.bodies[first])
        connection.reset(first)
        second = connection.request()
        bodies.append(connection.bodies[second])
        connection.answer(second, "yes")
    upstream, daemon = hostile(script)
    assert exchange(daemon, prompt_data("x" * 50000)).text() == "yes"
    assert bodies[0] == bodies[1] and len(bodies[0]) > 50000


@pytest.mark.parametrize("retries", [0, 2])
def test_refused_again_and_again(hostile, retries):
    """Sent once, and then as often as `retries` says."""
    upstream, daemon = hostile(refuse, {"retries": retries})
    fails(daemon)
    assert sum(len(peer.bodies) for peer in upstream.peers) == 1 + retries
    assert daemon.counters("streamer")["handoffd_upstream_retries_total"] == retries


@pytest.mark.parametrize("delay, asked", [(0, ["one", "two", "two"]), (1.5, ["one", "two"])])
def test_a_kept_connection_that_closes(hostile, delay, asked):
    """At once: it was about to close anyway. Later: the upstream may have been at work on the request."""
    prompts = []

    def script(connection):
        for _ in range(2):
            stream = connection.request()
            if stream is None:
                return
            prompts.append(connection.prompt(stream))
            if len(prompts) != 2:
                connection.answer(stream, "ok")
        time.sleep(delay)
    upstream, daemon = hostile(script, {"retries": 0})
    assert exchange(daemon, prompt_data("one")).text() == "ok"
    response = exchange(daemon, prompt_data("two"))
    assert prompts == asked
    assert response.status == (502 if delay else 200)


def test_other_resets_are_not_sent_again(hostile):
    upstream, daemon = hostile(lambda connection: refuse(connection, Codes.INTERNAL_ERROR), upstream={"retries": 0})
    fails(daemon)
    assert len(upstream.peers[0].bodies) == 1


def test_goaway_before_the_request_was_begun(hostile):
    def leaving(connection):
        connection.request()
        connection.h2.close_connection(last_stream_id=0)
        connection.flush()
        connection.wait_end()
    upstream, daemon = hostile(Turns(leaving))
    assert exchange(daemon, prompt_data("moved")).text() == "moved"
    assert len(upstream.peers) == 2


def test_no_connection_that_stays(hostile):
    """They say goodbye one after the other, each before it has begun with the request: that has an end."""
    def leaving(connection):
        connection.request()
        connection.h2.close_connection(last_stream_id=0)
        connection.flush()
        connection.wait_end()
    upstream, daemon = hostile(leaving, {"retries": 3})
    fails(daemon)
    assert len(upstream.peers) == 13


def leaving_slowly(go_on):
    """A script: says goodbye, but ends the stream that runs in its own time."""
    def script(connection):
        stream = connection.request()
        connection.head(stream)
        connection.event(stream, "a")
        connection.raw(frame(GOAWAY, payload=struct.pack(">II", stream, 0)))
        go_on.wait(10)
        connection.event(stream, "b")
        connection.done(stream)
        connection.wait_end()
    return script


def test_goaway_lets_running_streams_end(hostile):
    """Also where there may be one connection only."""
    go_on = threading.Event()
    upstream, daemon = hostile(Turns(leaving_slowly(go_on)), {"max-connections": 1, "connect-timeout": 2000})
    with Exchange(daemon, prompt_data("old")) as made:
        made.read_until(b'"a"')
        assert exchange(daemon, prompt_data("new")).text() == "new"
        go_on.set()
        assert made.response().text() == "ab"
    assert len(upstream.peers) == 2
    wait_for(lambda: upstream.peers[0].ended, 5, "end of the old connection")


def test_connections_that_drain_have_a_limit(hostile):
    """An upstream that says goodbye at each request does not get a connection for each."""
    go_on = threading.Event()
    upstream, daemon = hostile(leaving_slowly(go_on), {"max-connections": 2, "connect-timeout": 1000})
    streams = [Exchange(daemon, prompt_data("x")) for _ in range(4)]
    for one in streams:
        one.read_until(b'"a"')
    assert exchange(daemon, prompt_data("x")).status == 503
    go_on.set()
    assert [one.response().text() for one in streams] == ["ab"] * 4
    wait_for(lambda: all(peer.ended for peer in upstream.peers), 5, "the ends of all")
    assert len(upstream.peers) == 4


def test_connection_that_ends_under_a_request(hostile):
    """It was idle, and the upstream ended it just when the request went out."""
    def leaving(connection):
        connection.answer(connection.request(), "first")
        connection.request()
    upstream, daemon = hostile(Turns(leaving), upstream={"retries": 0})
    assert exchange(daemon, prompt_data("x")).text() == "first"
    assert exchange(daemon, prompt_data("second")).text() == "second"
    assert len(upstream.peers) == 2


# ---------------------------------------------------------------- answers


def test_interim_heads_and_trailers(hostile):
    def script(connection):
        stream = connection.request()
        for _ in range(3):
            connection.h2.send_headers(stream, [(":status", "103"), ("link", "</x>")])
        connection.head(stream)
        connection.event(stream, "a")
        connection.data(stream, b"data: [DONE]\n\n")
        connection.h2.send_headers(stream, [("x-checksum", "1")], end_stream=True)
        connection.flush()
        connection.wait_end()
    upstream, daemon = hostile(script)
    assert exchange(daemon, prompt_data("x")).text() == "a"


@pytest.mark.parametrize("headers", [
    [("x-long", "y" * 4000)] * 30, [("content-encoding", "gzip")], [("content-length", "5")], [("transfer-encoding", "chunked")],
    [("X-Upper", "case")]], ids=["giant", "gzip", "length", "hop-by-hop", "upper-case"])
def test_heads_that_are_not_acceptable(hostile, headers):
    """The stream fails; the connection serves the next one."""
    def script(connection):
        stream = connection.request()
        try:
            connection.head(stream, headers=[("content-type", "text/event-stream"), *headers])
            connection.event(stream, "a")
        except h2.exceptions.StreamClosedError:
            pass
        answering(connection)
    upstream, daemon = hostile(script, upstream={"retries": 0})
    response = exchange(daemon, prompt_data("x"))
    assert response.error()["code"] == "upstream-error" and b"[DONE]" not in response.raw
    assert exchange(daemon, prompt_data("next")).text() == "next"
    assert len(upstream.peers) == 1


def test_endless_interim_heads(hostile):
    def script(connection):
        stream = connection.request()
        try:
            for _ in range(3000):
                connection.h2.send_headers(stream, [(":status", "103"), ("link", "</x>" * 20)])
                connection.flush()
            connection.answer(stream, "too late")
        except (h2.exceptions.ProtocolError, OSError):
            pass
        connection.wait_end()
    upstream, daemon = hostile(script, upstream={"retries": 0})
    fails(daemon)


def test_answer_before_the_request_is_whole(hostile):
    """It came with an end: the rest of the request is not sent, the connection goes on."""
    def script(connection):
        connection.wait(h2.events.RequestReceived)
        connection.head(1, status=429, headers=[("retry-after", "3")], end=True)
        event = connection.wait(h2.events.StreamReset)
        assert (event.stream_id, event.error_code) == (1, Codes.NO_ERROR) and len(connection.bodies[1]) <= 65535
        connection.h2.increment_flow_control_window(1000000)
        answering(connection)
    upstream, daemon = hostile(script, settings={Settings.INITIAL_WINDOW_SIZE: 1000})
    response = exchange(daemon, prompt_data("x" * 200000))
    assert response.status == 429 and response.header("Retry-After") == "3"
    assert exchange(daemon, prompt_data("next")).text() == "next"


def test_request_through_a_small_window(hostile):
    upstream, daemon = hostile(answering, settings={Settings.INITIAL_WINDOW_SIZE: 7})
    assert exchange(daemon, prompt_data("0123456789" * 20)).text() == "0123456789" * 20


def test_end_without_done(hostile):
    def script(connection):
        stream = connection.request()
        connection.head(stream)
        connection.event(stream, "a")
        connection.data(stream, b": bye\n\n", end=True)
        connection.wait_end()
    upstream, daemon = hostile(script)
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200 and response.error()["code"] == "upstream-error"


# ---------------------------------------------------------------- abuse of a connection


def after_head(attack):
    """A script: a request is answered with its head and an event, then this; other connections answer."""
    def script(connection):
        stream = connection.request()
        connection.head(stream)
        connection.event(stream, "a")
        try:
            attack(connection, stream)
            connection.sock.settimeout(10)
            while connection.sock.recv(65536):
                pass
        except OSError:
            pass
    return Turns(script)


ATTACKS = {
    "ping flood": lambda c, s: [c.raw(frame(PING, payload=b"12345678") * 100) for _ in range(100)],
    "settings flood": lambda c, s: [c.raw(frame(SETTINGS) * 100) for _ in range(100)],
    "empty data": lambda c, s: [c.raw(frame(DATA, 0, s) * 100) for _ in range(100)],
    "window updates": lambda c, s: [c.raw(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 100) for _ in range(100)],
    "resets of nothing": lambda c, s: [c.raw(frame(RST_STREAM, 0, s + 2, struct.pack(">I", 0)) * 100) for _ in range(100)],
    "unknown frames": lambda c, s: [c.raw(frame(0x77, 0, 0, b"x" * 10000) * 10) for _ in range(100)],
    "window overflow": lambda c, s: c.raw(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fffffff)) * 2),
    "beyond the window": lambda c, s: [c.raw(frame(DATA, 0, s, b":" * 16384)) for _ in range(100)],
    "frame too large": lambda c, s: c.raw(frame(DATA, 0, s, b"x" * 20000)),
    "push": lambda c, s: c.raw(frame(PUSH_PROMISE, 4, s, struct.pack(">I", 2) + b"\x88")),
    "compression": lambda c, s: c.raw(frame(HEADERS, 5, s, b"\xff\xff\xff\xff\xff\xff")),
    "half a frame": lambda c, s: (c.raw(frame(DATA, 0, s, b"data: ", 100)), c.sock.unwrap()),
    "goaway with an error": lambda c, s: (c.raw(frame(GOAWAY, payload=struct.pack(">II", 0, 2))), c.sock.unwrap()),
    "reset": lambda c, s: c.raw(frame(RST_STREAM, 0, s, struct.pack(">I", 2))),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(hostile, attack):
    """The stream ends with an error and its connection soon; the next request is served."""
    upstream, daemon = hostile(after_head(ATTACKS[attack]))
    pid, start = daemon.pid("streamer"), time.monotonic()
    response = exchange(daemon, prompt_data("x"))
    assert response.status == 200 and response.error()["code"] == "upstream-error"
    assert time.monotonic() - start < 12
    if attack != "reset":
        assert exchange(daemon, prompt_data("next")).text() == "next"
    assert daemon.pid("streamer") == pid


def test_endless_continuation(hostile):
    """A head without an end is no head."""
    def script(connection):
        stream = connection.request()
        try:
            connection.raw(frame(HEADERS, 0, stream, b"\x88"))
            for _ in range(1000):
                connection.raw(frame(9, 0, stream, b"\x00\x01x\x7f\x81\x7f" + b"y" * 256) * 10)
        except OSError:
            pass
        connection.wait_end()
    upstream, daemon = hostile(Turns(script), upstream={"retries": 0})
    fails(daemon)
    assert exchange(daemon, prompt_data("next")).text() == "next"


# ---------------------------------------------------------------- cancelling


def test_cancel_is_a_reset(hostile):
    """Of the one stream: the others of its connection go on."""
    go_on = threading.Event()

    def script(connection):
        streams = [connection.request() for _ in range(2)]
        for stream in streams:
            connection.head(stream)
            connection.event(stream, connection.prompt(stream))
        reset = connection.wait(h2.events.StreamReset, 15)
        assert reset and reset.error_code == Codes.CANCEL and connection.prompt(reset.stream_id) == "leaves"
        go_on.set()
        stays, = set(streams) - {reset.stream_id}
        connection.event(stays, " b")
        connection.done(stays)
        connection.wait_end()
    upstream, daemon = hostile(script)
    with Exchange(daemon, prompt_data("stays")) as stays:
        with Exchange(daemon, prompt_data("leaves")) as leaves:
            leaves.read_until(b'"leaves"')
        left = time.monotonic()
        assert go_on.wait(15) and time.monotonic() - left < 4
        assert stays.response().text() == "stays b"
    assert len(upstream.peers) == 1


def test_done_without_end_is_reset(hostile):
    """The answer is whole at [DONE]: the client has it at once, and the upstream's stream does not stay for ever."""
    def script(connection):
        stream = connection.request()
        connection.head(stream)
        connection.event(stream, "a")
        connection.data(stream, b"data: [DONE]\n\n")
        assert connection.wait(h2.events.StreamReset, 15)
        answering(connection)
    upstream, daemon = hostile(script)
    start = time.monotonic()
    assert exchange(daemon, prompt_data("x")).text() == "a"
    assert time.monotonic() - start < 1
    wait_for(lambda: upstream.peers[0].resets, 4, "the reset")
    assert exchange(daemon, prompt_data("next")).text() == "next"


def test_status_that_is_none(hostile):
    """Below 100: no answer that could be passed on, and none that could count as whole."""
    def script(connection):
        stream = connection.request()
        connection.head(stream, "042")
        connection.event(stream, "x")
        connection.done(stream)
        connection.wait_end()
    upstream, daemon = hostile(script, {"retries": 0, "breaker-failures": 1, "breaker-time": 1})
    fails(daemon)
    assert exchange(daemon, prompt_data("x")).status == 503  # the breaker heard of it


def test_answers_on_their_way_to_many_that_left(hostile):
    """What an upstream sent before it heard that they had left, a window's worth each, ends nobody else's stream."""
    many = 100

    def script(connection):
        streams = [connection.request() for _ in range(many + 1)]
        for stream in streams:
            connection.head(stream)
            connection.event(stream, "first")
        wait_for(lambda: connection.pump() and len(connection.resets) == many, 20, "the end of those that left")
        connection.raw(b"".join(frame(DATA, 0, stream, b":" * 16000) for stream in connection.resets))
        stays = next(stream for stream in streams if stream not in connection.resets)
        connection.event(stays, "last")
        connection.done(stays)
        connection.wait_end()
    upstream, daemon = hostile(script, {"streams-per-connection": many + 1}, settings={Settings.MAX_CONCURRENT_STREAMS: 1000})
    streams = [Exchange(daemon, prompt_data("x")) for _ in range(many + 1)]
    for one in streams:
        one.read_until(b"first")
    for one in streams[1:]:
        one.close()
    assert streams[0].response().text() == "firstlast"
    assert len(upstream.peers) == 1


# ---------------------------------------------------------------- secrets


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to read the memory of a process that is not dumpable")
@pytest.mark.skipif(SANITIZE, reason="a sanitizer has terabytes of it, and copies")
def test_the_credential_is_in_memory_once(hostile):
    """Neither as it is nor as HPACK writes it do copies outlive their requests, on connections that live nor on those
    that have ended."""
    def once(connection):
        stream = connection.request()
        assert connection.headers[stream]["authorization"] == f"Bearer {KEY}"
        connection.answer(stream, "once")
    upstream, daemon = hostile(Turns(once, once), {"streams-per-connection": 2})
    for expected in ("once", "once", "short", "short", "x" * 3000, "short"):
        assert exchange(daemon, prompt_data(expected)).text() == expected
    coder = hpack.huffman.HuffmanEncoder(huffman.REQUEST_CODES, huffman.REQUEST_CODES_LENGTH)
    packed = coder.encode(f"Bearer {KEY}".encode())
    assert len(packed) < len(KEY) + 7 and len(upstream.peers) == 3
    assert in_memory(daemon.pid("streamer"), packed) == 0
    assert in_memory(daemon.pid("streamer"), KEY.encode()) == 1
