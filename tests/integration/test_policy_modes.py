# SPDX-License-Identifier: Apache-2.0
"""Policies that replace the built-in ones, and the seccomp modes for diagnosis."""
import os
import pathlib

import pytest

import env as harness
from streams import hand_off, serves

ROOT = pathlib.Path(__file__).parents[2]
GATE = (ROOT / "policy/gate.policy").read_text()
WITHOUT_GETPEERNAME = GATE.replace("allow getpeername\n", "")

pytestmark = pytest.mark.usefixtures("needs_seccomp")


@pytest.fixture(name="start")
def fixture_start(env, factory):
    """start(policies, **options): a handoffd with these files in its policy-dir."""
    def start(policies, wait=True, modes=(), **options):
        folder = env.folder("policy.d")
        for name, text in policies.items():
            (folder / f"{name}.policy").write_text(text)
            (folder / f"{name}.policy").chmod(0o644)
        for path, mode in modes:
            (folder / path).chmod(mode)
        keys = harness.KeyRing(env)
        top = {"policy-dir": str(folder), "key-file": keys.file(harness.UID_GATE), **options}
        return factory(harness.Handoffd, keys=keys, options=top, allow_peer=(os.geteuid(),), wait=wait)
    return start


def test_the_text_matters():
    assert "getpeername" in GATE and "getpeername" not in WITHOUT_GETPEERNAME


def test_replaced(start):
    daemon = start({"gate": GATE + "rlimit data 0x40000000\n"})
    line, = daemon.log.find(r"handoffd-gate\[\d+\]: event=policy-replaced")
    assert "/gate.policy" in line
    assert not daemon.log.find(r"handoffd-(streamer|dialer)\[\d+\]: event=policy-replaced")
    limits = pathlib.Path(f"/proc/{daemon.pid('gate')}/limits").read_text()
    assert [row.split()[4] for row in limits.splitlines() if row.startswith("Max data size")] == [str(0x40000000)]
    assert serves(daemon)


@pytest.mark.parametrize("text, modes, message", [
    (GATE + "allow io_uring\n", (), r"gate\.policy:\d+: no system call io_uring"),
    (GATE.replace("role gate", "role dialer"), (), r"gate\.policy: is not the policy of role gate"),
    (GATE, [("gate.policy", 0o666)], r"gate\.policy: others than its owner may write to it"),
    (GATE, [(".", 0o777)], r"gate\.policy: others than its owner may write to it"),
    ("", (), r"gate\.policy:\d+: the file is empty"),
], ids=["faulty", "other-role", "writable", "writable-folder", "empty"])
def test_not_usable(start, text, modes, message):
    daemon = start({"gate": text}, wait=False, modes=modes)
    daemon.expect(r"event=fatal message=\"policy: ", r"event=exited role=gate")
    assert daemon.process.popen.wait(15) == 1
    assert daemon.log.find(r"event=fatal message=\"policy: .*" + message)


def test_enforced(start):
    """What the policy does not grant kills."""
    daemon = start({"gate": WITHOUT_GETPEERNAME})
    daemon.expect(r"event=crashed role=gate .*signal=31")
    assert hand_off(daemon)[0] is None
    daemon.log.wait(r"event=crashed role=gate .*signal=31", 5)


def test_trap(start):
    """The role's own log names the call."""
    daemon = start({"gate": WITHOUT_GETPEERNAME}, seccomp="trap")
    assert len(daemon.log.find(r"event=cage-weakened seccomp=trap")) == 4
    daemon.expect(r"event=exited role=gate .*status=159")
    assert hand_off(daemon)[0] is None
    daemon.log.wait(r"handoffd-gate\[\d+\]: event=seccomp-trap call=getpeername number=\d+", 5)
    daemon.log.wait(r"event=exited role=gate .*status=159", 5)


def test_log(start):
    """The call is made."""
    daemon = start({"gate": WITHOUT_GETPEERNAME}, seccomp="log")
    assert len(daemon.log.find(r"event=cage-weakened seccomp=log")) == 4
    assert serves(daemon)
