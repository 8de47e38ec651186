# SPDX-License-Identifier: Apache-2.0
"""A strict HTTP/1.1 client over a bare socket: what is not exactly one well-formed answer is an error.

    response = request(port, "/chat.php", body=b"...")            one exchange, read to the end of the connection
    client = Client(port); client.send(get("/")); client.read_until(b"data: "); client.reset()
"""
import dataclasses
import json
import re
import socket
import struct
import subprocess
import time

CONTROL = ("x-socket-handoff", "x-handoff-", "handoff-binding")
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HttpError(AssertionError):
    """The bytes are not one HTTP response. incomplete: right so far, but cut."""

    def __init__(self, message, raw=b"", incomplete=False):
        super().__init__(f"{message}: {raw[:400]!r}{'...' + repr(raw[-200:]) if len(raw) > 400 else ''}")
        self.incomplete = incomplete


@dataclasses.dataclass
class Response:
    status: int
    headers: list  # [(name, value)] in order
    body: bytes
    raw: bytes

    def header(self, name: str):
        """The one value of this header, None when absent; an error when there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise HttpError(f"{len(values)} headers {name}", self.raw)
        return values[0] if values else None

    def all(self, name: str) -> list:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def events(self) -> list:
        return parse_sse(self.body)

    def text(self, whole: bool = True) -> str:
        """What the chat said, see sse_text()."""
        return sse_text(self.events(), whole)

    def error(self) -> dict:
        """The error that the streamer answered with: a JSON body, or the last event."""
        if (self.header("Content-Type") or "").startswith("application/json"):
            return json.loads(self.body)["error"]
        name, data = self.events()[-1]
        if name != "error":
            raise HttpError("no error", self.raw)
        return json.loads(data)["error"]


def _chunked(raw: bytes, body: bytes) -> bytes:
    pieces, position = [], 0
    while True:
        end = body.find(b"\r\n", position)
        if end < 0:
            raise HttpError("cut in a chunk's size", raw, incomplete=True)
        line, position = body[position:end], end + 2
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", line):
            raise HttpError(f"chunk size {line[:40]!r}", raw)
        size = int(line, 16)
        if size == 0:
            rest = body[position:]
            if rest != b"\r\n" and b"\r\n".startswith(rest):
                raise HttpError("cut before the last line", raw, incomplete=True)
            if not rest.startswith(b"\r\n"):
                raise HttpError("trailers, or no empty line after the last chunk", raw)
            if rest != b"\r\n":
                raise HttpError("bytes after the end", raw)
            return b"".join(pieces)
        if len(body) < position + size + 2:
            raise HttpError("cut in a chunk", raw, incomplete=True)
        if body[position + size:position + size + 2] != b"\r\n":
            raise HttpError("chunk without its end", raw)
        pieces.append(body[position:position + size])
        position += size + 2


def parse_response(raw: bytes, method: str = "GET", allow_control: bool = False) -> Response:
    """All that a connection gave until it was closed, as one response. HttpError for anything else: no or a second
    status line, malformed or control headers, framing that does not fit, bytes left over."""
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        raise HttpError("no complete head", raw, incomplete=raw == b"" or b"HTTP/1.".startswith(raw[:7]))
    lines = head.split(b"\r\n")
    match = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t\x20-\x7e]*)?", lines[0])
    if not match:
        raise HttpError("status line", raw)
    status, headers = int(match[1]), []
    for line in lines[1:]:
        name, found, value = line.partition(b":")
        if not found or not TOKEN.fullmatch(name) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise HttpError(f"header line {line!r}", raw)
        headers.append((name.decode(), value.strip(b" \t").decode("latin-1")))
        if not allow_control and headers[-1][0].lower().replace("_", "-").startswith(CONTROL):
            raise HttpError(f"control header {headers[-1][0]} reached the client", raw)
    response = Response(status, headers, body, raw)
    length, coding = response.header("Content-Length"), response.header("Transfer-Encoding")
    if 100 <= status < 200:
        raise HttpError("interim response", raw)
    if method == "HEAD" or status in (204, 304):
        if body:
            raise HttpError("a body where none is allowed", raw)
    elif coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise HttpError(f"framing: {coding} and {length}", raw)
        response.body = _chunked(raw, body)
    elif length is not None:
        if not length.isdecimal() or len(body) > int(length):
            raise HttpError(f"{len(body)} bytes, Content-Length {length}", raw)
        if len(body) < int(length):
            raise HttpError("body cut", raw, incomplete=True)
    if coding is None and re.search(rb"HTTP/1\.[01] [1-5][0-9][0-9] [^\r\n]*\r\n", body):
        raise HttpError("a second status line", raw)
    return response


def get(target: str, headers=(), method: str = "GET", body: bytes = None, version: str = "1.1", host="localhost") -> bytes:
    """The bytes of a request, Connection: close unless a Connection header is given."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}"]
    if not any(name.lower() == "connection" for name, _ in headers):
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class Client:
    """A connection. raw holds everything received so far."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 10, receive_buffer: int = 0):
        self.raw = b""
        self.timeout = timeout
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))

    def send(self, data: bytes) -> "Client":
        self.sock.sendall(data)
        return self

    def read_some(self) -> bytes:
        """What comes next; b"" at the end (a reset counts as one)."""
        try:
            piece = self.sock.recv(65536)
        except ConnectionResetError:
            piece = b""
        self.raw += piece
        return piece

    def read_until(self, needle: bytes, timeout: float = None) -> bytes:
        """Everything received, once it holds needle. HttpError when the connection ends before."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while needle not in self.raw:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            if not self.read_some():
                raise HttpError(f"ended before {needle!r}", self.raw)
        return self.raw

    def read_all(self, timeout: float = None) -> bytes:
        """Everything until the connection ends; TimeoutError when it does not."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            if not self.read_some():
                return self.raw

    def response(self, method: str = "GET", timeout: float = None, **how) -> Response:
        """Read to the end and parse strictly."""
        return parse_response(self.read_all(timeout), method, **how)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Leave as a browser that was killed: RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def request(port: int, target: str = "/", *, method: str = None, headers=(), body: bytes = None, timeout: float = 10,
            host: str = "127.0.0.1", allow_control: bool = False) -> Response:
    """One exchange on a connection of its own, read to its end and parsed strictly."""
    method = method or ("GET" if body is None else "POST")
    with Client(port, host, timeout) as client:
        client.send(get(target, headers, method, body))
        return client.response(method, allow_control=allow_control)


def parse_sse(body: bytes) -> list:
    """(name, data) of each event of an event stream, name "" when it has none, comments left out; the stream must end
    with a whole event."""
    text = re.sub("\r\n?", "\n", body.decode("utf-8"))
    events, name, data = [], "", []
    for line in text.split("\n"):
        if line == "":
            if data:
                events.append((name, "\n".join(data)))
            name, data = "", []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif not line.startswith(":"):
            raise HttpError(f"event stream line {line!r}", body)
    if data or not text.endswith("\n"):
        raise HttpError("event stream ends inside an event", body, incomplete=True)
    return events


def sse_text(events: list, whole: bool = True) -> str:
    """The contents of a stream's events, joined: {"content": ...} as the streamer writes them, or an OpenAI-compatible
    service's chunks. whole: the last event must be [DONE], and none an error."""
    parts = []
    for position, (name, data) in enumerate(events):
        if data == "[DONE]":
            if position != len(events) - 1:
                raise HttpError("events after [DONE]", repr(events[position:]).encode())
            return "".join(parts)
        value = json.loads(data)
        if name == "error" or "error" in value:
            raise HttpError("error event", data.encode())
        if "content" in value:
            parts.append(value["content"])
        for choice in value.get("choices", []):
            parts.append((choice.get("delta") or choice.get("message") or {}).get("content") or "")
    if whole:
        raise HttpError("no [DONE]", repr(events[-2:]).encode(), incomplete=True)
    return "".join(parts)


def curl(*arguments, timeout: float = 20) -> subprocess.CompletedProcess:
    """curl -sS with these arguments; stdout and stderr as bytes. Does not raise on a failure: look at returncode."""
    return subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", str(timeout), *map(str, arguments)],
                          capture_output=True, timeout=timeout + 5)
