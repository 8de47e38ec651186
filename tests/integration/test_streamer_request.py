# SPDX-License-Identifier: Apache-2.0
"""What of a handoff's data reaches the upstream, and what is refused: a real streamer, an upstream that keeps what it gets."""
import base64
import json
import os
import re
import struct
import threading
import time

import pytest

from env import SANITIZE, ScriptedUpstream, proc_status, wait_for
from streams import Exchange, TEXT, exchange, prompt_data, refused

PNG = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20


def parts(value: dict, *attachments) -> bytes:
    """Attachments are (name, type, bytes)."""
    listed, blobs = [], b""
    for name, kind, blob in attachments:
        listed.append({"name": name, "type": kind, "offset": len(blobs), "length": len(blob)})
        blobs += blob
    text = json.dumps({**value, "attachments": listed}).encode()
    return struct.pack("<Q", len(text)) + text + blobs


def answer(connection):
    connection.read_request()
    connection.head()
    connection.event("ok")
    connection.done()


def image_part(blob: bytes, kind: str = "image/png") -> dict:
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(blob).decode()}"}}


def noise(length: int) -> bytes:
    """Bytes that do not repeat, the same each time."""
    return b"".join(struct.pack("<Q", n * 0x9E3779B97F4A7C15 % (1 << 64)) for n in range(length // 8 + 1))[:length]


@pytest.mark.parametrize("length", [0, 1, 2, 300, 40000, MIB + 1])
def test_attachments_byte_for_byte(scripted, length):
    """In the message and in a memfd, of each length modulo 3."""
    upstream, daemon = scripted(answer)
    image, pdf = PNG + noise(length), b"%PDF-1.4" + noise(length + 1)
    data = parts({"prompt": 'Is "{a.png}" like\n{b.txt}? {a.png}'}, ("a.png", "image/png", image),
                 ("b.txt", "text/plain", "gr\u00fc\u00df \"\\\n".encode()), ("c.pdf", "application/pdf", pdf))
    assert exchange(daemon, data).text() == "ok"
    content = upstream.connections[0].json["messages"][0]["content"]
    assert content == [
        {"type": "file", "file": {"filename": "c.pdf",
                                  "file_data": f"data:application/pdf;base64,{base64.b64encode(pdf).decode()}"}},
        {"type": "text", "text": 'Is "'}, image_part(image),
        {"type": "text", "text": '" like\ngr\u00fc\u00df "\\\n? {a.png}'}]


def test_largest_attachment_is_not_copied(scripted):
    """20 MiB go out while the streamer's own memory stays as it is, and are counted until they are gone."""
    read, go_on = threading.Event(), threading.Event()

    def script(connection):
        head, _, body = connection.sock.recv(65536).partition(b"\r\n\r\n")
        read.set()
        assert go_on.wait(20)
        missing = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) - len(body)
        assert missing > 26 * MIB
        while missing > 0:
            missing -= len(connection.sock.recv(MIB))
        connection.head()
        connection.event("ok")
        connection.done()
    upstream, daemon = scripted(script)
    pid = daemon.pid("streamer")
    data = parts({"prompt": "p"}, ("a", "image/png", PNG + noise(20 * MIB - 8)))
    before = int(proc_status(pid)["RssAnon"].split()[0])
    with Exchange(daemon, data) as made:
        assert read.wait(10)
        during = int(proc_status(pid)["RssAnon"].split()[0])
        assert daemon.counters("streamer")["handoffd_request_bytes"] >= len(data)
        go_on.set()
        assert made.response().text() == "ok"
    if not SANITIZE:  # they keep freed memory
        assert during - before < 1024, f"{during - before} KiB more"
    wait_for(lambda: daemon.counters("streamer").get("handoffd_request_bytes", 0) == 0, 3, "the request to be forgotten")


def test_memory_is_limited(scripted):
    """What waits for a slow upstream fills the memory for requests: the next is told to come again."""
    go_on = threading.Event()

    def script(connection):
        assert go_on.wait(20)
        answer(connection)
    upstream, daemon = scripted(script, **{"request-memory": 8 * MIB})
    data = parts({"prompt": "p"}, ("a", "image/png", PNG + bytes(5 * MIB)))
    with Exchange(daemon, data) as first:
        upstream.wait_connections(1)
        reply = refused(daemon, data)
        assert (reply.status, reply.reason, reply.retry_after) == (503, "no-memory", 1)
        with Exchange(daemon, prompt_data("small")) as second:
            go_on.set()
            assert second.response().text() == "ok" and first.response().text() == "ok"
    assert exchange(daemon, data).text() == "ok"


def test_client_that_leaves_frees_the_request(scripted):
    upstream, daemon = scripted(lambda connection: connection.wait_gone(20) or time.sleep(0))
    with Exchange(daemon, parts({"prompt": "p"}, ("a", "image/png", PNG + bytes(8 * MIB)))):
        upstream.wait_connections(1)
        assert daemon.counters("streamer")["handoffd_request_bytes"] > 8 * MIB
    wait_for(lambda: daemon.counters("streamer").get("handoffd_request_bytes", 0) == 0, 3, "the request to be forgotten")


def test_options_and_test_pattern(scripted):
    upstream, daemon = scripted(answer, **{"include-usage": False, "max-tokens": 5, "temperature": 0.5})
    options = {"top_p": 0.1, "stop": ["a", "\n"], "seed": -7, "presence_penalty": 1, "frequency_penalty": -0.25, "user": "u",
               "response_format": {"type": "json_object"}, "logit_bias": {"50256": -100}, "tool_choice": "auto",
               "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    data = {"messages": [{"role": "user", "content": "p"}], **options, "test_pattern": "abc-123 x", "unknown": 1}
    assert exchange(daemon, json.dumps(data).encode()).text() == "ok"
    connection, = upstream.connections
    assert connection.json == {"messages": [{"role": "user", "content": "p"}], "model": "test-model", "stream": True,
                               "max_tokens": 5, "temperature": 0.5, **options}
    assert b"\r\nx-test-pattern: abc-123 x\r\n" in connection.request.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert exchange(daemon, prompt_data("p")).text() == "ok"
    assert b"x-test-pattern" not in upstream.connections[-1].request.lower(), "an earlier request's"


def test_response_headers(scripted):
    upstream, daemon = scripted(answer)
    fields = {"X-Request-Tag": "new, \u00fc", "set-cookie": "c=3", "X-New": "1", "content-type": "text/plain"}
    response = exchange(daemon, prompt_data("p", response_headers=fields),
                        headers=[("Set-Cookie", "a=1"), ("x-request-tag", "old"), ("Vary", "Cookie")])
    assert response.text() == "ok"
    names = [name.lower() for name, _ in response.headers]
    assert names.count("x-request-tag") == 1 and response.header("X-Request-Tag").encode("latin-1").decode() == "new, \u00fc"
    assert response.all("Set-Cookie") == ["a=1", "c=3"]
    assert response.header("X-New") == "1" and response.header("Vary") == "Cookie"
    assert response.all("Content-Type") == ["text/event-stream; charset=utf-8"]


@pytest.mark.parametrize("data, why", [
    ({"prompt": "p", "top_p": "1"}, "top_p is not a number from 0 to 1"),
    ({"prompt": "p", "profile": "x"}, "there is no such profile"),
    ({"prompt": "p", "model": "expensive"}, "the model is not one that the configuration allows"),
    ({"prompt": "p", "max_tokens": 11}, "max_tokens is above max-tokens-limit"),
    ({"messages": [{"role": "user", "content": "p"}] * 4}, "more messages than max-messages allows"),
    ({"prompt": "p" * 3000}, "the data without its attachments is longer than max-prompt allows"),
    ({"prompt": "p", "response_headers": {"X-A": "1\r\nX-B: 2"}}, "a name or value in response_headers holds a line end"),
    ({"prompt": "p", "response_headers": {"Transfer-Encoding": "chunked"}},
     "response_headers names a header that is not the application's to set"),
    ({"prompt": "p", "image_path": "/etc/passwd"},
     "image_path and image_paths are not offered: send the bytes as attachments")],
    ids=["type", "profile", "model", "tokens", "messages", "prompt", "injection", "framing", "path"])
def test_refused_with_a_reason_in_the_log(scripted, data, why):
    upstream, daemon = scripted(answer, **{"models": ["cheap"], "max-tokens-limit": 10, "max-messages": 3,
                                           "max-prompt": 2048})
    reply = refused(daemon, json.dumps(data).encode())
    assert (reply.status, reply.reason) == (400, "request-invalid")
    assert f'error="{why}"' in daemon.log.wait("event=request-invalid", 3)[0]
    assert not upstream.connections
    assert exchange(daemon, prompt_data("fine", model="cheap")).text() == "ok"


def test_data_is_limited(scripted):
    upstream, daemon = scripted(answer, **{"max-data": 1000})
    assert refused(daemon, parts({"prompt": "p"}, ("a", "image/png", PNG + bytes(1000)))).reason == "data-too-large"
    assert refused(daemon, parts({"prompt": "p"}, ("a", "image/png", PNG + bytes(100000)))).status == 413
    assert exchange(daemon, parts({"prompt": "p"}, ("a", "image/png", PNG + bytes(800)))).text() == "ok"


def test_profiles(openai_factory):
    with ScriptedUpstream(answer) as upstream:
        daemon = openai_factory(upstream.url, {"profiles": ["short"], "max-tokens": 9},
                                profiles={"short": {"model": "small", "system": "Be \u00fc brief.", "max-tokens": 3}})
        assert exchange(daemon, prompt_data("p", profile="short")).text() == "ok"
        assert exchange(daemon, prompt_data("p", profile="short", system="Be long.", max_tokens=4)).text() == "ok"
        assert exchange(daemon, prompt_data("p")).text() == "ok"
        bodies = [connection.json for connection in upstream.connections]
        assert [(body["model"], body.get("max_tokens"), body["messages"][0]["content"]) for body in bodies] == [
            ("small", 3, "Be \u00fc brief."), ("small", 4, "Be long."), ("test-model", 9, "p")]


def test_demo_takes_parts_and_response_headers(env, handoffd_factory):
    daemon = handoffd_factory({"demo": {"type": "demo", "delay": 1}}, allow_peer=(os.geteuid(),))
    response = exchange(daemon, parts({"prompt": "see {a}", "response_headers": {"X-A": "1"}}, ("a", "text/plain", b"x")))
    assert response.text() == "see {a}" + TEXT and response.header("X-A") == "1"
