# SPDX-License-Identifier: Apache-2.0
"""The openai backend from end to end: Apache, PHP, handoffd, and mock-llm, an OpenAI-compatible service that is not
ours, plain and behind TLS. Faults of an upstream that mock-llm cannot show come from a scripted one."""
import os
import time

import pytest

import handoff1
from env import (AS_ROOT, SANITIZE, UID_STREAMER, Authority, Apache, Client, Handoffd, KeyRing, MockLLM,
                 ScriptedUpstream, TlsFront, get, request, wait_for)
from streams import credential

API_KEY = "sk-test-not-a-real-key"
LIMITED = ("contains(body.messages[-1].content, 'error-429')", 429,
           {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}})
DENIED = ("contains(body.messages[-1].content, 'error-401')", 401,
          {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}})
FAILED = ("contains(body.messages[-1].content, 'error-500')", 500, {"error": {"message": "boom"}})
ONLY_WITH_KEY = ("headers.authorization != 'Bearer " + API_KEY + "' && contains(body.messages[-1].content, 'key?')",
                 401, {"error": {"message": "Incorrect API key provided."}})
STRICT_MODEL = ("contains(body.messages[-1].content, 'model?')", 200,
                {"choices": [{"message": {"role": "assistant", "content": "model={{jmes request body.model}}"},
                              "finish_reason": "stop"}]})


class World:
    """One handoffd with a backend for each kind of upstream, one Apache in front."""

    def __init__(self, env, fpm):
        self.env, keys = env, KeyRing(env)
        self.mock = MockLLM(env, rules=[LIMITED, DENIED, FAILED, ONLY_WITH_KEY, STRICT_MODEL])
        self.authority, self.stranger = Authority(env, "ca"), Authority(env, "stranger")
        self.tls = TlsFront(self.mock.port, self.authority.context("DNS:localhost", "IP:127.0.0.1"))
        self.other_name = TlsFront(self.mock.port, self.authority.context("DNS:example.org"))
        self.silent = ScriptedUpstream(lambda connection: (connection.read_request(), connection.wait_gone(20)))
        self.drip = ScriptedUpstream(self.dripping)
        self.status = ScriptedUpstream(self.refusing)
        tls_url = f"https://localhost:{self.tls.port}/v1"
        ca = self.authority.ca_file
        upstreams = {
            "plain": {"url": self.mock.url},
            "tls": {"url": tls_url, "ca-file": ca},
            "by-address": {"url": f"https://127.0.0.1:{self.tls.port}/v1", "ca-file": ca},
            "wrong-ca": {"url": tls_url, "ca-file": self.stranger.ca_file},
            "system-ca": {"url": tls_url},
            "wrong-name": {"url": f"https://localhost:{self.other_name.port}/v1", "ca-file": ca},
            "down": {"url": f"http://127.0.0.1:{env.port()}/v1"},
            "not-tls": {"url": f"https://localhost:{self.mock.port}/v1", "ca-file": ca},
            "silent": {"url": self.silent.url},
            "drip": {"url": self.drip.url},
            "status": {"url": self.status.url},
            "nowhere": {"url": "http://no-such-host.invalid/v1"},
        }
        backends = {}
        for number, name in enumerate(upstreams):
            backends[name] = {"type": "openai", "upstream": name, "model": "gpt-test",
                              "credential-file": credential(env, API_KEY + "\n", owner=UID_STREAMER + number),
                              "first-byte-timeout": 2}
        self.daemon = Handoffd(env, backends, {name: {"backend": name} for name in backends}, upstreams, keys)
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=keys)
        for name in backends:
            self.apache.chat_page(self.daemon, f"{name}.php", name)
        self.apache.emit_page(keys.key)

    @staticmethod
    def dripping(connection):
        connection.read_request()
        connection.head()
        for number in range(1000):
            connection.event(f"drop{number} ")
            if connection.wait_gone(0.02):
                return
        connection.done()

    @staticmethod
    def refusing(connection):
        """Answers with the status that the prompt names."""
        connection.read_request()
        status = connection.json["messages"][-1]["content"]
        body = b'{"error":{"message":"Incorrect API key provided: sk-12345"}}'
        connection.send(b"HTTP/1.1 %s Whatever\r\nContent-Type: application/json\r\nRetry-After: 7\r\nLocation: /x\r\n"
                        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))

    def ask(self, upstream, prompt, timeout=20):
        return request(self.apache.port, f"/{upstream}.php", body=prompt.encode(), timeout=timeout)

    def stop(self):
        for part in (self.apache, self.daemon, self.tls, self.other_name, self.silent, self.drip, self.status, self.mock):
            part.stop()


@pytest.fixture(scope="module")
def world(env, fpm):
    world = World(env, fpm)
    yield world
    world.stop()


