# SPDX-License-Identifier: Apache-2.0
"""The npm package `eventsource`, the browsers' EventSource for programs, as the client."""
import json
import time
import urllib.parse

import pytest

from env import UID_APACHE, Apache, Authority, Handoffd, NodeClient, ScriptedUpstream

FIXED = "This is the demo backend of handoffd"
TEXT = "Gr\u00fc\u00dfe \u20ac \U0001f600 \u2028 \"quoted\" back\\slash, line\nand\ttab"
CONNECTING, OPEN, CLOSED = range(3)


class World:
    """A demo and a scripted backend, over HTTP and over HTTPS."""

    def __init__(self, env, fpm):
        self.env, self.outcomes = env, []
        self.upstream = ScriptedUpstream(self.answer)
        backends = {"demo": {"type": "demo", "delay": 5}, "slow": {"type": "demo", "delay": 200},
                    "scripted": {"type": "openai", "upstream": "scripted", "model": "test", "keepalive": 1}}
        self.daemon = Handoffd(env, backends, {name: {"backend": name, "relay": True} for name in backends},
                               {"scripted": {"url": self.upstream.url}}, allow_peer=(UID_APACHE,))
        authority, secure = Authority(env, "eventsource"), env.port()
        certificate, key = authority.issue("IP:127.0.0.1")
        self.ca_file = authority.ca_file
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=self.daemon.keys, modules=("ssl",), conf=
                             f"SocketHandoffRelay On\nListen 127.0.0.1:{secure}\n<VirtualHost 127.0.0.1:{secure}>\n"
                             f"SSLEngine on\nSSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}\n</VirtualHost>\n")
        self.addresses = {"http": self.apache.url, "https": f"https://127.0.0.1:{secure}"}
        for name in backends:
            self.apache.chat_page(self.daemon, f"{name}.php", name)
        self.apache.emit_page(self.daemon.keys.key)

    def answer(self, connection):
        """What self.outcomes says next: "whole", "error" or "cut" after some words, "pause" before them."""
        connection.read_request()
        outcome = self.outcomes.pop(0)
        connection.head()
        if outcome == "pause":
            time.sleep(2.5)
        connection.event("some ")
        if outcome == "error":
            connection.chunk(b'data: {"error":{"message":"no luck"}}\n\n')
        elif outcome != "cut":
            connection.event("words")
            connection.done()

    def client(self, target: str, *arguments, scheme="http") -> NodeClient:
        return NodeClient(self.env, "eventsource.cjs", self.addresses[scheme] + target, *arguments,
                          NODE_EXTRA_CA_CERTS=self.ca_file)

    def stop(self):
        for part in (self.apache, self.daemon, self.upstream):
            part.stop()


@pytest.fixture(scope="module", name="world")
def fixture_world(env, fpm):
    world = World(env, fpm)
    yield world
    world.stop()


def said(told: list) -> str:
    messages = [event["data"] for event in told if event["what"] == "message"]
    assert messages[-1] == "[DONE]"
    return "".join(json.loads(data)["content"] for data in messages[:-1])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_whole_stream(world, scheme):
    told = world.client(f"/demo.php?prompt={urllib.parse.quote(TEXT)}", scheme=scheme).end()
    assert told[0] == {"what": "open", "state": OPEN}
    assert {event["what"] for event in told[1:]} == {"message"}
    assert said(told).startswith(TEXT + "\n\n" + FIXED)


def test_comments_while_the_upstream_thinks(world):
    world.outcomes = ["pause"]
    assert said(world.client("/scripted.php?prompt=x").end()) == "some words"


def test_error_event_then_another_try(world):
    """The event arrives with what it says, the end of the stream as an error of its own; the package then asks again."""
    world.outcomes = ["error", "whole"]
    told = world.client("/scripted.php?prompt=x").end()
    kinds = [event["what"] for event in told]
    assert kinds == ["open", "message", "error", "error", "open", "message", "message", "message"]
    assert json.loads(told[2]["data"])["error"]["message"] and told[2]["state"] == OPEN
    assert "data" not in told[3] and told[3]["state"] == CONNECTING
    assert said(told[4:]) == "some words"


def test_process_that_dies(world):
    """A cut connection, without a [DONE] and without a word; the second try is answered by the new process."""
    world.daemon.expect("event=crashed")
    with world.client("/slow.php?prompt=one+two+three") as client:
        client.wait(data='{"content":" two"}')
        world.daemon.kill("streamer", "slow")
        client.wait(what="error", state=CONNECTING)
        assert not any("[DONE]" in event.get("data", "") for event in client.told())
        opened = len([event for event in client.told() if event["what"] == "open"])
        told = client.end(30)
    assert len([event for event in told if event["what"] == "open"]) == opened + 1
    assert FIXED in said(told)


def test_end_without_close_asks_again(world):
    """A client that does not close at [DONE] gets a second answer: the protocol's way, so pages must close."""
    told = world.client("/demo.php?prompt=x", 2).end()
    assert [event["data"] for event in told if event["what"] == "message"].count("[DONE]") == 2


@pytest.mark.parametrize("plan, code", [({"token": False}, 403), ({"path": "gone"}, 503)])
def test_refusal_is_final(world, plan, code):
    plan = {"path": world.daemon.path("demo"), "data": '{"prompt":"x"}', **plan}
    if plan["path"] == "gone":
        plan["path"] = str(world.daemon.run / "gone.sock")
    world.apache.expect("reason=")
    told = world.client(world.apache.emit(**plan)).end()
    assert told == [{"what": "error", "state": CLOSED, "code": code}]


def test_client_that_is_killed(world):
    since = world.daemon.log.position()
    with world.client("/slow.php?prompt=one+two+three") as client:
        client.wait(data='{"content":" two"}')
    assert "outcome=client-gone" in world.daemon.log.wait("event=stream-end", 2, since)[0]
