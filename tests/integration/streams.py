# SPDX-License-Identifier: Apache-2.0
"""What the tests of streams share: handing a client off as Apache would, prompts, and what upstreams answer."""
import json
import os
import socket
import time

import handoff1
from client import parse_response
from env import UID_STREAMER, Handoffd

# What the demo backend says behind the prompt.
TEXT = "\n\nThis is the demo backend of handoffd: no model was asked. Apache's worker has long been free."
LONG = f"{'x' * 4000} " * 1900  # more than sockets keep
PROMPTS = ['say "hi" \\ and \\\\n', "two\nlines\r\nand\ttab", "grüß \U0001f600 日本語 " * 20, "data: x\n\nevent: y\n\n",
           "x" * 20000]
PROMPT = b'{"prompt":"one two three"}'
KEY = "sk-test-0123456789"

DONE = b"data: [DONE]\n\n"
FINISH = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
CONTENT = b'{"choices":[{"delta":{"content":"%s"}}]}'


# ---------------------------------------------------------------- handing off

def prompt_data(prompt: str, **more) -> bytes:
    return json.dumps({"prompt": prompt, **more}).encode()


class Exchange:
    """One handoff as Apache would make it; `client` is the browser's end of the connection."""

    def __init__(self, daemon, data: bytes, listener: str = None, **how):
        pair = handoff1.tcp_pair()
        self.client = pair.client
        self.client.settimeout(20)
        with handoff1.Sender(daemon.path(listener)) as sender:
            reply_socket = sender.handoff(pair.server, data, key=daemon.keys.key, **how)
            pair.server.close()
            self.reply = reply_socket.receive(20)
            self.id = self.reply.stream_id if self.reply else None
            reply_socket.close()
        self.raw = b""

    def read_until(self, needle: bytes) -> bytes:
        while needle not in self.raw:
            piece = self.client.recv(65536)
            assert piece, f"ended before {needle!r}: {self.raw!r}"
            self.raw += piece
        return self.raw

    def read_all(self) -> bytes:
        while piece := self.client.recv(65536):
            self.raw += piece
        return self.raw

    def response(self, method: str = "GET"):
        assert self.reply and self.reply.accepted, self.reply
        return parse_response(self.read_all(), method)

    def close(self):
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def exchange(daemon, data: bytes, method: str = "GET", **how):
    with Exchange(daemon, data, method=method, **how) as made:
        return made.response(method)


def refused(daemon, data: bytes, **how):
    with Exchange(daemon, data, **how) as made:
        assert made.client.recv(1) == b"", "the streamer wrote to a client that it refused"
        return made.reply


def read_all(client: socket.socket, timeout=10) -> bytes:
    client.settimeout(timeout)
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    return answer


def hand_off(daemon, data=PROMPT, sender=None):
    """(reply, answer) of one handoff; the answer is b"" when it was not accepted."""
    with sender or handoff1.Sender(daemon.path()) as connection, handoff1.tcp_pair() as pair:
        reply = connection.handoff(pair.server, data, key=daemon.keys.key).receive()
        pair.server.close()
        return reply, read_all(pair.client) if reply is not None and reply.accepted else b""


def serves(daemon, data=PROMPT) -> bool:
    """Whether a handoff comes whole; a module would send it again after an end of file or a 503."""
    reply, answer = hand_off(daemon, data)
    return reply is not None and reply.accepted and answer.startswith(b"HTTP/1.1 200 ") and b"[DONE]" in answer


def in_memory(pid: int, needle: bytes) -> int:
    """How often these bytes stand in what the process has of its own or maps."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            first, last = (int(text, 16) for text in line.split()[0].split("-"))
            if line.split()[1].startswith("r") and "[v" not in line:
                memory.seek(first)
                found += memory.read(last - first).count(needle)
    return found


# ---------------------------------------------------------------- upstreams

def credential(env, content: str = KEY + "\n", mode: int = 0o600, owner: int = UID_STREAMER) -> str:
    """A file with an API key; streamers of the first backend run as the default owner, those of the next as the next."""
    path = env.folder("credential") / "api-key"
    path.touch(0o600)
    path.write_text(content)
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
    path.chmod(mode)
    return str(path)


def openai(env, url: str, backend=None, upstream=None, **how) -> Handoffd:
    return Handoffd(env, allow_peer=(os.geteuid(),),
                    backends={"llm": {"type": "openai", "upstream": "up", "model": "test-model",
                                      "credential-file": credential(env), **(backend or {})}},
                    upstreams={"up": {"url": url, **(upstream or {})}}, **how)


def chunk(content: str, **more) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m",
                       "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}], **more}).encode()


def sse_script(raw: bytes, finish: bool = True, cut: int = 0):
    """An upstream that sends these bytes as its stream, in pieces of `cut`."""
    def script(connection):
        connection.read_request()
        connection.head()
        for start in range(0, len(raw), cut or len(raw)):
            connection.chunk(raw[start:start + (cut or len(raw))])
            if cut:
                time.sleep(0.001)
        if finish:
            connection.send(b"0\r\n\r\n")
            connection.wait_gone(2)
    return script
