# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/handlers, as their README says, and the original's contract for handlers, through Apache."""
import json
import os
import re
import shutil
import subprocess

import pytest

from env import UID_APACHE, Handoffd, request
from handlers import EXAMPLES
from streams import DONE, exchange

# What figlet makes of it, blanks at line ends aside.
HELLO_WORLD = r"""
 _   _      _ _        __        __         _     _
| | | | ___| | | ___   \ \      / /__  _ __| | __| |
| |_| |/ _ \ | |/ _ \   \ \ /\ / / _ \| '__| |/ _` |
|  _  |  __/ | | (_) |   \ V  V / (_) | |  | | (_| |
|_| |_|\___|_|_|\___/     \_/\_/ \___/|_|  |_|\__,_|
"""
needs_figlet = pytest.mark.skipif(shutil.which("figlet", path="/usr/bin:/bin") is None, reason="figlet is not installed")


def commands(folder) -> dict:
    """The handler sections of examples/handlers/handoffd.conf, with the programs in this folder."""
    sections = {}
    text = (EXAMPLES / "handoffd.conf").read_text().replace("/usr/local/lib/handoffd-handlers", str(folder))
    for name, body in re.findall(r'^handler "(\w+)" \{\n(.*?)^\}', text, re.M | re.S):
        options = dict(re.findall(r"^ +([a-z-]+) += (.*)$", body, re.M))
        sections[name] = {"command": json.loads("[" + options["command"].strip("{}") + "]"), "mode": json.loads(options["mode"])}
        if "environment" in options:
            sections[name]["environment"] = json.loads("[" + options["environment"].strip("{}") + "]")
    return sections


@pytest.fixture(scope="module")
def daemon(env):
    folder = env.folder("programs")
    for program in EXAMPLES.iterdir():
        shutil.copy(program, folder)
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", folder / "upper", EXAMPLES / "upper.c"], check=True)
    handlers = commands(folder)
    assert set(handlers) == {"figlet", "report", "lines"}
    handlers["plain"] = {"command": ["/bin/sh", f"{folder}/stream.sh"], "mode": "text", "environment": ["PAUSE=0.01"]}
    handlers["tokens"] = {"command": ["/usr/bin/php", "-n", f"{folder}/tokens.php"]}
    handlers["upper"] = {"command": [f"{folder}/upper"]}
    # The original's own example of a contract: tests/legacy/handler.sh runs under the original's way of receiving too.
    shutil.copy(EXAMPLES.parents[1] / "tests" / "legacy" / "handler.sh", folder)
    handlers["contract"] = {"command": ["/bin/sh", f"{folder}/handler.sh"]}
    with Handoffd(env, allow_peer=(os.geteuid(), UID_APACHE), handlers=handlers,
                  backends={name: {"type": "handler", "handler": name} for name in handlers},
                  listens={name: {"backend": name} for name in handlers}) as made:
        yield made


def ask(daemon, listener, value, **how):
    return exchange(daemon, value if isinstance(value, bytes) else json.dumps(value).encode(), listener=listener, **how)


def letters(body: bytes) -> list:
    return [line.rstrip() for line in body.decode().splitlines() if line.strip()]


@needs_figlet
def test_figlet(daemon):
    response = ask(daemon, "figlet", {"prompt": "Hello World"})
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert letters(response.body) == letters(HELLO_WORLD.encode())
    # What a client types is letters, whatever it looks like.
    for prompt in ("-f /etc/passwd", "$(id)", "; id", "`id`"):
        body = ask(daemon, "figlet", {"prompt": prompt}).body
        assert b"uid" not in body and b"root" not in body and letters(body)


@needs_figlet
def test_figlet_through_apache(daemon, apache_factory, fpm):
    """curl "http://localhost/api/stream?prompt=Hello+World", as the original's documentation has it."""
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys, sockets=[daemon.path("figlet")])
    apache.chat_page(daemon, "stream.php", "figlet")
    response = request(apache.port, "/stream.php?prompt=Hello+World")
    assert response.status == 200 and letters(response.body) == letters(HELLO_WORLD.encode())
    assert "seen=yes" in response.header("Set-Cookie") and response.header("X-Request-Tag") == "none"


def test_the_contract_of_the_original(daemon):
    """A program that writes its own head and reads HANDOFF_DATA needs no change."""
    data = b'{"prompt":"hi"}'
    response = ask(daemon, "contract", data)
    assert response.header("Content-Type") == "text/event-stream" and response.header("Connection") == "close"
    assert response.body == b"data: " + data + b"\n\n" + DONE


def test_shell(daemon):
    data = b'{"prompt":"hi"}'
    expected = b"one\ntwo\nthree\nThe application said " + data + b"\n"
    assert ask(daemon, "plain", data).body == expected
    response = ask(daemon, "lines", data)
    assert response.text() == expected.decode() and response.body.startswith(b'data: {"content":"one\\n"}\n\n')
    assert response.body.endswith(DONE)


def test_python(daemon):
    response = ask(daemon, "report", {"b": "\u00fc" * 100000, "a": 1}, subject="user-42")
    assert response.header("Content-Type") == "application/json; charset=utf-8"
    assert json.loads(response.body)["said"] == {"a": 1, "b": "\u00fc" * 100000}
    assert json.loads(response.body)["subject"] == "user-42"
    response = ask(daemon, "report", b"not JSON")
    assert response.status == 400 and response.body == b"The data is not JSON.\n"
    daemon.log.wait("event=handler-stderr .*handler=report line=\"the data is not JSON", 5)


def test_php(daemon):
    response = ask(daemon, "tokens", {"prompt": "one two \u00fc\n\"three\""})
    assert response.header("Cache-Control") == "no-cache"
    assert response.text() == "one two \u00fc\n\"three\"" and response.body.count(b"data: ") == 5


def test_c(daemon):
    data = b"some data, of any size " * 10000
    response = ask(daemon, "upper", data)
    assert response.body == data.upper() and response.header("Content-Length") == str(len(data))
