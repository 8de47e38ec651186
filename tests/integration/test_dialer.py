# SPDX-License-Identifier: Apache-2.0
"""The dialer in its cage, in a network of its own with a name server that is ours: which addresses it connects to, and
how often it asks."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from env import UID_DIALER, UID_GATE, UID_STREAMER

pytestmark = [
    pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the roles become users of their own"),
]

CONFIG = """
runtime-dir = "{dir}"
gate-user = "{gate}" dialer-user = "{dialer}" streamer-user = "{streamer}"
listen "{dir}/chat.sock" {{ backend = "b" allow-peer = {{ "65533" }} }}
backend "b" {{ type = "openai" upstream = "u" }}
upstream "u" {{ url = "http://{host}/v1" {options} }}
"""

SILENT = """
listen "{dir}/silent.sock" {{ backend = "silent" allow-peer = {{ "65533" }} }}
backend "silent" {{ type = "openai" upstream = "silent" workers = 4 }}
upstream "silent" {{ url = "http://silent.test:8080/v1" allow-private = yes }}
"""


class World:
    """What came of it: `answers`, (answer, seconds) each; how many questions came over UDP and over TCP; the log."""

    def __init__(self, env, host, options="", rounds=("1",), more=""):
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-mn", "true"], check=False).returncode != 0:
            pytest.skip("needs mount and network namespaces of its own")
        folder = env.folder("dialer")
        config = folder / "dialer.conf"
        config.write_text((CONFIG + more).format(dir=folder, host=host, options=options.format(dir=folder), gate=UID_GATE,
                                        dialer=UID_DIALER, streamer=UID_STREAMER), encoding="ascii")
        config.chmod(0o644)
        done = subprocess.run(["unshare", "--mount", "--net", "/usr/bin/python3",
                               str(Path(__file__).with_name("dns_world.py")), str(env.bin / "handoffd-dialer"),
                               str(config), str(folder / "dialer.sock"), str(UID_GATE), *map(str, rounds)],
                              capture_output=True, text=True, timeout=60, check=False)
        self.log = done.stderr
        *answers, questions, ending = done.stdout.splitlines()
        assert ending == "exit 0", done.stdout + done.stderr
        self.answers = [(words.rpartition(" ")[0], float(words.rpartition(" ")[2])) for words in answers]
        self.over_udp, self.over_tcp = map(int, questions.split()[1:])


PRIVATE = "allow-private = yes"


@pytest.mark.parametrize("host, options, result", [
    ("several.test:8080", PRIVATE, "ok 127.0.0.1"),  # addresses of both families, the others unreachable
    ("localhost:8080", "", "ok 127.0.0.1"),  # no name server's word
    ("api.localhost:8080", "", "ok 127.0.0.1"),
    ("127.0.0.1:8080", "", "ok 127.0.0.1"),
    ("[::1]:8080", "", "ok ::1"),
    ("127.0.0.1:1", "", "ECONNREFUSED"),
    ("mixed.test:8080", "", "ok 93.184.216.34"),  # the only one that is not private
    ("several.test:8080", "", "EACCES"),
    ("mapped.test:8080", "", "EACCES"),
    ("translated.test:8080", "", "EACCES"),
    ("mapped.test:8080", PRIVATE, "ok ::ffff:127.0.0.1"),
    ("absent.test:8080", "", "EHOSTUNREACH"),
])
def test_which_address(env, host, options, result):
    world = World(env, host, options)
    assert world.answers[0][0] == result, world.log
    assert world.answers[0][1] < 1, world.log
    if "localhost" in host or host[0] in "[1":
        assert world.over_udp == 0
    assert ("allow-private" in world.log) == (result == "EACCES")


def test_long_answers_come_over_tcp(env):
    world = World(env, "long.long.test:8080", PRIVATE)
    assert world.answers[0][0] == "ok 127.0.0.1" and world.over_tcp > 0, world.log


def test_unix_socket(env):
    """The url says what the request says; nobody is asked about its host."""
    world = World(env, "absent.test", 'unix-socket = "{dir}/dialer.sock.upstream"')
    assert world.answers[0][0].endswith("/dialer.sock.upstream"), world.log
    assert world.over_udp == 0
    world = World(env, "absent.test", 'unix-socket = "{dir}/nowhere.sock"')
    assert world.answers[0][0] == "ENOENT", world.log


def test_names_are_asked_about_once(env):
    """Lookups at one time are one, and an answer is kept for some seconds although its TTL is shorter."""
    world = World(env, "mixed.test:8080", rounds=(20, 1, "sleep 1.5", 5))
    assert [answer for answer, _ in world.answers] == ["ok 93.184.216.34"] * 26, world.log
    assert world.over_udp == 2  # A and AAAA
    world = World(env, "mixed.test:8080", rounds=(1, "sleep 5.2", 1))
    assert world.over_udp == 4, "an answer is kept for good"


def test_an_unknown_name_is_asked_about_again(env):
    world = World(env, "absent.test:8080", rounds=(5, "sleep 1.3", 1))
    assert [answer for answer, _ in world.answers] == ["EHOSTUNREACH"] * 6, world.log
    once = World(env, "absent.test:8080", rounds=(5,)).over_udp
    assert world.over_udp == 2 * once


def test_a_silent_address_costs_little_and_once(env):
    world = World(env, "slow.test:8080", PRIVATE, rounds=(1, 1))
    (first, waited), (second, again) = world.answers
    assert first == second == "ok 127.0.0.1", world.log
    assert 0.2 < waited < 1 and again < 0.2


def test_families_take_turns(env):
    """Three silent addresses of one family cost one wait, not three."""
    (answer, waited), = World(env, "six.test:8080", PRIVATE).answers
    assert answer == "ok ::ffff:127.0.0.1" and waited < 0.6


def test_a_dead_upstream_is_left_alone(env):
    """After the second failure in a row what is asked for fails without a connection: that many log lines there are."""
    world = World(env, "127.0.0.1:1", rounds=[1] * 50)
    assert [answer for answer, _ in world.answers] == ["ECONNREFUSED"] * 50, world.log
    assert world.log.count("event=dial-failed") < 10, world.log
    world = World(env, "127.0.0.1:1", rounds=(1, 1, "sleep 0.15", 1))
    assert world.log.count("event=dial-failed") == 3, world.log


def test_a_silent_upstream_leaves_the_others_their_descriptors(env):
    """Four streamers ask for as many connections to it as they may, each of three addresses."""
    world = World(env, "127.0.0.1:8080", rounds=(1, "flood 4", "sleep 1.5", 1, 1), more=SILENT)
    assert [answer for answer, _ in world.answers] == ["ok 127.0.0.1"] * 3, world.log[:2000]
    assert max(waited for _, waited in world.answers) < 1
