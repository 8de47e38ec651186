# SPDX-License-Identifier: Apache-2.0
"""Many streams at once in one streamer: all complete, and an idle one costs little memory."""
import os
import resource
import selectors
import socket
import time

import pytest

import handoff1
from client import parse_response
from env import proc_status, wait_for
from streams import TEXT, exchange, prompt_data

STREAMS = 2000
USER_MEMORY_MAX = 2048  # bytes an idle demo stream may cost


@pytest.fixture(autouse=True)
def descriptors():
    """Both ends of each connection for a moment, and some room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * STREAMS + 200:
        pytest.skip(f"{hard} open files are allowed, {2 * STREAMS + 200} needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def hand_off(daemon, count: int) -> list:
    """The browsers' ends of that many accepted handoffs."""
    clients = []
    with handoff1.Sender(daemon.path()) as sender:
        for number in range(count):
            pair = handoff1.tcp_pair()
            reply_socket = sender.handoff(pair.server, prompt_data(f"stream {number}"), key=daemon.keys.key)
            pair.server.close()
            reply = reply_socket.receive(10)
            assert reply and reply.accepted, reply
            reply_socket.close()
            clients.append(pair.client)
    return clients


def read_all(clients: list, timeout: float) -> list:
    """All that each connection gives until its end."""
    received = [[] for _ in clients]
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for number, client in enumerate(clients):
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ, number)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} streams hang"
            for key, _ in selector.select(1):
                piece = key.fileobj.recv(65536)
                received[key.data].append(piece)
                if not piece:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return [b"".join(pieces) for pieces in received]


def test_concurrent_streams_complete(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 300}})
    clients = hand_off(daemon, STREAMS)
    for number, raw in enumerate(read_all(clients, 60)):
        assert parse_response(raw).text() == f"stream {number}" + TEXT
    wait_for(lambda: daemon.counters("streamer").get("handoffd_streams_total/done") == STREAMS, 5, "all streams ended well")
    wait_for(lambda: len(daemon.log.find("event=stream-end")) > 0, 5)


def test_memory_of_an_idle_stream(handoffd_factory, capsys):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 60000}})
    pid = daemon.pid("streamer")

    def anonymous() -> int:
        return int(proc_status(pid)["RssAnon"].split()[0]) * 1024
    warm = hand_off(daemon, 50)
    before = anonymous()
    clients = hand_off(daemon, STREAMS)
    each = (anonymous() - before) / STREAMS
    with capsys.disabled():
        print(f"\nan idle demo stream costs {each:.0f} bytes of user memory ({STREAMS} streams)")
    assert each < USER_MEMORY_MAX
    for client in [*warm, *clients]:
        client.close()
    wait_for(lambda: daemon.counters("streamer").get("handoffd_streams_total/client-gone", 0) == STREAMS + 50, 10, "ends of streams")


def test_all_clients_leave_at_once(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(os.geteuid(),), backends={"demo": {"type": "demo", "delay": 60000}})
    pid = daemon.pid("streamer")
    clients = hand_off(daemon, 500)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 40, 5, "closed descriptors")
    assert exchange(daemon, b"{}", method="HEAD").status == 200
