# SPDX-License-Identifier: Apache-2.0
"""handoffctl revoke: when it has ended, the running gate refuses the key; streams that run go on."""
import os
import subprocess

import pytest

import env as harness
import handoff1
from handoff1 import Sender, tcp_pair
from test_gate_crash import PROMPT, read_all

LONG = b'{"prompt":"' + b"word " * 100 + b'"}'


@pytest.fixture(name="daemon")
def fixture_daemon(env, factory):
    """A handoffd with two keys, and daemon.file, its key ring."""
    keys = harness.KeyRing(env)
    keys.set(handoff1.Key("leaked"), handoff1.Key("other"))
    file = keys.file(harness.UID_GATE)
    daemon = factory(harness.Handoffd, backends={"demo": {"type": "demo", "delay": 20}}, keys=keys,
                     options={"key-file": file}, allow_peer=(os.geteuid(),))
    daemon.file = file
    return daemon


@pytest.fixture(name="revoke")
def fixture_revoke(env):
    def run(*arguments):
        return subprocess.run([env.bin / "handoffctl", "revoke", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60, env=env.sanitizer_environment())
    return run


def hand_off(daemon, key, data=PROMPT):
    """(reply, client): the client is the caller's."""
    pair = tcp_pair()
    with Sender(daemon.path()) as sender:
        reply = sender.handoff(pair.server, data, key=key).receive()
    pair.server.close()
    return reply, pair.client


def test_at_once(daemon, revoke):
    leaked, other = daemon.keys.keys
    reply, running = hand_off(daemon, leaked, LONG)
    assert reply.accepted
    before = os.stat(daemon.file)
    daemon.expect("reason=token-key-revoked", "event=reloading")
    result = revoke("-c", daemon.conf_file, "leaked")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[0] == "handoffd has read its keys again."
    # No pause here: it has ended, so it is in force.
    reply, client = hand_off(daemon, leaked)
    client.close()
    assert (reply.accepted, reply.status) == (False, 403)
    reply, client = hand_off(daemon, other)
    assert reply.accepted and b"[DONE]" in read_all(client)
    client.close()
    assert b"[DONE]" in read_all(running), "a stream that ran was cut"
    running.close()
    after = os.stat(daemon.file)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    lines = open(daemon.file, encoding="ascii").read().splitlines()
    assert lines == [leaked.line().replace(" sign ", " revoked "), other.line()]
    assert not os.path.exists(f"{daemon.file}.new")


def test_again_is_no_error(daemon, revoke):
    for _ in range(2):
        assert revoke("-c", daemon.conf_file, "leaked").returncode == 0


def test_unknown_key(daemon, revoke):
    text = open(daemon.file, encoding="ascii").read()
    result = revoke("-c", daemon.conf_file, "nobody")
    assert (result.returncode, result.stderr) == (1, f"handoffctl: {daemon.file}: no key nobody\n")
    assert open(daemon.file, encoding="ascii").read() == text
    assert not daemon.log.find("event=reloading")


def test_reload_that_fails_is_said(daemon, revoke):
    """The key is revoked in the file; that nobody has read it must not go unnoticed."""
    text = daemon.conf_file.read_text()
    moved = text.replace(str(daemon.run / "roles"), str(daemon.run / "elsewhere"))
    assert moved != text
    daemon.conf_file.write_text(moved)
    (daemon.run / "elsewhere").symlink_to(daemon.run / "roles")
    result = revoke("-c", daemon.conf_file, "leaked")
    assert result.returncode == 1
    assert result.stderr == "handoffctl: handoffd has not read its keys again, and its log says why: restart it\n"
    assert daemon.log.find("event=reload-failed")


def test_nobody_runs(daemon, revoke):
    daemon.stop()
    result = revoke("-c", daemon.conf_file, "leaked")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "No handoffd runs with this configuration."


def test_another_ring(daemon, revoke):
    """Apache's own: only the file is changed."""
    result = revoke("--keys", daemon.file, "other")
    assert result.returncode == 0 and "apachectl graceful" in result.stdout
    assert " revoked " in open(daemon.file, encoding="ascii").read().splitlines()[1]
    assert not daemon.log.find("event=reloading")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["UPPER"], ["--keyz", "x"]])
def test_usage(revoke, arguments):
    assert revoke(*arguments).returncode == 2
