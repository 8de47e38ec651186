# SPDX-License-Identifier: Apache-2.0
"""Many streams at once in one streamer: all complete, and an idle one costs little memory."""
import os
import resource
import selectors
import socket
import threading
import time

import pytest

import handoff1
from client import parse_response
from env import SANITIZE, ScriptedUpstream, proc_status, wait_for
from streams import TEXT, exchange, prompt_data, serves

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


def streamer_with(env, monkeypatch, descriptors: int) -> None:
    """Streamers that are started from now on may have so many open files."""
    programs = env.folder("programs", 0o755)
    for program in env.bin.iterdir():
        (programs / program.name).symlink_to(program)
    (programs / "handoffd-streamer").unlink()
    (programs / "handoffd-streamer").write_text(
        f'#!/bin/sh\nulimit -n {descriptors}\nexec {env.bin}/handoffd-streamer "$@"\n')
    (programs / "handoffd-streamer").chmod(0o755)
    monkeypatch.setattr(env, "bin", programs)


@pytest.mark.parametrize("upstream", [False, True], ids=["demo", "openai"])
def test_more_streams_than_descriptors(env, monkeypatch, handoffd_factory, openai_factory, upstream):
    """What finds none left is refused: nobody whose handoff is on its way is let go of without a word, and the
    connection to the gate stays."""
    def hold(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        go_on.wait(30)
        connection.done()
    go_on = threading.Event()
    streamer_with(env, monkeypatch, 200)
    with ScriptedUpstream(hold) as service:
        if upstream:
            daemon = openai_factory(service.url, {"max-streams": 1000})
        else:
            daemon = handoffd_factory(allow_peer=(os.geteuid(),),
                                      backends={"demo": {"type": "demo", "delay": 200, "max-streams": 1000}})
        with handoff1.Sender(daemon.path()) as sender:
            pairs = [handoff1.tcp_pair() for _ in range(300)]
            waiting = [sender.handoff(pair.server, prompt_data("x"), key=daemon.keys.key) for pair in pairs]
            replies = [one.receive(10) for one in waiting]
        assert all(replies), f"{replies.count(None)} without an answer"
        accepted = [pair for pair, reply in zip(pairs, replies) if reply.accepted]
        assert {reply.reason for reply in replies if not reply.accepted} == {"streamer-full"}
        assert len(accepted) >= (40 if upstream else 80)
        go_on.set()
        for pair in pairs:
            pair.server.close()
        for raw in read_all([pair.client for pair in accepted], 30):
            assert parse_response(raw).text() == ("a" if upstream else "x" + TEXT)
        assert daemon.counters("gate")["handoffd_message_malformed_total"] == 0
        counters = daemon.counters("streamer")
        assert counters["daemon_handoff_errors_total/streamer-full"] == len(pairs) - len(accepted)
        assert counters["handoffd_message_malformed_total"] == counters["handoffd_dials_failed_total"] == 0
        assert counters["handoffd_gate_connections_total"] == 1
        wait_for(lambda: serves(daemon, prompt_data("x")), 5, "room again")


@pytest.mark.skipif(SANITIZE, reason="sanitizers make everything larger")
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
