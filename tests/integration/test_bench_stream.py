# SPDX-License-Identifier: Apache-2.0
"""The bench of the streaming engine, with few streams: its clients see every stream whole, and see when one is not."""
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))

import bench_stream  # noqa: E402
from env import SANITIZE  # noqa: E402

SMALL = bench_stream.Variant(streams=300, seconds=0.5, gap=30)


@pytest.fixture(name="programs", scope="module")
def fixture_programs(env):
    return bench_stream.Programs(env)


def changed(**changes) -> bench_stream.Variant:
    return dataclasses.replace(SMALL, **changes)


VARIANTS = {
    "demo": SMALL, "h1": changed(backend="h1"), "h1-tls": changed(backend="h1-tls"), "h2": changed(backend="h2"),
    # Not so many at once that the gate refuses some.
    "h1-dense": changed(backend="h1", dense=200, seconds=2), "h2-dense": changed(backend="h2", dense=200, seconds=2),
    "bare": changed(backend="bare"), "relayed": changed(relayed=True), "words": changed(words=40),
    "at-once": changed(seconds=0, workers=2, processes=3), "uncaged": changed(caged=False),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_whole(env, programs, variant):
    if SANITIZE and not variant.caged:
        pytest.skip("a sanitizer build has no cage")
    result = bench_stream.run(env, programs, variant)
    assert result["whole"] == result["streams"] == 300, result
    assert 0 < result["first_byte"]["p50"] <= result["first_byte"]["max"] <= result["duration"]["max"]
    assert result["receiver"] > 0 and result["rss"] >= 0


def ask(port: int, prompt: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.sendall(f"POST / HTTP/1.1\r\nContent-Length: {len(prompt)}\r\n\r\n{prompt}".encode())
    return client


def test_upstream_forgets_nobody(programs):
    """A last message that becomes due while another is written does not lie there until something else happens."""
    strace = shutil.which("strace") or pytest.skip("needs strace to make a write slow")
    upstream = subprocess.Popen(
        [strace, "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", "inject=sendto:delay_exit=400000:when=3",
         programs.upstream, "-n", "2", "-g", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(upstream.stdout.readline())
        with ask(port, "bench-0000000001") as first:
            assert first.recv(1)
            time.sleep(0.2)
            with ask(port, "bench-0000000002") as second:
                for client in (first, second):  # the second's is due while the first's is written
                    answer = b""
                    while b"[DONE]" not in answer:
                        answer += client.recv(4096)
    finally:
        upstream.communicate()


@pytest.mark.parametrize("backend", ["h1", "h2"])
def test_upstream_sees_who_leaves(env, programs, backend):
    result = bench_stream.run(env, programs, changed(backend=backend, streams=50, gap=1000, leave=True))
    assert result["left"] == 50 and result["given up"] == 50
    assert 0 <= result["given up ms"] < 5000


@pytest.mark.parametrize("backend", ["h1", "h2"])
def test_slow_clients(env, programs, monkeypatch, backend):
    monkeypatch.setattr(bench_stream, "SLOW_RATE", 200000)
    result = bench_stream.run(env, programs, changed(backend=backend, streams=50, slow=3))
    assert result["whole"] == 50 and result["slow whole"] == 3 and result["pauses"] >= 3


def test_another_body_is_wrong(env, programs, monkeypatch):
    right = bench_stream.demo_body
    monkeypatch.setattr(bench_stream, "demo_body", lambda prompt: right(prompt).replace("long", "lond"))
    result = bench_stream.run(env, programs, SMALL)
    assert result["wrong"] == 300 and result["whole"] == 0


def test_a_part_is_no_whole(env, programs, monkeypatch):
    right = bench_stream.demo_body
    monkeypatch.setattr(bench_stream, "demo_body", lambda prompt: right(prompt) + "more")
    result = bench_stream.run(env, programs, SMALL)
    assert result["wrong"] == 300


def test_nobody_accepts(env, programs, monkeypatch):
    monkeypatch.setattr(bench_stream, "MAX_STREAMS", 100)
    result = bench_stream.run(env, programs, changed(gap=100))
    assert result["whole"] == 100 and result["refused"] == 200
    assert result["causes"] == {"streamer-full": 200}
    assert "| 200 streamer-full |" in bench_stream.table({"demo": [result]})


def test_a_streamer_dies(env, programs, monkeypatch):
    opened = bench_stream.Clients.all_open

    def then_kill(clients):
        answer = opened(clients)
        receivers[0].daemon.expect("event=crashed")
        os.kill(receivers[0].daemon.pid("streamer"), signal.SIGKILL)
        return answer
    receivers, init = [], bench_stream.Receiver.__init__
    monkeypatch.setattr(bench_stream.Receiver, "__init__",
                        lambda self, *arguments: (receivers.append(self), init(self, *arguments))[1])
    monkeypatch.setattr(bench_stream.Clients, "all_open", then_kill)
    monkeypatch.setattr(bench_stream.Receiver, "memory", lambda self: {})
    result = bench_stream.run(env, programs, changed(gap=1000))
    assert result["cut"] == 300
    assert result["causes"]["streams-lost"] == 300 and result["causes"]["log: crashed"] == 1
