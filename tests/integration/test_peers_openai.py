# SPDX-License-Identifier: Apache-2.0
"""The official openai SDKs against examples/openai-compatible: unchanged but for their base URL and token, over HTTP and HTTPS."""
import hashlib
import json
import re
import time

import pytest

from env import (ROOT, UID_APACHE, UID_FPM, UID_STREAMER, Apache, Authority, Handoffd, MockLLM, NodeClient,
                 ScriptedUpstream, request, wait_for)
from nginx import Nginx
from streams import credential

API_KEY = "sk-of-the-site-not-a-real-key"
TOKEN = "token-of-alice"
PACKAGES = ["openai", "openai-4"]
SERVICES = ["scripted", "nginx"]  # over HTTP/1.1, and over HTTP/2 and TLS with nginx as its front
TEXT = "Gr\u00fc\u00dfe \u20ac \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2028 \"quoted\" back\\slash, line\nand\ttab "


def chunk(delta: dict, finish_reason=None, **more) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    value = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-test",
             "system_fingerprint": "fp_1", "choices": [choice], **more}
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


class World:
    """The example page in front of mock-llm, and of a scripted upstream, which nginx stands before as well. A user may have two
    answers at once of each."""

    def __init__(self, env, fpm):
        self.env, self.answers = env, []
        self.mock, self.upstream = MockLLM(env), ScriptedUpstream(self.answer)
        authority, secure = Authority(env, "openai"), env.port()
        self.ca_file = authority.ca_file
        self.nginx = Nginx(env, self.upstream.port, authority)
        upstreams = {"mock": {"url": self.mock.url}, "scripted": {"url": self.upstream.url},
                     "nginx": {"url": self.nginx.url, "http": "2", "ca-file": self.ca_file}}
        backends = {}
        for number, name in enumerate(upstreams):
            backends[name] = {"type": "openai", "upstream": name, "model": "gpt-test",
                              "credential-file": credential(env, API_KEY + "\n", owner=UID_STREAMER + number),
                              "output": "passthrough"}
        listens = {name: {"backend": name, "relay": True, "max-streams-per-subject": 2} for name in backends}
        self.daemon = Handoffd(env, backends, listens, upstreams, allow_peer=(UID_APACHE,))
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=self.daemon.keys, modules=("ssl", "http2"),
                             conf=self._conf([*backends, "gone"], secure, authority.issue("IP:127.0.0.1")))
        self.addresses = {"http": self.apache.url, "https": f"https://127.0.0.1:{secure}"}

    def _conf(self, names, port, pair) -> str:
        users = self.env.state / "api-users"
        users.write_text(f"{'0' * 64} nobody\n{hashlib.sha256(TOKEN.encode()).hexdigest()} alice\n")
        page = self.env.folder("openai-compatible") / "completions.php"
        page.write_text((ROOT / "examples/openai-compatible/completions.php").read_text())
        # The section of the example's README, for each backend.
        readme = (ROOT / "examples/openai-compatible/README.md").read_text()
        section = re.search(r"    <Location .*?</Location>\n", readme, re.S)[0]
        lines = [f"Listen 127.0.0.1:{port}", f"<VirtualHost 127.0.0.1:{port}>", "Protocols h2 http/1.1", "SSLEngine on",
                 f"SSLCertificateFile {pair[0]}", f"SSLCertificateKeyFile {pair[1]}", "</VirtualHost>",
                 f'<Directory "{page.parent}">\nRequire all granted\n</Directory>']
        for name in names:
            lines.append(f"Alias /{name}/v1/chat/completions {page}")
            replaced = section
            for before, after in (("/v1/chat/completions", f"/{name}/v1/chat/completions"), ("/etc/handoffd/api-users", users),
                                  ("/run/handoffd/openai.sock", self.daemon.run / f"{name}.sock"),
                                  ("/etc/handoffd/keys.php", self.daemon.keys.file(UID_FPM)),
                                  ("/usr/src/handoffd/php/src", self.env.php_src)):
                assert before in replaced
                replaced = replaced.replace(before, str(after))
            lines.append(replaced)
        return "\n".join(lines)

    def answer(self, connection):
        connection.read_request()
        self.answers.pop(0)(connection)

    def client(self, backend="mock", content="Hello", package="openai", scheme="http", **more) -> NodeClient:
        """An SDK, asking; more: `request`, `client`: further options of either, `helper`, `abortAfter`."""
        plan = {"package": package, **more}
        plan["client"] = {"baseURL": f"{self.addresses[scheme]}/{backend}/v1", "apiKey": TOKEN, "maxRetries": 0,
                          **more.get("client", {})}
        plan["request"] = {"model": "gpt-test", "stream": True, "messages": [{"role": "user", "content": content}],
                           **more.get("request", {})}
        file = self.env.folder("plan") / "plan.json"
        file.write_text(json.dumps(plan))
        return NodeClient(self.env, "openai.cjs", file, NODE_EXTRA_CA_CERTS=self.ca_file)

    def refused(self, backend="mock", content="Hello", **more) -> dict:
        """The error of a request that fails before any chunk."""
        told = self.client(backend, content, **more).end()
        assert len(told) == 1 and told[0]["what"] == "error", told
        assert API_KEY not in json.dumps(told) and TOKEN not in json.dumps(told)
        return told[0]

    def stop(self):
        for part in (self.apache, self.daemon, self.nginx, self.upstream, self.mock):
            part.stop()


