# SPDX-License-Identifier: Apache-2.0
"""Clients that ask without pause and check every byte they get, while something is done to the processes behind them.

    with Load(chat, clients=8) as load:
        daemon.kill("gate")
    print(load.seen())                     # {"whole": 120, "refused": 3}

What a connection may give is one of these; anything else (a second status line, another's stream, bytes after the end,
an answer later than the deadline, silence) is an error that the load raises when it ends:

    whole     the stream, byte for byte
    ended     a part of the stream, then an error event: the daemon was asked to stop
    refused   one whole 503 of Apache's
    cut       a part of the stream and the end of the connection
    empty     the end of the connection without a byte
"""
import threading
import time

from base import wait_for
from client import Client, HttpError, get, parse_response, parse_sse

PATIENCE = 20  # seconds until a connection counts as hanging


class Reference:
    """What a whole stream looks like: one was asked for, and all others differ from it in the prompt only."""
    PROMPT = "reference-prompt"

    def __init__(self, port: int, page: str = "/chat.php"):
        self.port, self.page = port, page
        # On a busy machine the first ones may be refused, in the time that tests of refusals allow.
        served = wait_for(lambda: (answer := self.ask(self.PROMPT)).startswith(b"HTTP/1.1 200 ") and answer, PATIENCE,
                          "a stream")
        self.body = served.partition(b"\r\n\r\n")[2]
        assert self.body.count(self.PROMPT.encode()) == 1 and self.body.endswith(b"\r\n0\r\n\r\n"), self.body

    def prompt(self, number: int) -> str:
        """A prompt of the reference's length, which makes chunks of the same size."""
        return f"{number:0{len(self.PROMPT)}d}"

    def ask(self, prompt: str) -> bytes:
        """All bytes of one connection, until it was closed."""
        with Client(self.port, timeout=PATIENCE) as client:
            client.send(get(f"{self.page}?prompt={prompt}"))
            return client.read_all()

    def judge(self, raw: bytes, prompt: str) -> str:
        """Which of the outcomes these bytes are; HttpError when they are none of them."""
        expected = self.body.replace(self.PROMPT.encode(), prompt.encode())
        head, _, body = raw.partition(b"\r\n\r\n")
        try:
            response = parse_response(raw)
        except HttpError as error:
            if not error.incomplete:
                raise
            begun = head.startswith(b"HTTP/1.1 200 ") and body != expected and expected.startswith(body)
            if raw and not begun:
                raise HttpError("neither a stream that was cut nor another answer", raw) from None
            return "cut" if raw else "empty"
        if response.status == 503:
            if b"data:" in body or response.header("Retry-After") is None:
                raise HttpError("not Apache's 503", raw)
            return "refused"
        if response.status == 200 and body == expected:
            return "whole"
        events = parse_sse(response.body)
        if response.status == 200 and events and events[-1][0] == "error" and self._begins(events[:-1], prompt):
            return "ended"
        raise HttpError("not the stream that was asked for", raw)

    def _begins(self, events: list, prompt: str) -> bool:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = parse_response(head + self.body.replace(self.PROMPT.encode(), prompt.encode())).events()
        return events == whole[:len(events)]


class Load:
    """So many clients from __enter__ to __exit__, and on until there were `least` whole streams. deadline: seconds after which
    a refusal comes too late."""

    def __init__(self, reference: Reference, clients: int = 8, deadline: float = 5, least: int = 0):
        self.reference, self.deadline, self.least = reference, deadline, least
        self.outcomes, self.errors = [], []  # of (outcome, seconds)
        self.whole = 0
        self._stop, self._number, self._lock = threading.Event(), 0, threading.Lock()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def _next(self) -> str:
        with self._lock:
            self._number += 1
            return self.reference.prompt(self._number)

    def _one(self) -> None:
        prompt, started = self._next(), time.monotonic()
        outcome = self.reference.judge(self.reference.ask(prompt), prompt)
        seconds = time.monotonic() - started
        assert outcome != "refused" or seconds < self.deadline, f"refused after {seconds:.1f} s"
        self.outcomes.append((outcome, seconds))
        with self._lock:
            self.whole += outcome == "whole"

    def _client(self) -> None:
        while not self._stop.is_set() or self.whole < self.least:
            try:
                self._one()
            except (AssertionError, OSError, ValueError) as error:  # raised by __exit__
                self.errors.append(error)
                return

    def seen(self) -> dict:
        """How often each outcome was seen."""
        names = [outcome for outcome, _ in list(self.outcomes)]
        return {name: names.count(name) for name in sorted(set(names))}

    def count(self, *names: str) -> int:
        return sum(self.seen().get(name, 0) for name in names)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def _await_least(self) -> None:
        """As long as it goes on: ten thousand may take their time."""
        seen, since = 0, time.monotonic()
        while self.whole < self.least and not self.errors and time.monotonic() - since < PATIENCE:
            if self.whole > seen:
                seen, since = self.whole, time.monotonic()
            time.sleep(0.05)

    def __exit__(self, kind, *_):
        if kind is None:
            self._await_least()
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE + 5)
        if kind is None:
            assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
            if self.errors:
                raise self.errors[0]
