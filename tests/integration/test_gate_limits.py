# SPDX-License-Identifier: Apache-2.0
"""Limits of a listener, over all its streamers: streams at once and handoffs a minute, in all and for each subject."""
import os

import pytest

import env as harness
from handoff1 import Sender, tcp_pair

SLOW = b'{"prompt":"' + b"word " * 3000 + b'"}'  # at 20 ms each a minute


@pytest.fixture(name="start")
def fixture_start(env, factory):
    """start(limits) starts a handoffd with these options of its listener and two streamers."""
    def start(limits, **backend):
        keys = harness.KeyRing(env)
        return factory(harness.Handoffd, keys=keys, options={"key-file": keys.file(harness.UID_GATE)},
                       backends={"demo": {"type": "demo", "delay": 20, "workers": 2, **backend}},
                       listens={"chat": {"backend": "demo", **limits}}, allow_peer=(os.geteuid(),))
    return start


class Stream:
    """One client, handed off."""

    def __init__(self, daemon, subject="", data=SLOW):
        pair = tcp_pair()
        self.client = pair.client
        with Sender(daemon.path()) as sender:
            reply = sender.handoff(pair.server, data, key=daemon.keys.key, subject=subject)
            pair.server.close()
            self.reply = reply.receive()
            reply.close()

    def close(self):
        self.client.close()


def verdict(daemon, subject="", **how):
    """"ok", or the reason of the refusal; the stream is left as soon as it is known."""
    stream = Stream(daemon, subject, **how)
    stream.close()
    if stream.reply.accepted:
        return "ok"
    assert stream.reply.status == 429 and 1 <= stream.reply.retry_after <= 60
    daemon.expect(rf"event=refused reason={stream.reply.reason}\b")
    return stream.reply.reason


def test_streams_at_once(start):
    daemon = start({"max-streams": 3})
    streams = [Stream(daemon) for _ in range(3)]
    assert all(stream.reply.accepted for stream in streams)
    assert verdict(daemon) == "streams-limited"
    for stream in streams:
        stream.close()
    # It is free as soon as the streamers have noticed; each of both had some.
    harness.wait_for(lambda: verdict(daemon) == "ok", 5, "room")
    assert daemon.counters("gate")["daemon_handoff_errors_total/streams-limited"] >= 1


def test_streams_of_a_subject(start):
    daemon = start({"max-streams-per-subject": 1})
    first = Stream(daemon, "user-1")
    assert first.reply.accepted
    assert verdict(daemon, "user-1") == "streams-limited"
    assert verdict(daemon, "user-2") == "ok"
    nobody = Stream(daemon)
    assert nobody.reply.accepted and verdict(daemon) == "streams-limited"
    nobody.close()
    first.close()
    harness.wait_for(lambda: verdict(daemon, "user-1") == "ok", 5, "room")


def test_rates(start):
    daemon = start({"rate-per-subject": 2, "rate": 4})
    assert [verdict(daemon, "a") for _ in range(3)] == ["ok", "ok", "rate-limited"]
    assert [verdict(daemon, "b") for _ in range(3)] == ["ok", "ok", "rate-limited"]
    # The listener's minute is used up; what was refused did not count.
    assert verdict(daemon, "c") == "rate-limited"


def test_refused_by_the_streamer_is_free_again(start):
    """What never became a stream does not count as one."""
    daemon = start({"max-streams": 1})
    for _ in range(3):
        # Free as soon as the streamer's word of it has reached the gate; the sender has it sooner.
        harness.wait_for(lambda: reason(daemon, b"not JSON") == "request-invalid", 5, "room")
        daemon.expect(r"event=refused .*reason=request-invalid", r"event=request-invalid")


def reason(daemon, data):
    """Of the refusal of this data."""
    stream = Stream(daemon, data=data)
    stream.close()
    return stream.reply.reason


def test_a_streamer_that_dies_frees_its_streams(start):
    daemon = start({"max-streams": 2}, workers=1)
    streams = [Stream(daemon) for _ in range(2)]
    assert verdict(daemon) == "streams-limited"
    daemon.kill("streamer")
    daemon.expect(r"event=crashed role=streamer .*signal=9")
    harness.wait_for(lambda: verdict_or_none(daemon) == "ok", 10, "room")
    for stream in streams:
        stream.close()


def verdict_or_none(daemon):
    """As verdict(); None while there is no streamer."""
    daemon.expect(r"event=refused reason=no-streamer")
    stream = Stream(daemon)
    stream.close()
    return None if stream.reply is None else "ok" if stream.reply.accepted else stream.reply.reason


def test_many_ends_at_once(start, in_threads):
    """Hundreds of clients that leave together: every one is counted out."""
    daemon = start({"max-streams": 400})
    streams = in_threads([lambda: [Stream(daemon) for _ in range(50)] for _ in range(8)])
    flat = [stream for some in streams for stream in some]
    assert all(stream.reply.accepted for stream in flat)
    assert verdict(daemon) == "streams-limited"
    for stream in flat:
        stream.close()
    # Each comes in as soon as the end of another has been noticed; if one end were lost the last would not.
    again = [harness.wait_for(lambda: accepted(daemon), 5, f"room for {count}") for count in range(400)]
    assert verdict(daemon) == "streams-limited"
    for stream in again:
        stream.close()


def accepted(daemon):
    """A stream, or None where there is no room."""
    stream = Stream(daemon)
    if stream.reply.accepted:
        return stream
    stream.close()
    assert stream.reply.reason == "streams-limited"
    daemon.expect(r"event=refused reason=streams-limited")
    return None
