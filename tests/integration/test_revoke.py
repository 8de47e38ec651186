# SPDX-License-Identifier: Apache-2.0
"""handoffctl revoke: when it has ended, the running gate refuses the key; streams that run go on."""
import fcntl
import os
import signal
import subprocess
import time

import pytest

import env as harness
import handoff1
from handoff1 import Sender, tcp_pair
from streams import PROMPT, read_all

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
    def run(*arguments, **how):
        return subprocess.run([env.bin / "handoffctl", "revoke", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60, env=env.sanitizer_environment(), **how)
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


def spoil(daemon):
    """From now on no reload succeeds: the runtime-dir cannot change."""
    text = daemon.conf_file.read_text()
    moved = text.replace(str(daemon.run / "roles"), str(daemon.run / "elsewhere"))
    assert moved != text
    daemon.conf_file.write_text(moved)
    (daemon.run / "elsewhere").symlink_to(daemon.run / "roles")


def test_reload_that_fails_is_said(daemon, revoke):
    """The key is revoked in the file; that nobody has read it must not go unnoticed."""
    spoil(daemon)
    result = revoke("-c", daemon.conf_file, "leaked")
    assert result.returncode == 1
    assert result.stderr == "handoffctl: handoffd has not read its keys again, and its log says why: restart it\n"
    assert daemon.log.find("event=reload-failed")


def test_an_earlier_reload_is_another(daemon, revoke):
    """A reload that began before has read the ring as it was, so that it comes to its end says nothing."""
    leaked, _ = daemon.keys.keys
    gate = daemon.pid("gate")
    os.kill(gate, signal.SIGSTOP)
    try:
        daemon.reload()
        spoil(daemon)
        result = revoke("-c", daemon.conf_file, "leaked")
        reply, client = hand_off(daemon, leaked)
        client.close()
    finally:
        os.kill(gate, signal.SIGCONT)
    assert (result.returncode, reply.accepted) == (1, True), result.stdout
    assert "has not read its keys again" in result.stderr
    assert daemon.log.find("event=reload-failed")


def test_not_before_the_old_gate_has_ended(daemon, revoke, in_threads):
    """It still holds the keys as they were, and the listening sockets."""
    gate = daemon.pid("gate")
    results = []
    os.kill(gate, signal.SIGSTOP)

    def go_on():
        daemon.log.wait("event=reloaded", 20)
        # The gate that has just taken over is made to go at once by the next reload.
        daemon.reload()
        harness.wait_for(lambda: len(daemon.roles()["gate"]) == 2, 10, "the end of the second gate")
        time.sleep(0.5)
        results.append("the old gate runs")
        os.kill(gate, signal.SIGCONT)

    def ask():
        result = revoke("-c", daemon.conf_file, "leaked")
        results.append(result.returncode)
    in_threads([go_on, ask], timeout=60)
    assert results == ["the old gate runs", 0]


def test_whoever_may_not_see_is_told(daemon, revoke):
    """A user who owns the key ring, but has no access to the supervisor's lock: it runs, and has not been told."""
    ring = daemon.run / "ring"
    ring.mkdir()
    (ring / "keys").write_text(open(daemon.file, encoding="ascii").read())
    (ring / "keys").chmod(0o640)
    conf = ring / "conf"
    conf.write_text(daemon.conf_file.read_text().replace(str(daemon.file), str(ring / "keys")))
    for path in (ring, ring / "keys", conf):
        os.chown(path, harness.UID_GATE, harness.UID_GATE)
    result = revoke("-c", conf, "leaked", user=harness.UID_GATE, group=harness.UID_GATE, extra_groups=[])
    assert " revoked " in (ring / "keys").read_text()
    assert result.returncode == 1
    assert result.stderr == f"handoffctl: {daemon.run}/roles/lock: Permission denied: whether handoffd runs cannot be seen\n"


def test_starting_again_it_takes_nobody_for_the_supervisor(daemon, revoke, env):
    """What a supervisor that was killed has left in its lock is no process of ours any more."""
    lock, programs = daemon.run / "roles/lock", daemon.run / "programs"
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.stop()
    programs.mkdir()
    for role in env.bin.glob("handoffd-*"):
        (programs / role.name).symlink_to(role)
    (programs / "handoffd-dialer").unlink()
    (programs / "handoffd-dialer").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "handoffd-dialer").chmod(0o755)
    with subprocess.Popen(["sleep", "60"]) as innocent:
        lock.write_text(f"{innocent.pid} 0 0 0\n")
        command = [env.bin / "handoffd", "-c", daemon.conf_file, "-x", programs]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as starting:
            try:
                harness.wait_for(lambda: is_held(lock), 10, "the supervisor's lock")
                result = revoke("-c", daemon.conf_file, "leaked")
                assert innocent.poll() is None
                assert result.returncode == 1
                assert result.stderr == "handoffctl: handoffd has only just been started: try again\n"
            finally:
                starting.kill()
                innocent.kill()


def is_held(lock) -> bool:
    with open(lock, encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
