# SPDX-License-Identifier: Apache-2.0
"""What a client that is slow, silent or gone can cost, and how streams end with their process."""
import array
import fcntl
import os
import re
import signal
import socket
import termios
import threading
import time

import pytest

import handoff1
from client import HttpError
from env import SANITIZE, alive, proc_status, wait_for
from streams import Exchange, LONG, exchange, prompt_data, refused


class KeptExchange(Exchange):
    """An Exchange that keeps `server`, the end of the connection that the streamer has."""

    def __init__(self, daemon, data, receive_buffer=None):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            self.client = socket.socket()
            if receive_buffer:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.client.settimeout(20)
            self.client.connect(listener.getsockname())
            self.server, _ = listener.accept()
        with handoff1.Sender(daemon.path()) as sender:
            reply_socket = sender.handoff(self.server, data, key=daemon.keys.key)
            self.reply = reply_socket.receive(20)
            reply_socket.close()
        self.raw = b""

    def queued(self) -> int:
        """Bytes in the kernel on the streamer's side."""
        found = array.array("i", [0])
        fcntl.ioctl(self.server, termios.TIOCOUTQ, found)
        return found[0]

    def close(self):
        self.server.close()
        super().close()


def test_socket_options(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),),
                              backends={"demo": {"type": "demo", "delay": 10000, "write-timeout": 7}})
    with KeptExchange(daemon, prompt_data("x")) as made:
        made.read_until(b"data:")

        def option(level, name):
            return made.server.getsockopt(level, name)
        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert option(socket.SOL_SOCKET, socket.SO_SNDBUF) == 131072


def test_memory_of_a_stalled_client(handoffd_factory):
    """In the kernel."""
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 0}})
    with KeptExchange(daemon, prompt_data(LONG), receive_buffer=4096) as made:
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) > 0, 10, "pause")
        assert 4096 < made.queued() <= 131072


def resident(pid) -> int:
    return int(proc_status(pid)["VmRSS"].split()[0]) * 1024


@pytest.mark.skipif(SANITIZE, reason="sanitizers keep what is freed")
def test_memory_of_many_stalled_clients(scripted):
    """In the streamer: each holds a bounded piece of its answer, however long that is."""
    count, go_on = 40, threading.Event()

    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("first")
        go_on.wait(30)
        for _ in range(5000):  # 5 MB
            connection.event("x" * 1000)
    upstream, daemon = scripted(script)
    pid = daemon.pid("streamer")
    clients = [KeptExchange(daemon, prompt_data("x"), receive_buffer=4096) for _ in range(count)]
    try:
        for client in clients:
            client.read_until(b"first")
        before = resident(pid)
        go_on.set()
        wait_for(lambda: daemon.counters("streamer").get("handoffd_pauses_total", 0) >= count, 20, "all upstreams held back")
        time.sleep(0.5)
        assert resident(pid) - before < count * 32768
    finally:
        for client in clients:
            client.close()


def test_client_that_has_gone_is_not_accepted(scripted):
    """It hung up before the streamer saw it: the upstream is not asked."""
    upstream, daemon = scripted(lambda connection: connection.wait_gone())
    pair = handoff1.tcp_pair()
    pair.client.close()
    with handoff1.Sender(daemon.path()) as sender:
        reply = sender.handoff(pair.server, prompt_data("x"), key=daemon.keys.key).receive(5)
    assert not reply.accepted and reply.reason == "client-gone"
    pair.close()
    time.sleep(0.2)
    assert upstream.connections == []
    assert daemon.counters("streamer")["daemon_handoff_errors_total/client-gone"] == 1


def test_client_that_sends_more_has_not_gone(handoffd_factory):
    """A pipelined request is no hang-up."""
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 0}})
    pair = handoff1.tcp_pair()
    pair.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with handoff1.Sender(daemon.path()) as sender:
        assert sender.handoff(pair.server, prompt_data("x"), key=daemon.keys.key).receive(5).accepted
    pair.close()