@pytest.mark.parametrize("upstream", ["plain", "tls", "by-address"])
def test_answer(world, upstream):
    text = "Echo of \u20ac, \"quotes\", \\ and\nlines. " * 4
    response = world.ask(upstream, text)
    assert response.status == 200 and response.text() == text
    assert len(response.events()) > 3, "the answer did not come in pieces"
    assert response.all("Set-Cookie") == ["seen=yes"]


def test_long_prompt(world):
    """Beyond what a response header holds."""
    text = "long prompt " * 2500
    assert world.ask("plain", text, 60).text() == text


def test_credential_and_model_are_the_configurations(world):
    assert world.ask("plain", "key?").text() == "key?"
    assert world.ask("plain", "model?").text() == "model=gpt-test"


def test_connections_are_used_again(world):
    """The second request over TLS needs no new connection."""
    world.ask("tls", "warm")
    before = len(world.tls.connections)
    for _ in range(3):
        assert world.ask("tls", "again").status == 200
    assert len(world.tls.connections) == before


@pytest.mark.parametrize("upstream", ["wrong-ca", "system-ca", "wrong-name", "not-tls", "down", "nowhere"])
def test_not_reached(world, upstream):
    """502 with a JSON body, and nothing of the request arrives where the certificate is wrong."""
    response = world.ask(upstream, "secret")
    assert response.status == 502 and response.error()["code"] == "upstream-error"
    assert response.all("Set-Cookie") == ["seen=yes"]


@pytest.mark.parametrize("status, answer, code", [(429, 429, "upstream-refused"), (401, 502, "upstream-refused"),
                                                  (500, 502, "upstream-error"), (302, 502, "upstream-error")])
def test_error_status(world, status, answer, code):
    """An upstream's refusal becomes a status of our own, never a 200, and tells the client nothing of the credential."""
    response = world.ask("status", str(status))
    assert (response.status, response.error()["code"]) == (answer, code)
    assert b"API key" not in response.body
    if status == 429:
        assert response.header("Retry-After") == "7"


@pytest.mark.parametrize("prompt", ["error-429", "error-401", "error-500"])
def test_error_inside_a_stream(world, prompt):
    """mock-llm reports errors as events of a stream that began with 200: the client learns of it, without the details."""
    response = world.ask("plain", prompt)
    assert response.error()["code"] == "upstream-error"
    assert b"API key" not in response.body and b"[DONE]" not in response.body


def test_silent_upstream(world):
    started = time.monotonic()
    response = world.ask("silent", "hello?")
    assert response.status == 504 and 1.5 < time.monotonic() - started < 9
    assert world.silent.connections[-1].gone.wait(9), "the request goes on"


def test_client_that_leaves_cancels_the_upstream(world):
    """While tokens come, and before the first one."""
    for upstream, server, until in (("drip", world.drip, b"drop3"), ("silent", world.silent, None)):
        count, since = len(server.connections), world.daemon.log.position()
        client = Client(world.apache.port)
        client.send(get(f"/{upstream}.php?prompt=x"))
        if until:
            client.read_until(until)
        connection = server.wait_connections(count + 1)[-1]
        wait_for(lambda: connection.request, 5, "the request at the upstream")
        client.close()
        assert connection.gone.wait(4), "the upstream call goes on"
        assert "outcome=client-gone" in world.daemon.log.wait("event=stream-end", 2, since)[0]


def test_request_cannot_choose_the_upstream(world):
    """Data that names a URL, a key or a host changes nothing."""
    data = '{"prompt":"mine","url":"http://127.0.0.1:1/","base_url":"http://127.0.0.1:1/","api_key":"x","upstream":"down"}'
    response = request(world.apache.port, world.apache.emit(path=world.daemon.path("plain"), data=data))
    assert response.text() == "mine"


def test_no_secret_in_sight(world):
    """The credential is in no log, argument or environment."""
    world.ask("plain", "error-401")
    pids = [pid for pids in world.daemon.roles().values() for pid in pids]
    for pid in [world.daemon.process.pid, *pids]:
        for name in ("cmdline", "environ") if AS_ROOT else ("cmdline",):  # roles are not dumpable
            assert API_KEY.encode() not in open(f"/proc/{pid}/{name}", "rb").read()
    key = handoff1.base64.b64encode(world.daemon.keys.key.secret).decode()
    for line in world.daemon.log.lines() + world.apache.error_log.lines() + world.apache.access_log.lines():
        assert API_KEY not in line and key not in line and "v1.test1." not in line


@pytest.mark.skipif(SANITIZE, reason="the sanitizer's own threads and memory are in the way")
def test_streamer_has_no_thread_and_no_socket_of_its_own(world):
    """Every connection to an upstream came from the dialer: the streamer's TCP sockets are all passed ones, and it is a
    single thread."""
    world.ask("tls", "x")
    for pid in world.daemon.roles()["streamer"]:
        assert len(os.listdir(f"/proc/{pid}/task")) == 1
