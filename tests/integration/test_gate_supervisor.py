# SPDX-License-Identifier: Apache-2.0
"""The supervisor: what it refuses to start with, what it makes, and how the roles are when it has started them."""
import os
import pathlib
import socket
import stat
import subprocess

import pytest

import env as harness

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the roles become users of their own")
UID_PLAIN = 64250

USERS = f'gate-user = "{harness.UID_GATE}"\ndialer-user = "{harness.UID_DIALER}"\n' \
        f'streamer-user = "{harness.UID_STREAMER}"\n' if harness.AS_ROOT else ""


@pytest.fixture(name="setup")
def fixture_setup(env):
    """A folder with a configuration: setup.run("-t") runs handoffd to its end and returns it."""
    class Setup:
        def __init__(self):
            self.root = env.folder("supervisor", 0o755)
            self.conf = self.root / "handoffd.conf"
            self.runtime = self.root / "run"
            self.socket = self.root / "chat.sock"
            self.write()

        def write(self, users=USERS, top="", backend="", peer="33", keys=None):
            keys = keys or harness.KeyRing(env).file(harness.UID_GATE)
            self.conf.write_text(
                f'runtime-dir = "{self.runtime}"\nkey-file = "{keys}"\n{users}{top}\n'
                f'listen "{self.socket}" {{\n backend = demo\n allow-peer = {{{peer}}}\n}}\n'
                f'backend "demo" {{\n type = demo\n{backend}}}\n')
            self.conf.chmod(0o644)

        def command(self, *arguments):
            return [str(env.bin / "handoffd"), "-c", str(self.conf), "-x", str(env.bin), *arguments]

        def run(self, *arguments, prefix=()):
            return subprocess.run([*prefix, *self.command(*arguments)], capture_output=True, text=True, timeout=20,
                                  env=env.sanitizer_environment())
    return Setup()


def refuses(setup, text, **how):
    result = setup.run(**how)
    assert result.returncode == 1, result
    assert text in result.stderr, result.stderr
    assert "event=ready processes=" not in result.stderr
    assert not setup.socket.is_socket()


def test_check_of_a_right_configuration(setup):
    result = setup.run("-t")
    assert (result.returncode, result.stdout, result.stderr) == (0, "configuration ok\n", "")
    assert not setup.runtime.exists()


def test_faulty_configuration(setup):
    setup.write(top="typo = 1\n")
    line = setup.conf.read_text().splitlines().index("typo = 1") + 1
    result = setup.run()
    assert result.returncode == 1
    assert result.stderr == f"{setup.conf}:{line}: no such option 'typo'\n"


@needs_root
@pytest.mark.parametrize("users, text", [
    ("", "the configuration names no user to become"),
    (USERS.replace(str(harness.UID_DIALER), str(harness.UID_GATE)), "gate and dialer must not share a user"),
    (USERS.replace(str(harness.UID_STREAMER), str(harness.UID_GATE)), "a streamer must not share a user"),
    (USERS.replace(str(harness.UID_STREAMER), "root"), "no role may run as root"),
    (USERS.replace(f'streamer-user = "{harness.UID_STREAMER}"', ""), "the configuration names no user to become"),
])
def test_users_as_root(setup, users, text):
    setup.write(users=users)
    refuses(setup, text)


@needs_root
def test_other_users_without_root(setup):
    setup.root.chmod(0o777)
    refuses(setup, "not started as root", prefix=("setpriv", f"--reuid={UID_PLAIN}", f"--regid={UID_PLAIN}",
                                                  "--clear-groups"))


def test_runtime_dir_is_a_symlink(setup):
    setup.runtime.symlink_to("/tmp")
    refuses(setup, "the runtime-dir is not a directory")


def test_runtime_dir_is_open_to_others(setup):
    setup.runtime.mkdir()
    setup.runtime.chmod(0o777)
    refuses(setup, "others own the runtime-dir or may write to it")


@needs_root
def test_runtime_dir_of_another(setup):
    setup.runtime.mkdir()
    os.chown(setup.runtime, UID_PLAIN, UID_PLAIN)
    refuses(setup, "others own the runtime-dir or may write to it")


def test_a_file_is_not_a_stale_socket(setup):
    setup.socket.write_text("precious")
    refuses(setup, "something else than a stale socket is in the way")
    assert setup.socket.read_text() == "precious"


def test_role_that_cannot_start(setup):
    """A role that ends before it was ever ready ends all: its own line says why."""
    setup.write(keys="/nonexistent/keys")
    refuses(setup, "/nonexistent/keys")
    assert not setup.runtime.exists()


def notified(setup, env, name="notify"):
    """Start with NOTIFY_SOCKET and wait for READY=1; returns the process."""
    path = setup.root / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(15)
        process = subprocess.Popen(setup.command(), stderr=subprocess.PIPE, text=True,
                                   env={**env.sanitizer_environment(), "NOTIFY_SOCKET": str(path), "SECRET": "x"})
        try:
            assert sock.recv(100) == b"READY=1"
        except BaseException:
            process.kill()
            raise
    return process


def roles_of(pid):
    return {pathlib.Path(os.readlink(f"/proc/{child}/exe")).name: child for child in harness.children(pid)}


@needs_root
def test_what_is_made(setup, env):
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(str(setup.socket))
    stale.close()
    process = notified(setup, env)
    try:
        status = setup.socket.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (harness.UID_GATE, 33, 0o660)
        status = setup.runtime.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o755)
        for name, uid in (("dialer.sock", harness.UID_DIALER), ("streamer-demo-0.sock", harness.UID_STREAMER)):
            status = (setup.runtime / name).stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, harness.UID_GATE, 0o660)
        users = {"handoffd-gate": harness.UID_GATE, "handoffd-dialer": harness.UID_DIALER,
                 "handoffd-streamer": harness.UID_STREAMER}
        roles = roles_of(process.pid)
        assert roles.keys() == users.keys()
        for name, pid in roles.items():
            status = harness.proc_status(pid)
            assert status["Uid"].split() == [str(users[name])] * 4
            assert status["Gid"].split() == [str(users[name])] * 4
            assert status["Groups"] == ""
            assert {status[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
            assert status["NoNewPrivs"] == "1"
            assert b"SECRET" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        # A second one does not take the sockets away.
        second = setup.run()
        assert second.returncode == 1 and "another handoffd uses this runtime-dir" in second.stderr
        assert setup.socket.is_socket()
    finally:
        process.terminate()
        assert process.wait(15) == 0
        process.stderr.close()
    assert not setup.socket.exists() and not setup.runtime.exists()


@needs_root
def test_without_root(setup, env):
    """All roles stay the user that has started them."""
    setup.root.chmod(0o777)
    setup.write(users="", peer=str(UID_PLAIN), keys=harness.KeyRing(env).file(UID_PLAIN))
    log = setup.root / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["setpriv", f"--reuid={UID_PLAIN}", f"--regid={UID_PLAIN}", "--clear-groups", *setup.command()],
            stderr=out, env=env.sanitizer_environment())
    try:
        harness.wait_for(lambda: "handoffd[" in log.read_text() and "event=ready processes=" in log.read_text(), 15,
                         "readiness")
        for pid in roles_of(process.pid).values():
            assert harness.proc_status(pid)["Uid"].split() == [str(UID_PLAIN)] * 4
    finally:
        process.terminate()
        assert process.wait(15) == 0, log.read_text()