def test_last_bytes_arrive_at_a_client_that_sends_more(handoffd_factory):
    """The close lingers: unread input would reset the connection, and the end of the answer would be lost."""
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 1}})
    for _ in range(5):
        with Exchange(daemon, prompt_data("x")) as made:
            since = daemon.log.position()
            made.read_until(b"[DONE]")
            daemon.log.wait("event=stream-end", 5, since)
            made.client.sendall(b"x" * 100000)
            time.sleep(0.1)
            assert made.response().body.endswith(b"data: [DONE]\n\n")


def test_lingering_ends(handoffd_factory):
    """A client that does not close is closed after a while, and is not counted as a stream any more."""
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 0}})
    with Exchange(daemon, prompt_data("x")) as made:
        made.response()
        assert daemon.counters("streamer")["daemon_active_streams"] == 1
        wait_for(lambda: daemon.counters("streamer")["daemon_active_streams"] == 0, 4, "the end of the lingering close")
        made.client.sendall(b"x")
        time.sleep(0.1)
        with pytest.raises(ConnectionError):
            made.client.sendall(b"x")


# ---------------------------------------------------------------- the end of the process

def stop(daemon) -> int:
    pid = daemon.pid("streamer")
    daemon.expect("event=exited role=streamer .*status=0")
    os.kill(pid, signal.SIGTERM)
    daemon.log.wait("handoffd-streamer.*event=stopping", 2)
    return pid


def silent(connection):
    connection.read_request()
    connection.wait_gone(20)


def talking(connection):
    connection.read_request()
    connection.head()
    connection.event("a")
    connection.wait_gone(20)


def test_stop_before_the_head(scripted):
    """Whoever waits for the upstream's status gets one of ours."""
    upstream, daemon = scripted(silent, **{"stop-grace": 1})
    with Exchange(daemon, prompt_data("x")) as made:
        upstream.wait_connections(1)
        pid = stop(daemon)
        response = made.response()
    assert response.status == 503 and response.header("Retry-After") == "1" and response.error()["code"] == "stopped"
    wait_for(lambda: upstream.connections[0].gone.is_set(), 2, "end of the upstream call")
    wait_for(lambda: not alive(pid), 4, "end of the streamer")


@pytest.mark.parametrize("output", ["content", "passthrough"])
def test_stop_within_the_stream(scripted, output):
    upstream, daemon = scripted(talking, output=output, **{"stop-grace": 1})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"a"')
        stop(daemon)
        response = made.response()
    assert response.error()["code"] == "stopped" and b"[DONE]" not in response.raw


def test_stop_within_text(scripted):
    upstream, daemon = scripted(talking, output="text", **{"stop-grace": 1})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"\r\na\r\n")
        stop(daemon)
        with pytest.raises(HttpError) as caught:
            made.response()
    assert caught.value.incomplete


def test_stop_refuses_new_work(scripted):
    upstream, daemon = scripted(talking, **{"stop-grace": 30})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"a"')
        stop(daemon)
        daemon.log.wait("event=peer-stopping", 2)
        reply = refused(daemon, prompt_data("x"))
        assert (reply.status, reply.reason, reply.retry_after) == (503, "no-streamer", 1)
        assert len(upstream.connections) == 1


def test_rolling_replacement_does_not_cut_a_stream(scripted):
    """Streamer and dialer are replaced; the old streamer goes on with its upstream, new clients go to the new one."""
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        if len(upstream.connections) == 1:
            go_on.wait(20)
        connection.event("b")
        connection.done()
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"a"')
        old = daemon.pid("streamer")
        daemon.reload()
        assert exchange(daemon, prompt_data("x")).text() == "ab"
        go_on.set()
        assert made.response().text() == "ab"
        pids = re.findall(r"handoffd-streamer\[(\d+)\]: event=stream-end", daemon.log.path.read_text())
        assert pids[-1] == str(old) and pids[0] != str(old)
    wait_for(lambda: not alive(old), 5, "end of the old streamer")
