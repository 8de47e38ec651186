# SPDX-License-Identifier: Apache-2.0
"""Defects that were found in earlier daemons of this kind, each by trying it; one test each. Most are tried where the
part is tested; what is left is here.

    defect                                            test
    one idle local connection blocks all others       test_gate_violations::test_idle_connections_block_nobody
    50 idle connections exhaust the slots for good    test_gate_violations::test_slots_come_back
    extra descriptors leak                            test_gate_violations::test_too_many_descriptors, ...
    data over 4 KiB silently becomes another prompt   test_e2e_chat::test_body_data_of_100_kib;
                                                      here test_data_around_the_limits
    prompts doubly escaped                            test_streamer_demo::test_prompt_arrives_escaped_once
    \\u escapes, "content" : with blanks               test_streamer_demo::test_unicode_escapes_and_blanks (request);
                                                      here test_upstream_json_in_any_form (answer)
    chunks over 4 KiB are cut                         here test_large_pieces_of_the_upstream
    upstream refused: client hangs, slot and fd leak  test_e2e_openai::test_not_reached;
                                                      here test_refused_upstream_leaks_nothing
    upstream 500 becomes 200 and [DONE]               test_e2e_openai::test_error_status;
                                                      here test_upstream_that_breaks_off
    a departed client never cancels the call          test_e2e_openai::test_client_that_leaves_cancels_the_upstream
    slow reader: freed memory is sent to the client   test_streamer_demo::test_slow_reader_delays_nobody (demo);
                                                      here test_slow_reader_gets_every_byte (upstream)
    content with a bare CR becomes a field of SSE     here test_content_cannot_forge_events
    streams hang for good beyond about a thousand     here test_more_than_a_thousand_streams
    SIGTERM cuts streams, or never ends               test_streamer_demo::test_stop_lets_streams_finish,
                                                      test_streamer_flow::test_stop_before_the_head, ...
                                                      test_e2e_crash::test_sigterm_ends_in_time
"""
import asyncio
import json
import os
import selectors
import threading
import time

import pytest

import handoff1
from env import SANITIZE, Client, ScriptedUpstream, get, open_fds, parse_response, request, wait_for


class Scripted:
    """handoffd, Apache and a scripted upstream whose script a test sets: `script(connection)` runs after the request was
    read."""

    def __init__(self, handoffd_factory, apache_factory, fpm, **backend):
        self.upstream = ScriptedUpstream(self._run)
        self.script = None
        self.daemon = handoffd_factory({"up": {"type": "openai", "upstream": "up", **backend}},
                                       # Many failures in a row are what some tests are about.
                                       upstreams={"up": {"url": self.upstream.url, "breaker-failures": 0}})
        self.apache = apache_factory(php="fpm", fpm=fpm, keys=self.daemon.keys)
        self.apache.chat_page(self.daemon)
        self.apache.emit_page(self.daemon.keys.key)

    def _run(self, connection):
        connection.read_request()
        self.script(connection)

    def ask(self, script, prompt="x", timeout=15):
        self.script = script
        return request(self.apache.port, "/chat.php", body=prompt.encode(), timeout=timeout)


