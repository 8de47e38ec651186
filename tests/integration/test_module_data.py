# SPDX-License-Identifier: Apache-2.0
"""The data of a handoff: every byte value, every size at which something changes, up to SocketHandoffMaxData, from
every kind of handler, in a header, in the body, and as parts."""
import base64
import json
import os
import struct
import time

import pytest

import handoff1
from receiver import HANDLERS, Everywhere, Site, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

EVERY_BYTE = bytes(range(256))
INLINE_MAX = handoff1.INLINE_DATA_MAX
DATA_MAX = 32 << 20  # the default of SocketHandoffMaxData


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env):
    with Everywhere(env, request.param) as site:
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def pattern(length: int) -> bytes:
    return (EVERY_BYTE * (length // 256 + 1))[:length]


def plan_of(site, length: int, form="body") -> dict:
    return site.plan(form=form, data64=base64.b64encode(EVERY_BYTE).decode(), length=length)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("length", [0, 1, 255, 8191, 8192, 8193, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 1 << 20])
def test_length(site, gate, handler, length):
    """Up to 64 KiB it travels in the message, beyond in a sealed memfd; not a byte is changed."""
    future = site.ask(plan_of(site, length), path=f"/app.{handler}")
    handoff, = site.serve(gate)
    assert handoff.data == pattern(length)
    assert handoff.request.flags == (handoff1.FLAG_MEMFD if length > INLINE_MAX else 0)
    assert handoff.request.data_digest == handoff1.digest(pattern(length))
    assert future.result().status == 200


@pytest.mark.parametrize("handler", HANDLERS)
def test_largest(site, gate, handler):
    future = site.ask(plan_of(site, DATA_MAX), path=f"/app.{handler}")
    handoff, = site.serve(gate, timeout=15)
    assert len(handoff.data) == DATA_MAX and handoff.data == pattern(DATA_MAX)
    assert future.result().status == 200


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("more", [1, 100000])
def test_too_large(site, gate, handler, more):
    site.expect("reason=data-too-large", "AH02651|AH01075|AH01068|Error dispatching")
    mark = site.error_log.position()
    answer = site.fetch(site.target(plan_of(site, DATA_MAX + more), f"/app.{handler}"))
    assert answer.status == 413 and answer.leaks() == [] and len(answer.body) < 2000
    assert site.reasons(mark) == ["data-too-large"] and site.quiet(gate)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("text", ['{"a": "grüße, ☃"}', '{"a": [1, 2], "b": "x, y"}', "a", '"', "{}" * 2000,
                                  "%00%0d%0a"])
def test_header(site, gate, handler, text):
    """What a header can hold is passed on as it is: UTF-8, commas, quotes, percent signs."""
    future = site.ask(site.plan(text), path=f"/app.{handler}")
    handoff, = site.serve(gate)
    assert handoff.data == text.encode() and future.result().status == 200


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("blobs", [[b""], [EVERY_BYTE], [b"\x89PNG" * 30000, EVERY_BYTE * 1000, b"\0"]],
                         ids=["empty", "small", "large"])
def test_parts(site, gate, handler, blobs):
    """LE64(length of the JSON), the JSON, and the attachments behind it."""
    offset, named = 0, []
    for blob in blobs:
        named.append({"offset": offset, "length": len(blob)})
        offset += len(blob)
    text = json.dumps({"prompt": "look", "attachments": named}).encode()
    data = struct.pack("<Q", len(text)) + text + b"".join(blobs)
    if len(data) > 30000:  # a plan is part of the request line: the largest is made by repeating it
        data = data[:2000] + data[-1000:]
    future = site.ask(site.plan(form="parts", data64=base64.b64encode(data).decode()), path=f"/app.{handler}")
    handoff, = site.serve(gate)
    assert handoff.data == data and future.result().status == 200


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("refused", [False, True])
def test_body_without_being_the_data(site, gate, handler, refused):
    """The body of a handoff whose data is in a header, or that is refused, goes nowhere, however large; and the program
    that writes it is not kept waiting."""
    site.expect("reason=token-missing")
    started = time.monotonic()
    plan = site.plan('{"a":1}', output=";", pad=1_000_000, sign=not refused)
    future = site.ask(plan, path=f"/app.{handler}")
    if not refused:
        handoff, = site.serve(gate)
        assert handoff.data == b'{"a":1}'
    answer = future.result()
    assert answer.status == (403 if refused else 200) and len(answer.body) < 1000 and site.quiet(gate)
    assert time.monotonic() - started < 10


def test_half_a_body(site, gate):
    """A program whose output breaks off (httpd cannot read it to its end): no handoff, one line, and an error page. Of
    a body that nobody wants it does not matter."""
    if site.mpm == "prefork":
        pytest.skip("mod_cgi reads a pipe, which cannot break")
    site.expect("reason=internal", "AH01265|AH02651")
    for form in ("body", "header"):
        # What the program has not read of its input when it ends resets its socket.
        mark = site.error_log.position()
        request = site.request(site.plan("{}", form=form), "/app.cgi", "POST", body=b"b" * 86000,
                               headers=["Connection: close", "Content-Length: 86000"])
        sock = site.raw(request)
        if form == "header":
            site.serve(gate)
            assert read_all(sock).endswith(b"\r\n\r\nhanded off\n")
            continue
        if handoff := site.handoff_or_answer(gate, sock):  # the whole body was there before the reset
            handoff.accept()
            handoff.answer()
        else:
            assert read_all(sock).startswith(b"HTTP/1.1 500 ") and site.reasons(mark) == ["internal"]


def test_limit_can_be_raised(env):
    with Site(env, "event", f"SocketHandoffMaxData {DATA_MAX + 1}\n") as site:
        with site.listener() as gate:
            future = site.ask(plan_of(site, DATA_MAX + 1))
            handoff, = site.serve(gate, timeout=15)
            assert handoff.data == pattern(DATA_MAX + 1) and future.result().status == 200