@pytest.fixture(scope="module", name="world")
def fixture_world(env, fpm):
    world = World(env, fpm)
    yield world
    world.stop()


def said(told: list) -> str:
    assert told[-1] == {"what": "end", "aborted": False}, told[-1]
    return "".join(choice["delta"].get("content") or "" for event in told[:-1] for choice in event["chunk"]["choices"])


def whole(connection):
    connection.head()
    connection.chunk(chunk({"role": "assistant", "content": ""}) + chunk({"content": "all "}))
    connection.chunk(chunk({"content": "well"}, "stop"))
    connection.done()


# ---------------------------------------------------------------- whole answers

@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_stream(world, package, scheme):
    since = world.daemon.log.position()
    told = world.client(content=TEXT * 3, package=package, scheme=scheme).end()
    assert said(told) == TEXT * 3 and len(told) > 5
    assert told[-2]["chunk"]["choices"][0]["finish_reason"] == "stop"
    end, = world.daemon.log.wait("event=stream-end", since=since)
    assert "subject=alice" in end and "outcome=done" in end and f"relay={'yes' if scheme == 'https' else 'no'}" in end


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("package", PACKAGES)
def test_long_prompt(world, package, service):
    text = (TEXT + "x" * 900) * 2000

    def echo(connection):
        connection.head()
        content = connection.json["messages"][0]["content"]
        for start in range(0, len(content), 10000):
            connection.chunk(chunk({"content": content[start:start + 10000]}))
        connection.chunk(chunk({}, "stop"))
        connection.done()
    world.answers = [echo]
    assert said(world.client(service, content=text, package=package).end(60)) == text


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("package", PACKAGES)
def test_sdk_puts_an_answer_together(world, package, service):
    """Its own reader takes nothing that is not whole: role, text in pieces, a tool call, the reason of the end, and the
    usage, for which it asks."""
    def tools(connection):
        connection.head()
        connection.chunk(chunk({"role": "assistant", "content": None}))
        for part in ("Let me ", "s\u00e9e."):
            connection.chunk(chunk({"content": part}))
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
        connection.chunk(chunk({"tool_calls": [call]}))
        for part in ('{"at":', '"caf\u00e9"}'):
            connection.chunk(chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
        connection.chunk(chunk({}, "tool_calls"))
        usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
        connection.chunk(chunk({}, choices=[], usage=usage))
        connection.done()
    world.answers = [tools]
    final, = world.client(service, package=package, helper=True,
                          request={"stream_options": {"include_usage": True}}).end()
    completion = final["completion"]
    choice, = completion["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "Let me s\u00e9e."
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"at": "caf\u00e9"}
    assert completion["usage"]["total_tokens"] == 16 and completion["id"] == "chatcmpl-7"


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_service_gets(world, service):
    """The site's key and what the user asked; not the user's token."""
    world.answers = [whole]
    asked = {"temperature": 0.25, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
    assert said(world.client(service, request=asked).end()) == "all well"
    connection = world.upstream.connections[-1]
    sent = connection.json
    assert sent["messages"] == asked["messages"] and sent["temperature"] == 0.25 and sent["stream"] is True
    assert f"authorization: bearer {API_KEY}" in connection.request.decode().lower()
    assert TOKEN.encode() not in connection.request
    if service == "nginx":
        made = wait_for(world.nginx.requests, 5, "nginx's access log")[-1]
        assert (made["protocol"], made["status"]) == ("HTTP/2.0", "200")


# ---------------------------------------------------------------- abort

@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("package", PACKAGES)
def test_abort_reaches_the_service(world, package, scheme, service):
    gone = []

    def endless(connection):
        connection.head()
        for number in range(1000):
            connection.chunk(chunk({"content": f"{number} "}))
            if connection.wait_gone(0.02):
                gone.append(time.monotonic())
                return
    world.answers = [endless]
    since = world.daemon.log.position()
    with world.client(service, package=package, scheme=scheme, abortAfter=5) as client:
        told = client.end()
        assert told[-1] == {"what": "end", "aborted": True} and len(told) < 50
        wait_for(lambda: gone, 2, "end of the request to the service")
    assert "outcome=client-gone" in world.daemon.log.wait("event=stream-end", 2, since)[0]


# ---------------------------------------------------------------- refusals

@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status, name, answer", [(429, "RateLimitError", 429), (401, "InternalServerError", 502),
                                                  (500, "InternalServerError", 502), (503, "InternalServerError", 503),
                                                  (400, "BadRequestError", 400)])
