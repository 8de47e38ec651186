# SPDX-License-Identifier: Apache-2.0
"""The launchers as processes of the family: one for each handler section, as its user, known to the gate."""
import os
import subprocess

import pytest

from env import AS_ROOT, UID_GATE, UID_HANDLER, UID_STREAMER, Handoffd, proc_status

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
