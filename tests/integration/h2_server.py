# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 upstream that does what its script says, proper (with python3-h2) or not (bytes of one's own).

    def script(connection):
        stream = connection.request()             # the next whole one, or None at the end
        connection.head(stream); connection.event(stream, "hello"); connection.done(stream)
    with H2Upstream(script, authority.context("DNS:localhost")) as upstream: ...
"""
import json
import ssl
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from upstream import ScriptedUpstream


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int = None) -> bytes:
    """A frame of HTTP/2, length as it should be or not."""
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class H2Connection:
    """One accepted connection, given to the script in a thread of its own."""

    def __init__(self, connection, settings=None):
        self.connection, self.sock = connection, connection.sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False))
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100, **settings})
        self.events, self.bodies, self.headers, self.resets = [], {}, {}, {}
        self.ended = False
        self.when = {}  # stream -> when it was reset

    def begin(self) -> None:
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        self.flush()
        self.sock.sendall(data)

    def pump(self, timeout: float = 30) -> bool:
        """Read once; False at the end of the connection. TimeoutError when nothing comes."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.ended = True
            return False
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()
        return True

    def _take(self, event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.headers[event.stream_id], self.bodies[event.stream_id] = dict(event.headers), b""
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            if event.flow_controlled_length and event.stream_id not in self.resets:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
            self.when[event.stream_id] = time.monotonic()
        self.events.append(event)

    def wait(self, kind, timeout: float = 10):
        """The next event of this kind, taken out of `events`; None when the connection ended."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            if self.ended or not self.pump(max(deadline - time.monotonic(), 0.001)):
                return None

    def wait_end(self, timeout: float = 10) -> bool:
        """Whether the other side leaves within the time."""
        deadline = time.monotonic() + timeout
        try:
            while self.pump(max(deadline - time.monotonic(), 0.001)):
                pass
        except TimeoutError:
            return False
        return True

    def request(self, timeout: float = 30):
        """The stream of the next whole request; None when the connection ended."""
        event = self.wait(h2.events.StreamEnded, timeout)
        return event and event.stream_id

    def prompt(self, stream: int) -> str:
        return json.loads(self.bodies[stream])["messages"][-1]["content"]

    def head(self, stream: int, status="200", headers=(("content-type", "text/event-stream"),), end=False) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *headers], end_stream=end)
        self.flush()

    def data(self, stream: int, data: bytes, end=False) -> None:
        """Within the window: waits for it."""
        while data or end:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if data and size == 0:
                if not self.pump():
                    return
                continue
            self.h2.send_data(stream, data[:size], end_stream=end and size == len(data))
            data, end = data[size:], end and size < len(data)
            self.flush()

    def event(self, stream: int, content: str) -> None:
        value = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": content}}]}
        self.data(stream, b"data: " + json.dumps(value).encode() + b"\n\n")

    def done(self, stream: int) -> None:
        self.data(stream, b"data: [DONE]\n\n", end=True)

    def answer(self, stream: int, *contents: str) -> None:
        self.head(stream)
        for content in contents:
            self.event(stream, content)
        self.done(stream)

    def reset(self, stream: int, code=h2.errors.ErrorCodes.REFUSED_STREAM) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()


class H2Upstream(ScriptedUpstream):
    """script(H2Connection) for each connection; `peers` lists all of them. settings: {SettingCodes...: value};
    begin=False: without our SETTINGS. alpn: protocols that the server offers."""

    def __init__(self, script, tls: ssl.SSLContext, settings=None, begin: bool = True, alpn=("h2",)):
        self.peers, self.settings, self.begin, self.h2_script = [], settings, begin, script
        if alpn:
            tls.set_alpn_protocols(list(alpn))
        super().__init__(self._run, tls, backlog=1024)
        self.url = f"https://localhost:{self.port}/v1"

    def _run(self, connection):
        peer = H2Connection(connection, self.settings)
        self.peers.append(peer)
        try:
            if self.begin:
                peer.begin()
            self.h2_script(peer)
        except TimeoutError:  # is an OSError, and a defect of the script or of the daemon
            raise AssertionError("the script waited in vain") from None


def answering(connection) -> None:
    """A script: each request is answered with its prompt."""
    while (stream := connection.request()) is not None:
        connection.answer(stream, connection.prompt(stream))