def test_upstream_that_refuses(world, status, name, answer, scheme, service):
    def refuse(connection):
        body = b'{"error":{"message":"Incorrect API key provided: %s"}}' % API_KEY.encode()
        connection.send(b"HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nRetry-After: 7\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (status, len(body), body))
    world.answers = [refuse] * 2
    error = world.refused(service, scheme=scheme)
    assert (error["name"], error["status"]) == (name, answer) and "API key" not in error["message"]
    assert re.match(rf"{answer} The ", error["message"]) and error["code"].startswith("upstream-")
    if status == 429:
        assert error["retryAfter"] == "7"


@pytest.mark.parametrize("package", PACKAGES)
def test_sdk_tries_again(world, package):
    """After a 429, when its Retry-After says."""
    times = []

    def busy(connection):
        times.append(time.monotonic())
        connection.send(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    def later(connection):
        times.append(time.monotonic())
        whole(connection)
    world.answers = [busy, later]
    assert said(world.client("scripted", package=package, client={"maxRetries": 2}).end()) == "all well"
    assert 0.9 < times[1] - times[0] < 5


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("how", ["cut", "error"])
def test_answer_that_fails_later(world, package, how, service):
    """Never a stream that only looks whole."""
    def fail(connection):
        connection.head()
        connection.chunk(chunk({"content": "half"}))
        if how == "error":
            connection.chunk(b'data: {"error":{"message":"Key %s is out of money"}}\n\n' % API_KEY.encode())
    world.answers = [fail]
    told = world.client(service, package=package).end()
    assert told[0]["chunk"]["choices"][0]["delta"]["content"] == "half"
    assert [event["what"] for event in told] == ["chunk", "error"] and told[1]["name"] == "APIError"
    assert told[1]["code"] == "upstream-error" and API_KEY not in json.dumps(told) and "money" not in json.dumps(told)


def test_token_that_is_not_known(world):
    for token in ("token-of-bob", "0" * 64, "nobody", "alice", hashlib.sha256(TOKEN.encode()).hexdigest()):
        error = world.refused(client={"apiKey": token})
        assert (error["name"], error["status"], error["type"]) == ("AuthenticationError", 401, "authentication_error")
        assert error["message"] == "401 This token is not known here."
    for headers in ([], [("Authorization", "Bearer ")], [("Authorization", f"Basic {TOKEN}")]):
        response = request(world.apache.port, "/mock/v1/chat/completions", body=b"{}", headers=headers)
        assert response.status == 401 and response.header("WWW-Authenticate") == "Bearer"


def test_whole_answers_are_not_given(world):
    error = world.refused(request={"stream": False})
    assert (error["name"], error["status"]) == ("BadRequestError", 400) and "set stream to true" in error["message"]


def test_option_that_is_not_offered(world):
    error = world.refused(request={"temperature": 99})
    assert (error["name"], error["status"], error["type"]) == ("BadRequestError", 400, "invalid_request_error")
    world.apache.expect("status=400")


def test_members_of_the_site(world):
    """What only pages may say to the daemon does not come through from a user."""
    world.answers = [whole]
    more = {"profile": "none", "system": "Obey.", "response_headers": {"X-Mine": "1"}, "test_pattern": "mine", "user": "bob"}
    assert said(world.client("scripted", request={**more, "tools": [{"type": "function", "function": {
        "name": "look", "parameters": {}}}]}).end()) == "all well"
    connection = world.upstream.connections[-1]
    assert connection.json["messages"] == [{"role": "user", "content": "Hello"}] and "user" not in connection.json
    assert connection.json["tools"][0]["function"]["parameters"] == {}
    assert b"mine" not in connection.request


def test_limit_of_a_user(world):
    """Two answers at once; the third gets 429, which the SDK would wait for."""
    def slow(connection):
        connection.head()
        connection.chunk(chunk({"content": "wait"}))
        connection.wait_gone(20)
    world.answers = [slow] * 2
    with world.client("scripted") as first, world.client("scripted") as second:
        for client in (first, second):
            client.wait(what="chunk")
        error = world.refused("scripted")
        assert (error["name"], error["status"]) == ("RateLimitError", 429) and int(error["retryAfter"]) > 0
        assert error["message"] == "429 Too many answers at once."
    world.apache.expect("reason=subject-streams|status=429")


def test_nobody_listens(world):
    error = world.refused("gone")
    assert (error["name"], error["status"], error["message"]) == ("InternalServerError", 503, "503 The service is busy.")
    world.apache.expect("reason=daemon-unreachable")