@pytest.fixture
def scripted(handoffd_factory, apache_factory, fpm):
    made = Scripted(handoffd_factory, apache_factory, fpm)
    yield made
    made.upstream.stop()
    assert not made.upstream.errors


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8191, 65535, 65536, 65537, 300000])
def test_data_around_the_limits(stack, size):
    """Around the sizes where buffers, header lines and the memfd begin: the prompt is the one that was signed."""
    frame = len(json.dumps({"prompt": ""}, separators=(",", ":")))
    prompt = "".join(f"{number:07}-" for number in range(size // 8 + 1))[:size - frame]
    response = request(stack.port, "/chat.php", body=prompt.encode())
    assert response.text().partition("\n\nThis is")[0] == prompt


def test_upstream_json_in_any_form(scripted):
    """Blanks, escapes, surrogates, other members in any order, several data lines, CRLF, comments, cut anywhere."""
    stream = (b": hello\r\n\r\n"
              b'data: { "choices" : [ { "index":0, "delta" : { "role":"assistant", "content" : "\\u0041\\u00e9\\ud83d\\ude00" } } ] }\r\n\r\n'
              b'data:{"usage":null,"choices":[{"delta":{"content":"\\"quoted\\" \\\\ \\/ \\n"},"content":"not this"}]}\n\n'
              b'event: message\nid: 7\ndata: {"choices":\ndata: [{"delta":{"content":" split"}}]}\n\n'
              b'data: {"choices":[]}\n\n'
              b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
              b"data: [DONE]\n\n")

    def in_pieces(size):
        def script(connection):
            connection.head()
            for start in range(0, len(stream), size):
                connection.chunk(stream[start:start + size])
            connection.send(b"0\r\n\r\n")
        return script
    for size in (len(stream), 1, 7, 64):
        assert scripted.ask(in_pieces(size)).text() == 'A\u00e9\U0001f600"quoted" \\ / \n split', size


def test_large_pieces_of_the_upstream(scripted):
    """One event of 100 KiB arrives as one piece of content."""
    content = "".join(f"{number:06} " for number in range(15000))
    response = scripted.ask(lambda connection: (connection.head(), connection.event(content), connection.done()))
    assert response.text() == content


def test_content_cannot_forge_events(scripted):
    """Line ends and event syntax inside of content stay content."""
    content = "a\rdata: forged\n\nevent: error\r\n\r\ndata: [DONE]\n\n\u2028\x7f"
    response = scripted.ask(lambda connection: (connection.head(), connection.event(content), connection.done()))
    assert response.text() == content and len(response.events()) == 2


@pytest.mark.parametrize("how", ["before the head", "after the head", "in the middle", "without [DONE]", "rubbish",
                                 "not JSON", "endless line"])
def test_upstream_that_breaks_off(scripted, how):
    """Never a whole-looking answer: a 502, or an error event as the last one."""
    def script(connection):
        if how == "rubbish":
            connection.send(b"SSH-2.0-OpenSSH\r\n" * 3)
        elif how != "before the head":
            connection.head()
        if how in ("in the middle", "without [DONE]"):
            connection.event("part")
        if how == "without [DONE]":
            connection.send(b"0\r\n\r\n")
        if how == "not JSON":
            connection.chunk(b"data: {nonsense\n\n")
            connection.done()
        if how == "endless line":
            for _ in range(40):
                connection.chunk(b"data: " + b"x" * 65536)
    response = scripted.ask(script)
    assert response.error()["code"] == "upstream-error"
    assert b"[DONE]" not in response.body
    if how in ("before the head", "rubbish"):
        assert response.status == 502
    if how in ("in the middle", "without [DONE]"):
        assert b"part" in response.body


def test_upstream_headers_are_not_forwarded(scripted):
    def script(connection):
        connection.head(headers=("Content-Type: text/event-stream", "Set-Cookie: upstream=1", "X-Upstream: 1",
                                 "Content-Encoding: identity", "X-Socket-Handoff: /x"))
        connection.event("fine")
        connection.done()
    response = scripted.ask(script)
    assert response.text() == "fine"
    assert response.all("X-Upstream") == [] and response.all("Set-Cookie") == ["seen=yes"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see the descriptors of other users' processes")
def test_refused_upstream_leaks_nothing(scripted):
    """After many failures the processes hold as many descriptors as before, and still serve."""
    def fail(connection):
        connection.sock.close()

    def fine(connection):
        connection.head()
        connection.event("fine")
        connection.done()
    roles = [pid for pids in scripted.daemon.roles().values() for pid in pids]
    assert scripted.ask(fail).status == 502
    time.sleep(0.1)
    before = {pid: len(open_fds(pid)) for pid in roles}
    for _ in range(30):
        assert scripted.ask(fail).status == 502
    # Lingering closes and the pool's spare connection may take a moment.
    wait_for(lambda: all(len(open_fds(pid)) <= before[pid] + 1 for pid in roles), 4, "descriptors come back")
    assert scripted.ask(fine).text() == "fine"
    assert scripted.daemon.counters("streamer")["handoffd_streams_total/upstream-error"] == 31


def test_slow_reader_gets_every_byte(scripted):
    """The upstream is held back while the client does not read; then every byte comes, in order, and nobody else
    waits."""
    pieces = [f"{number:08}" + "abcdefgh" * 500 for number in range(5000)]  # 20 MB, more than the kernel keeps
    sent = []

    def script(connection):
        connection.head()
        for piece in pieces:
            connection.event(piece)
            sent.append(piece)
        connection.done()
    scripted.script = script
    with Client(scripted.apache.port, receive_buffer=65536, timeout=30) as slow:
        slow.send(get("/chat.php?prompt=x"))
        slow.read_until(b"00000000")
        wait_for(lambda: scripted.daemon.counters("streamer").get("handoffd_pauses_total", 0) > 0, 10, "upstream held back")
        time.sleep(0.3)
        assert len(sent) < len(pieces), "all of it is in the daemon's memory"
        scripted.script = lambda connection: (connection.head(), connection.event("quick"), connection.done())
        started = time.monotonic()
        assert request(scripted.apache.port, "/chat.php?prompt=x").text() == "quick"
        assert time.monotonic() - started < 5
        assert slow.response(timeout=60).text() == "".join(pieces)


# ---------------------------------------------------------------- many streams

class ManyUpstream:
    """An upstream in one thread (asyncio) for thousands of streams of `events` events, `gap` seconds apart, which wait after
    the first one until so many run together."""

    def __init__(self, events: int, gap: float, together: int):
        self.events, self.gap, self.together = events, gap, together
        self.most = self.now = 0
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)
        self.thread.start()
        assert self.started.wait(5)

    async def main(self):
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        await self.ended.wait()
        server.close()

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")][0]
                prompt = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
                self.now += 1
                self.most = max(self.most, self.now)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                for number in range(self.events):
                    event = b'data: {"choices":[{"delta":{"content":"%s.%d "}}]}\n\n' % (prompt.encode(), number)
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                    await asyncio.sleep(self.gap)
                    while self.most < self.together:
                        await asyncio.sleep(self.gap)
                self.now -= 1
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(5)


def run_streams(daemon, count, timeout):
    """Hand off count clients to the gate itself, all at once; their raw answers."""
    selector, answers, replies = selectors.DefaultSelector(), {}, []
    key, deadline = daemon.keys.key, time.monotonic() + timeout
    with handoff1.Sender(daemon.path()) as sender:
        for number in range(count):
            pair = handoff1.tcp_pair()
            replies.append(sender.handoff(pair.server, json.dumps({"prompt": f"stream{number}"}).encode(), key=key))
            pair.server.close()
            pair.client.setblocking(False)
            answers[number] = b""
            selector.register(pair.client, selectors.EVENT_READ, number)
            reply = replies[-1].receive(10)
            replies[-1].close()
            assert reply is not None and reply.accepted, (number, reply)
        open_count = count
        while open_count and time.monotonic() < deadline:
            for ready, _ in selector.select(1):
                piece = ready.fileobj.recv(65536)
                answers[ready.data] += piece
                if not piece:
                    selector.unregister(ready.fileobj)
                    ready.fileobj.close()
                    open_count -= 1
    assert open_count == 0, f"{open_count} of {count} streams hang"
    return answers


@pytest.mark.parametrize("kind", ["demo", "openai"])
def test_more_than_a_thousand_streams(handoffd_factory, kind):
    """1,500 at once through one streamer (400 in a sanitizer build): each whole, each its own."""
    count = 400 if SANITIZE else 1500
    if kind == "demo":
        daemon = handoffd_factory({"many": {"type": "demo", "delay": 200}}, allow_peer=(os.geteuid(),))
        answers, upstream = run_streams(daemon, count, 60), None
        expected = "stream{0}\n\nThis is the demo"
    else:
        upstream = ManyUpstream(events=12, gap=0.1, together=count * 2 // 3)
        daemon = handoffd_factory({"many": {"type": "openai", "upstream": "many"}}, allow_peer=(os.geteuid(),),
                                  upstreams={"many": {"url": f"http://127.0.0.1:{upstream.port}/v1"}})
        try:
            answers = run_streams(daemon, count, 60)
        finally:
            upstream.stop()
        expected = " ".join("stream{0}.%d" % number for number in range(12))
    for number, raw in answers.items():
        assert parse_response(raw).text().startswith(expected.format(number)), raw[:300]
    # A stream is counted when it ends, which is before the client's side of the close was seen.
    wait_for(lambda: daemon.counters("streamer").get("handoffd_streams_total/done") == count, 5, "all streams ended well")
