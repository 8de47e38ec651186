# SPDX-License-Identifier: Apache-2.0
"""Processes that are there and do nothing: the supervisor replaces them, and the gate turns to others meanwhile."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import env as harness
from streams import serves


def stopped(pid: int) -> None:
    """Let it hang."""
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for(lambda: harness.proc_status(pid)["State"][0] in "Tt", 5, "the stop")


@pytest.mark.parametrize("role", ["gate", "dialer", "streamer"])
def test_replaced_by_the_supervisor(handoffd_factory, role):
    daemon = handoffd_factory(options={"watchdog": "2"}, allow_peer=(os.geteuid(),))
    others = {name: pids for name, pids in daemon.roles().items() if name != role}
    pid = daemon.pid(role)
    daemon.expect(rf"event=hung role={role}", rf"event=crashed role={role} .*signal=9")
    since = daemon.log.position()
    stopped(pid)
    daemon.log.wait(rf"handoffd\[\d+\]: event=hung role={role} .*pid={pid} seconds=2", 5, since)
    daemon.log.wait(rf"event=role-ready role={role} ", 10, since)
    assert not harness.alive(pid)
    assert {name: pids for name, pids in daemon.roles().items() if name != role} == others
    harness.wait_for(lambda: serves(daemon), 5, "service")


def test_nobody_is_replaced_while_all_are_alive(handoffd_factory):
    daemon = handoffd_factory(options={"watchdog": "2"})
    before = daemon.roles()
    time.sleep(3.5)
    assert daemon.roles() == before
    assert not daemon.log.find("event=hung")


def test_never_with_watchdog_0(handoffd_factory):
    daemon = handoffd_factory(options={"watchdog": "0"})
    pid = daemon.pid("dialer")
    stopped(pid)
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)
    assert harness.alive(pid) and not daemon.log.find("event=hung")


def test_a_start_that_hangs(handoffd_factory, env):
    """A role that never gets ready makes a reload fail, instead of keeping it and all further ones from their end."""
    daemon = handoffd_factory(options={"watchdog": "1"})
    daemon.stop()
    programs, log = daemon.run / "programs", daemon.run / "log"
    programs.mkdir()
    for role in env.bin.glob("handoffd-*"):
        (programs / role.name).symlink_to(role)

    def await_event(event):
        harness.wait_for(lambda: f"event={event}" in log.read_text(), 20, event)
    with open(log, "w", encoding="utf-8") as stderr, \
            subprocess.Popen([env.bin / "handoffd", "-c", daemon.conf_file, "-x", programs], stderr=stderr,
                             env=env.sanitizer_environment()) as supervisor:
        try:
            await_event("ready processes=")
            dialer = programs / "handoffd-dialer"
            right = os.readlink(dialer)
            dialer.unlink()
            dialer.write_text("#!/bin/sh\nexec sleep 60\n")
            dialer.chmod(0o755)
            supervisor.send_signal(signal.SIGHUP)
            await_event("hung role=dialer")
            await_event("reload-failed")
            dialer.unlink()
            dialer.symlink_to(right)
            supervisor.send_signal(signal.SIGHUP)
            await_event("reloaded")
        finally:
            supervisor.terminate()
            supervisor.wait(20)


def test_gate_notices(handoffd_factory):
    """Of two streamers one hangs, and the dialer: the gate notices within seconds, turns to the other streamer, and has them
    back when they go on."""
    daemon = handoffd_factory(backends={"demo": {"type": "demo", "delay": 1, "workers": 2}}, options={"watchdog": "0"},
                              allow_peer=(os.geteuid(),))
    pids = {"streamer": daemon.roles()["streamer"][0], "dialer": daemon.pid("dialer")}
    daemon.expect(r"event=peer-lost role=(streamer .*|dialer )detail=hangs")
    since = daemon.log.position()
    for pid in pids.values():
        stopped(pid)
    try:
        daemon.log.wait(r"event=peer-lost role=streamer .*detail=hangs", 25, since)
        daemon.log.wait(r"event=peer-lost role=dialer detail=hangs", 25, since)
        assert daemon.counters("gate")["handoffd_peer_hung_total"] == 2
        assert all(serves(daemon) for _ in range(20))
    finally:
        since = daemon.log.position()
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
    for role in pids:
        daemon.log.wait(rf"event=peer-connected role={role}", 5, since)
    assert all(serves(daemon) for _ in range(4))
    assert pids == {"streamer": daemon.roles()["streamer"][0], "dialer": daemon.pid("dialer")}


def test_supervisor_gives_signs_of_life(env, handoffd_factory):
    """Under systemd with WatchdogSec= the supervisor is watched itself."""
    daemon = handoffd_factory()
    folder = env.folder("notify")
    config = folder / "handoffd.conf"
    config.write_text(daemon.conf_file.read_text().replace(str(daemon.run), str(folder)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(folder / "log", "wb") as log:
        notify.bind(str(folder / "notify"))
        notify.settimeout(15)
        process = subprocess.Popen(
            [env.bin / "handoffd", "-c", config, "-x", env.bin], stderr=log,
            env={**env.sanitizer_environment(), "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "400000"})
        try:
            heard = [notify.recv(100).decode() for _ in range(6)]
            assert set(heard) == {"READY=1", "WATCHDOG=1"}
            started = time.monotonic()
            assert [notify.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            assert 0.3 < time.monotonic() - started < 4
            process.terminate()
            while notify.recv(100) != b"STOPPING=1":
                pass
        finally:
            process.terminate()
            assert process.wait(15) == 0
    assert re.search("event=stopping", (folder / "log").read_text())
