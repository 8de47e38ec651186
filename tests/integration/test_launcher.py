# SPDX-License-Identifier: Apache-2.0
"""The launchers as processes of the family: one for each handler section, as its user, known to the gate."""
import os
import pathlib
import re
import socket
import subprocess

import pytest

from env import AS_ROOT, UID_GATE, UID_HANDLER, UID_STREAMER, Handoffd, open_fds, proc_status
from test_cage import EPERM, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, sabotage

HANDLERS = {"figlet": {"command": ["/usr/bin/figlet"]}, "second": {"command": ["/bin/cat"]}}
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root: the roles become users of their own")


def connected(daemon, name, since=0):
    daemon.log.wait(rf"handoffd-gate\[\d+\]: .*event=peer-connected role=launcher handler={name}", 10, since)


def test_one_for_each_section(env):
    with Handoffd(env, handlers=HANDLERS) as daemon:
        pids = [daemon.pid("launcher", name) for name in HANDLERS]
        assert sorted(pids) == sorted(daemon.roles()["launcher"])
        for number, (pid, name) in enumerate(zip(pids, HANDLERS)):
            status = proc_status(pid)
            assert status["Uid"].split() == [str(UID_HANDLER + number if AS_ROOT else os.geteuid())] * 4
            assert {status[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
            assert status["NoNewPrivs"] == "1"
            connected(daemon, name)
            daemon.log.wait(rf"handoffd-launcher\[{pid}\]: .*event=caged role=launcher", 5)


def test_made_anew(env):
    with Handoffd(env, handlers=HANDLERS) as daemon:
        since = daemon.log.position()
        daemon.kill("launcher", "second")
        connected(daemon, "second", since)
        daemon.expect(r"event=crashed role=launcher handler=second", r"event=peer-lost role=launcher handler=second")
        since = daemon.log.position()
        daemon.kill("gate")
        connected(daemon, "figlet", since)
        connected(daemon, "second", since)
        daemon.expect(r"event=crashed role=gate")


@pytest.mark.parametrize("role", ["launcher", "gate", "streamer"])
def test_introduced_anew(env, role):
    """Whoever of the three is new: the streamer gets to know the launcher of its backend's handler, and of no other."""
    def introduced(since):
        daemon.log.wait(r"handoffd-streamer\[\d+\]: .*event=launcher-introduced", 10, since)
        daemon.log.wait(r"handoffd-launcher\[\d+\]: .*event=channel-open backend=program worker=0", 10, since)

    with Handoffd(env, backends={"program": {"type": "handler", "handler": "second"}}, handlers=HANDLERS) as daemon:
        introduced(0)
        since = daemon.log.position()
        daemon.kill(role, "second" if role == "launcher" else None)
        introduced(since)
        daemon.expect(rf"event=crashed role={role}", r"event=peer-lost")
        stranger = daemon.pid("launcher", "figlet")
        assert not daemon.log.find(rf"handoffd-launcher\[{stranger}\]: .*event=channel-open")


@needs_root
@pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out")
def test_cage(env):
    with Handoffd(env, handlers=HANDLERS) as daemon:
        pid = daemon.pid("launcher", "second")
        connected(daemon, "second")
        state = proc_status(pid)
        assert (state["Seccomp"], state["Seccomp_filters"]) == ("2", "2")  # the supervisor's, and its own
        assert {state[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (state["Groups"].split(), state["Threads"], state["Umask"]) == ([], "1", "0077")
        process = pathlib.Path(f"/proc/{pid}")
        assert (process / "mem").stat().st_uid == 0  # not dumpable
        assert re.search(r"^Max core file size +0 +0 ", (process / "limits").read_text(), re.M)
        assert (process / "environ").read_bytes().strip(b"\0") == b""
        assert not [line for line in (process / "maps").read_text().splitlines() if re.match(r"\S+ .wx", line)]
        strangers = [link for link in open_fds(pid).values()
                     if not re.match(r"socket:|anon_inode:\[(eventpoll|eventfd|timerfd|pidfd)\]|/dev/null|pidfd:"
                                     r"|/memfd:|/sys/fs/cgroup/", link)]
        assert strangers == [str(daemon.log.path)]


@needs_root
@pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out")
@pytest.mark.parametrize("call, result, first, text", [
    (None, 0, None, "event=ready"),
    ("seccomp", EPERM, 1, "seccomp: Operation not permitted"),
    ("prctl", EPERM, PR_SET_NO_NEW_PRIVS, "no_new_privs: Operation not permitted"),
    ("prctl", EPERM, PR_SET_DUMPABLE, "dumpable: "),
    ("prlimit64", EPERM, None, "rlimits: Operation not permitted"),
    ("setresuid", EPERM, None, "cannot drop privileges"),
])
def test_does_not_start_without_a_layer(env, call, result, first, text):
    """As systemd starts it, where a part of the kernel refuses; and where none does."""
    with Handoffd(env, handlers=HANDLERS) as daemon:
        daemon.stop()
        folder = env.folder("launcher")
        daemon.conf_file.write_text(re.sub(r'runtime-dir = ".*"', f'runtime-dir = "{folder}"', daemon.conf_file.read_text()))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(folder / "launcher-second.sock"))
            listener.listen(1)
            high = os.dup(listener.fileno())

            def child():
                os.dup2(high, 3)
                if call is not None:
                    sabotage(call, result, first)
                program = str(env.bin / "handoffd-launcher")
                os.execve(program, [program, "-c", str(daemon.conf_file), "-i", "second"],
                          {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})

            with subprocess.Popen(["/bin/false"], preexec_fn=child, stderr=subprocess.PIPE, close_fds=False,
                                  text=True) as process:
                os.close(high)
                log = ""
                for line in process.stderr:
                    log += line
                    if "event=ready" in line:
                        process.terminate()
                assert process.wait(10) == (0 if call is None else 1), log
                assert text in log and (call is None or "event=ready" not in log), log


@needs_root
def test_end_after_the_streamers(env):
    with Handoffd(env, handlers=HANDLERS) as daemon:
        daemon.stop()
        ends = [line.split("role=")[1].split()[0] for line in daemon.log.find(r"event=role-stopped")]
        assert sorted(ends) == ["dialer", "gate", "launcher", "launcher", "streamer"]
        assert ends.index("streamer") < ends.index("launcher")


@needs_root
@pytest.mark.parametrize("user, text", [
    (UID_STREAMER, "a handler must not share a user with a streamer"),
    (UID_GATE, "a handler must not share a user with gate or dialer"),
])
def test_a_user_of_its_own(env, user, text):
    with Handoffd(env, handlers={"figlet": {"command": ["/usr/bin/figlet"]}}) as daemon:
        daemon.stop()
        conf = daemon.conf_file.read_text().replace(f'"{UID_HANDLER}"', f'"{user}"')
        daemon.conf_file.write_text(conf)
        result = subprocess.run([env.bin / "handoffd", "-c", daemon.conf_file, "-x", env.bin], capture_output=True, text=True,
                                timeout=20, env=env.sanitizer_environment(), check=False)
        assert result.returncode == 1 and text in result.stderr, result


def test_no_such_handler(env):
    with Handoffd(env, handlers=HANDLERS) as daemon:
        for arguments, text in (([], "a launcher needs -H HANDLER"), (["-H", "third"], 'the configuration has no handler'),
                                (["-i", "third"], 'the configuration has no handler')):
            result = subprocess.run([env.bin / "handoffd-launcher", "-c", daemon.conf_file, *arguments], capture_output=True,
                                    text=True, timeout=20, env=env.sanitizer_environment(), check=False)
            assert result.returncode == 1 and text in result.stderr, result
