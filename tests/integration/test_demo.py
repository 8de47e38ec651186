# SPDX-License-Identifier: Apache-2.0
"""`make demo` as somebody runs it who has just cloned the project, without the building."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from env import AS_ROOT, ROOT, SANITIZE, Client, MockLLM, alive, curl, descendants, get, request, wait_for

pytestmark = [pytest.mark.skipif(not AS_ROOT, reason="needs root: each part of the demo has a user of its own"),
              pytest.mark.skipif(SANITIZE, reason="Apache cannot load a sanitizer build without more ado")]
API_KEY = "sk-demo-not-a-real-key"


class Demo:
    """run.sh in a session of its own, as on a terminal."""

    def __init__(self, env, **environment):
        environment = {"PATH": os.environ["PATH"], "BUILD": str(env.build), "DELAY": "1", **environment}
        # As at a terminal: what runs the tests may ignore Ctrl-C, as every job in a script's background does.
        self.popen = subprocess.Popen([ROOT / "examples/demo/run.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, env=environment, start_new_session=True,
                                      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.output, self.logs = "", env.build / "demo"

    def port(self) -> int:
        """Once it says where the page is."""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", self.output)):
            line = self.popen.stdout.readline()
            assert line, self.output
            self.output += line
        self.below = descendants(self.popen.pid)
        return int(found[1])

    @staticmethod
    def question(port: int, text: str) -> bytes:
        """A request as the page makes it: with its cookie and its CSRF token."""
        page = request(port)
        cookie = page.header("Set-Cookie").partition(";")[0]
        token = re.search(r'name="csrf-token" content="(\w+)"', page.body.decode())[1]
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        return get("/stream.php", [("Cookie", cookie), ("X-CSRF-Token", token), ("Content-Type", "application/json")],
                   "POST", body)

    def ask(self, port: int, text: str):
        with Client(port) as client:
            return client.send(self.question(port, text)).response("POST")

    def end(self, timeout: float = 30) -> int:
        self.output += self.popen.communicate(timeout=timeout)[0]
        return self.popen.returncode

    def leftovers(self) -> list:
        return [pid for pid in self.below if alive(pid)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGTERM)
            self.end()


def states() -> set:
    return {name for name in os.listdir("/tmp") if name.startswith("handoffd-demo.")}


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ends_without_a_trace(env, number, status):
    """A terminal's signals reach all that was started from it at once; a stream that runs does not hold the end up."""
    before = states()
    with Demo(env, DELAY="1000") as demo:
        port = demo.port()
        assert len(demo.below) >= 8 and len(states() - before) == 1
        with Client(port) as client:
            client.send(demo.question(port, "one two")).read_until(b"one")
            started = time.monotonic()
            os.killpg(demo.popen.pid, number)
            assert demo.end() == status, demo.output
            assert time.monotonic() - started < 8
    wait_for(lambda: not demo.leftovers(), 2, "end of all processes")
    assert "demo:" not in demo.output.replace("handoffd demo:", ""), demo.output
    assert states() == before and curl(f"http://127.0.0.1:{port}/").returncode == 7


def test_once(env):
    with Demo(env, ONESHOT="1") as demo:
        assert demo.end() == 0, demo.output
    assert demo.output.count("data: ") > 10 and "data: [DONE]\n" in demo.output


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_with_a_model(env, host):
    """A service on this machine, by address and by name; the key is in no process's arguments or environment."""
    rule = (f"headers.authorization != 'Bearer {API_KEY}' || body.model != 'some/model:7b'", 401, {"error": {"message": "no"}})
    with MockLLM(env, rules=[rule]) as mock:
        base = f"http://{host}:{mock.port}/v1"
        with Demo(env, OPENAI_API_BASE=base, OPENAI_API_KEY=API_KEY, OPENAI_MODEL="some/model:7b") as demo:
            port = demo.port()
            for pid in demo.below:
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the script's own helpers end
                        assert API_KEY.encode() not in open(f"/proc/{pid}/{name}", "rb").read()
            assert demo.ask(port, "Is anybody there?").text() == "Is anybody there?"
        assert not any(API_KEY in log.read_text() for log in demo.logs.glob("*.log"))


def test_without_the_service(env):
    """Whose address is wrong: the page works, and says what is the matter."""
    with Demo(env, OPENAI_API_BASE=f"http://127.0.0.1:{env.port()}/v1") as demo:
        response = demo.ask(demo.port(), "Is anybody there?")
        assert response.status == 502 and response.error()["message"]
    with Demo(env, OPENAI_API_BASE=f"http://127.0.0.1:{env.port()}/v1", ONESHOT="1") as demo:
        assert demo.end() == 1
    assert "the stream did not come whole" in demo.output


def test_process_that_dies(env):
    before = states()
    with Demo(env) as demo:
        demo.port()
        supervisor = next(pid for pid in demo.below if open(f"/proc/{pid}/comm").read() == "handoffd\n")
        os.kill(supervisor, signal.SIGKILL)
        assert demo.end() == 1
    assert "ended by itself" in demo.output and states() == before
    wait_for(lambda: not demo.leftovers(), 2, "end of all processes")


@pytest.mark.parametrize("name, value", [("OPENAI_API_BASE", 'http://x/"}'), ("OPENAI_API_BASE", "localhost:11434"),
                                         ("OPENAI_MODEL", 'a" b'), ("DELAY", "soon"), ("PORT", "80; true")])
def test_environment_that_makes_no_sense(env, name, value):
    before = states()
    with Demo(env, **{name: value}) as demo:
        assert demo.end() == 1
    assert re.fullmatch(f"demo: .*{name}.*\n", demo.output) and states() == before
