# SPDX-License-Identifier: Apache-2.0
"""strace as a means to stop or kill a process at a system call that is named beforehand.

    calls = record(pid, lambda: request(...))      # ["recvmsg", "getsockopt", ...]
    with at(pid, "sendmsg", 2, "KILL") as trap:    # dies when it is about to make its second sendmsg from now on
        request(...)

A kill comes before the call is carried out, a stop after it.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from base import alive, proc_status, wait_for


def traced(name: str) -> list:
    """What stands before a command for tests/policy-usage.py, nothing when nobody asks for it: every system call of every
    process, numbers as they are. The command keeps its pid."""
    folder = os.environ.get("HANDOFF_TRACE")
    if folder is None:
        return []
    return [shutil.which("strace"), "-D", "-ff", "-qq", "-X", "raw", "-e", "raw=!execve", "-e", "signal=none",
            "-o", f"{folder}/{name}-{os.getpid()}-{time.monotonic_ns()}", "--"]


def _attach(pid: int, *arguments) -> subprocess.Popen:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    process = subprocess.Popen(["strace", "-qq", *arguments, "-p", str(pid)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def attached():
        if process.poll() is not None and not alive(pid):
            return True  # it is dead already: an idle process waits in a call
        if process.poll() is not None:
            pytest.skip(f"strace cannot attach here: {process.stderr.read()[:200]}")
        try:
            return proc_status(pid)["TracerPid"] != "0"
        except OSError:
            return True
    wait_for(attached, 5, "strace attached", interval=0.002)
    return process


def _detach(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(5)
    process.stderr.close()


def record(pid: int, during) -> list:
    """Names of the system calls that the process makes during during(), in order."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "calls"
        process = _attach(pid, "-o", out)
        try:
            during()
        finally:
            _detach(process)
        return re.findall(r"^(\w+)\(", out.read_text(), re.M)


def state(pid: int) -> str:
    return proc_status(pid)["State"][0]


def reached(pid: int, action: str) -> bool:
    """Whether the trap has gone off. A stopped process that is traced shows as t, a dead one as Z or not at all."""
    return not alive(pid) if action == "KILL" else state(pid) in "tT"


@contextlib.contextmanager
def at(pid: int, call: str, number: int, action: str):
    """KILL or STOP the process at that one of its calls of this name, counted from now."""
    injection = f"inject={call}:signal={action}:when={number}"
    process = _attach(pid, "-o", "/dev/null", "-e", f"trace={call}", "-e", injection)
    try:
        yield lambda: reached(pid, action)
    finally:
        _detach(process)
