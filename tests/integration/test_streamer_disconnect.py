# SPDX-License-Identifier: Apache-2.0
"""What becomes of the upstream's answer when the client hangs up: cancelled at once, or drained up to a cap."""
import json
import socket
import threading
import time

from env import wait_for
from streams import Exchange, prompt_data


class Answer:
    """A script: one event, then, once the client has left, more of them until `count` or the connection is gone."""

    def __init__(self, count: int, size: int = 10):
        self.count, self.size = count, size
        self.client_left, self.sent, self.ended = threading.Event(), 0, threading.Event()

    def __call__(self, connection):
        connection.read_request()
        connection.head()
        connection.event("first")
        self.client_left.wait(10)
        time.sleep(0.2)
        try:
            while self.sent < self.count and not connection.gone.is_set():
                connection.event("x" * self.size)
                self.sent += 1
                time.sleep(0.001)
            connection.chunk(b"data: [DONE]\n\n")
            connection.send(b"0\r\n\r\n")
        except OSError:
            pass
        self.ended.set()
        connection.wait_gone(2)


def leave_after_first(daemon, answer):
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"first")
    answer.client_left.set()


def test_drained(scripted):
    answer = Answer(100)
    upstream, daemon = scripted(answer, **{"on-disconnect": "drain"})
    since = daemon.log.position()
    leave_after_first(daemon, answer)
    assert answer.ended.wait(30) and answer.sent == 100
    line = daemon.log.wait("event=stream-end", 5, since)[0]
    assert "outcome=client-gone" in line
    counters = daemon.counters("streamer")
    assert counters.get("handoffd_upstream_cancelled_total", 0) == 0 and counters.get("daemon_active_streams", 0) == 0


def test_drained_up_to_a_cap(scripted):
    answer = Answer(100000, size=1000)
    upstream, daemon = scripted(answer, **{"on-disconnect": "drain", "drain-bytes": 20000})
    leave_after_first(daemon, answer)
    assert answer.ended.wait(30) and 15 <= answer.sent < 3000
    daemon.log.wait("event=stream-end.*outcome=client-gone", 5)
    assert daemon.counters("streamer")["handoffd_upstream_cancelled_total"] == 1


def test_drained_while_held_back(scripted):
    """A slow client holds the upstream back; when it leaves, the rest comes."""
    answer = Answer(3000, size=4000)
    upstream, daemon = scripted(answer, **{"on-disconnect": "drain", "drain-bytes": 100000000})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"first")
        answer.client_left.set()
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) > 0, 15, "the pause")
        assert not answer.ended.is_set()
    assert answer.ended.wait(30) and answer.sent == 3000
    daemon.log.wait("event=stream-end.*outcome=client-gone", 5)


def test_cancelled(scripted):
    answer = Answer(100000)
    upstream, daemon = scripted(answer)
    leave_after_first(daemon, answer)
    assert answer.ended.wait(15) and answer.sent < 5000
    daemon.log.wait("event=stream-end.*outcome=client-gone", 5)


def test_the_end_comes_when_it_is_held_back_no_more(scripted):
    """The client has left; what libcurl kept while it was held back ends the stream from inside the call that lets it
    go on."""
    def script(connection):
        connection.read_request()
        connection.head()
        value = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x" * 255000}}]}
        event = b"data: " + json.dumps(value).encode() + b"\n\n"
        connection.send(b"%x\r\n%s" % (len(event), event[:-2]))
        time.sleep(0.3)
        connection.send(b"\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        connection.wait_gone(5)
    upstream, daemon = scripted(script, **{"on-disconnect": "drain"})
    pid = daemon.pid("streamer")
    with Exchange(daemon, prompt_data("x")) as made:
        made.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) > 0, 15, "the pause")
    daemon.log.wait("event=stream-end.*outcome=client-gone", 5)
    wait_for(lambda: daemon.counters("streamer")["daemon_active_streams"] == 0, 5, "the end of the stream")
    assert daemon.pid("streamer") == pid
