# SPDX-License-Identifier: Apache-2.0
"""The launcher, spoken to as streamers do: places, runs and their ends, limits, misuse, and that nothing is left behind."""
import errno
import fcntl
import os
import random
import re
import select
import signal
import struct
import time

import pytest

from base import ROOT, alive, wait_for
from handoff1 import memfd
from launcher import LIMITS, TYPES, Launcher, Run

pytestmark = [
    pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the launcher becomes a user of its own"),
]

LONG = os.environ.get("HANDOFF_LONG") == "1"
MISUSED = r"event=channel-closed .*detail=misused"


@pytest.fixture
def launch(env, factory):
    """launch(...): a launcher, see Launcher."""
    return lambda *arguments, **options: factory(Launcher, *arguments, **options)


@pytest.fixture(scope="module")
def shared(env):
    """One for all tests that end what they begin."""
    with Launcher(env, kill_grace=1) as launcher:
        yield launcher


@pytest.fixture
def streamer(shared):
    one = shared.introduce()
    yield one
    one.close()


# ---------------------------------------------------------------- places

def test_places_and_queue(launch):
    launcher = launch(concurrency=2, queue=1)
    streamer = launcher.introduce()
    first, second = streamer.place(), streamer.place()
    third = streamer.ask()
    streamer.nothing_comes()
    assert streamer.placed(streamer.ask()) == errno.EBUSY
    assert launcher.counters()["handoffd_runs_waiting"] == 1
    streamer.leave(second)
    assert streamer.placed(third) == 0
    counters = launcher.counters()
    assert counters["handoffd_runs_waiting"] == 0 and counters["handoffd_runs_refused_total"] == 1
    for _ in range(2):  # leaving twice does nothing
        streamer.leave(first)
        streamer.leave(third)
    streamer.leave(4711)
    streamer.place()
    streamer.place()
    assert launcher.counters()["handoffd_message_malformed_total"] == 0


def test_queue_is_in_order_over_all_channels(launch):
    launcher = launch(concurrency=1, queue=6)
    one, other = launcher.introduce(0), launcher.introduce(1)
    held = one.place()
    asked = []
    for number in range(6):
        who = other if number % 2 else one
        asked.append((who, who.ask()))
        time.sleep(0.02)  # two channels have no order of their own
    gone = asked.pop(2)
    gone[0].leave(gone[1])
    time.sleep(0.05)
    one.leave(held)
    for number, (who, waiting) in enumerate(asked):
        assert who.placed(waiting) == 0
        for later, other_id in asked[number + 1:]:
            later.nothing_comes(0.02)
        who.leave(waiting)
    gone[0].nothing_comes()


def test_a_place_is_free_when_its_run_has_ended(launch):
    launcher = launch(concurrency=1, queue=1)
    streamer = launcher.introduce()
    run = streamer.run("read x <&3; echo $x; sleep 0.3")
    waiting = streamer.ask()
    assert run.output().startswith("read x")
    assert streamer.placed(waiting) == 0
    assert run.exited().status == 0


def test_places_of_a_closed_channel_go_to_others(launch):
    launcher = launch(concurrency=3, queue=4, kill_grace=20)
    one, other = launcher.introduce(0), launcher.introduce(1)
    one.place()
    one.run("sleep 100")
    one.run("trap '' TERM; sleep 100")
    one.ask()
    waiting = [other.ask() for _ in range(3)]
    time.sleep(0.1)
    began = time.monotonic()
    one.close()
    assert [other.placed(number) for number in waiting] == [0, 0, 0]
    assert time.monotonic() - began < 10, "a run of a closed channel has a grace"
    assert not launcher.programs()


def test_a_streamer_that_does_not_read(launch):
    """What it asked for waits for it, nothing is lost, others are served."""
    launcher = launch(concurrency=1, queue=0)
    deaf, other = launcher.introduce(0), launcher.introduce(1)
    held, asked = other.place(), 0
    while select.select([], [deaf.channel], [], 0.5)[1]:  # until it cannot send without having read
        assert asked < 100000, "the launcher goes on reading"
        deaf.ask(asked)
        asked += 1
    other.launch(held, "echo here; exec sleep 100")
    run = other.launched(held)
    assert run.line() == "here"
    answers = deaf.kept + [deaf.receive() for _ in range(asked - len(deaf.kept))]
    assert [struct.unpack("<Ii", body) for _, body, _ in answers] == [(number, -errno.EBUSY) for number in range(asked)]
    run.stop()
    run.exited()
    deaf.next_id = asked
    deaf.place()


# ---------------------------------------------------------------- what a program gets

def test_data_inline(streamer):
    run = streamer.run("echo \"$HANDOFF_DATA_FD\"; cat <&3; echo; cat; readlink /proc/self/fd/0",
                       facts={"ID": "7"})
    output = run.output().splitlines()
    assert output[0] == "3" and output[1].startswith("echo") and output[2] in ("/dev/null", "/null"), run.errors()
    assert run.exited().status == 0


def test_data_empty(launch):
    launcher = launch(command=["/bin/sh", "-c", 'printenv HANDOFF_DATA || echo unset; wc -c <&3'])
    streamer = launcher.introduce()
    assert streamer.run("").output() == "\n0\n"


@pytest.mark.parametrize("size, in_environment", [(1000, True), (131058, True), (131059, False), (1 << 20, False)])
def test_data_in_a_memfd(launch, size, in_environment):
    launcher = launch(command=["/usr/bin/python3", "-c", """
import os
data = os.environb.get(b"HANDOFF_DATA")
print(None if data is None else len(data), os.fstat(3).st_size, os.read(3, 5), os.environb.get(b"HANDOFF_ID"))
try:
    os.pwrite(3, b"x", 0)
except OSError as error:
    print(error.strerror)
"""])
    streamer = launcher.introduce()
    fd = memfd(b"begin" + b"x" * (size - 5))
    os.lseek(fd, 3, os.SEEK_SET)
    run = streamer.run(b"", memfd=fd, facts={"ID": "1"})
    os.close(fd)
    assert run.output().splitlines() == [f"{size if in_environment else None} {size} b'begin' b'1'",
                                         "Operation not permitted"], run.errors()


def test_data_with_nul_is_not_in_the_environment(launch):
    launcher = launch(command=["/bin/sh", "-c", 'printenv HANDOFF_DATA || echo unset; wc -c <&3'])
    streamer = launcher.introduce()
    assert streamer.run(b"a\0b").output() == "unset\n3\n"


def test_environment(launch):
    launcher = launch(command=["/usr/bin/env", "-0"], environment=["LANG=C.UTF-8", "A=b c"])
    streamer = launcher.introduce()
    facts = {"ID": "17", "METHOD": "POST", "TARGET": "/x?y=$(z)", "PROTOCOL": "HTTP/1.1", "CLIENT": "192.0.2.1",
             "SERVER_NAME": "ä.example", "REQUEST_ID": "abc", "SUBJECT": "user one", "LISTENER": "/run/x.sock",
             "STATUS": "200"}
    output = streamer.run("the data", facts=facts).output_bytes().decode().split("\0")[:-1]
    assert sorted(output) == sorted(["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "A=b c", "HANDOFF_DATA_FD=3",
                                     "HANDOFF_DATA=the data",
                                     *(f"HANDOFF_{name}={value}" for name, value in facts.items())])


def test_facts_with_control_bytes_are_left_out(launch):
    launcher = launch(command=["/usr/bin/env", "-0"])
    streamer = launcher.introduce()
    output = streamer.run("", facts={"ID": "1", "SUBJECT": "a\nb", "TARGET": "/\x7f"}).output()
    assert "HANDOFF_ID=1\0" in output and "SUBJECT" not in output and "TARGET" not in output


def test_streams_and_descriptors(streamer):
    """Output and errors apart, in the streamer's hands; no other descriptor."""
    run = streamer.run("echo out; echo err >&2; cd /proc/self/fd && echo *")
    out, descriptors = run.output().splitlines()
    # The shell lists the folder by one of its own.
    assert out == "out" and set(descriptors.split()) - {"0", "1", "2", "3"} <= {"4", "5"}
    assert run.errors() == "err\n"
    assert run.exited().status == 0


def test_a_session_of_its_own(streamer):
    run = streamer.run("exec python3 -c 'import os; print(os.getsid(0) == os.getpgrp() == os.getpid())'")
    assert run.output() == "True\n", run.errors()


# ---------------------------------------------------------------- how a run ends

@pytest.mark.parametrize("script, status, number", [
    ("exit 0", 0, None),
    ("exit 3", 3, None),
    ("kill -SEGV $$", None, signal.SIGSEGV),
    ("kill -KILL $$", None, signal.SIGKILL),
    ("kill -TERM $$", None, signal.SIGTERM),
])
def test_status(streamer, script, status, number):
    run = streamer.run(script)
    exited = run.exited()
    assert (exited.status, exited.signal, exited.limit) == (status, number, "none")


def test_usage_of_resources(streamer):
    exited = streamer.run("exec python3 -c 'x = bytearray(60000000); sum(range(6000000))'").exited()
    assert exited.status == 0 and exited.user_us > 20000 and 60000 < exited.max_rss_kib < 200000


def test_wall_time(launch):
    launcher = launch(wall_time=1)
    run = launcher.introduce().run("sleep 100")
    exited = run.exited()
    assert exited.limit == "wall-time" and exited.signal == signal.SIGTERM and 0.8 < run.lasted() < 5
    assert launcher.counters()["handoffd_runs_ended_total/wall-time"] == 1


def test_cpu_time(launch):
    launcher = launch(cpu_time=1)
    exited = launcher.introduce().run("while :; do :; done").exited()
    assert exited.limit == "cpu-time", exited
    assert launcher.counters()["handoffd_runs_ended_total/cpu-time"] == 1


def test_stop_asks_first(streamer):
    run = streamer.run("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    assert run.line() == "ready"
    run.stop()
    assert run.output() == "bye\n"
    exited = run.exited()
    assert exited.status == 7 and exited.limit == "stopped"


def test_stop_for_its_output(streamer):
    """The streamer says why."""
    run = streamer.run("sleep 100")
    run.stop(LIMITS.index("output"))
    assert run.exited().limit == "output"


@pytest.mark.parametrize("script", [
    "trap '' TERM; echo ready; while :; do sleep 1; done",
    "echo ready; kill -STOP $$; sleep 100",
    "trap '' TERM; (setsid sh -c 'echo ready; while :; do sleep 1; done' &); while :; do sleep 1; done",
    "exec python3 -c 'import os, signal, time\nfor n in range(1, 65):\n try: signal.signal(n, signal.SIG_IGN)\n"
    " except (OSError, ValueError): pass\nprint(\"ready\", flush=True)\nwhile True: time.sleep(1)'",
])
def test_stop_insists(shared, streamer, script):
    run = streamer.run(script)
    assert run.line() == "ready"
    before = time.monotonic()
    run.stop()
    run.stop()
    exited = run.exited()
    assert 0.9 < time.monotonic() - before < 6, "kill-grace is a second"
    assert exited.signal == signal.SIGKILL and exited.limit == "stopped"
    assert not shared.programs()


def test_a_program_that_leaves_others_behind(shared, streamer):
    """The end of the program is the end of all that it has started, and is not told before."""
    run = streamer.run("for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; (sleep 100; :) & sleep 100' & done; exit 5")
    exited = run.exited()
    assert exited.status == 5 and exited.limit == "none"
    assert not shared.programs()
    assert run.output(2) == ""


def test_a_stop_that_comes_too_late(streamer):
    run = streamer.run("exit 0")
    run.exited()
    run.stop()
    assert streamer.run("exit 4").exited().status == 4


def test_a_stop_that_comes_before_the_start(shared, streamer):
    """Either the program was not executed yet, or it is over."""
    for _ in range(20):
        number = streamer.place()
        streamer.launch(number, "sleep 100")
        streamer.send("STOP", struct.pack("<II", number, 0))
        run = streamer.launched(number)
        assert run == errno.ECANCELED or run.exited().limit == "stopped"
    streamer.nothing_comes()
    assert not shared.programs()


def test_a_closed_channel_kills(launch):
    launcher = launch(kill_grace=20)
    streamer = launcher.introduce()
    runs = [streamer.run(f"trap '' TERM; echo ready; sleep 100; echo {number}") for number in range(3)]
    for run in runs:
        run.line()
    streamer.launch(streamer.place(), "sleep 100")  # nobody waits for this one to start
    streamer.channel.close()
    wait_for(lambda: not launcher.programs(), 10, "its runs are gone at once")
    assert [run.output() for run in runs] == ["", "", ""]
    assert wait_for(lambda: launcher.counters()["handoffd_runs_running"] == 0, 5)


def test_closed_pipes_do_not_end_a_run_that_does_not_write(streamer):
    run = streamer.run("echo ready; sleep 0.3; exit 6")
    run.line()
    run.close()
    assert run.exited().status == 6
    run = streamer.run("echo ready; sleep 0.3; echo x; exit 6")
    run.line()
    run.close()
    assert run.exited().signal == signal.SIGPIPE


def test_a_program_that_cannot_be_executed(env, launch):
    folder = env.folder("program", 0o755)
    program = folder / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    launcher = launch(command=[str(program)], read_paths=[str(folder)], execute_paths=[str(folder)], concurrency=1)
    streamer = launcher.introduce()
    assert streamer.run("").exited().status == 0
    program.chmod(0o644)
    for _ in range(3):  # its place is free each time
        number = streamer.place()
        streamer.launch(number, "")
        assert streamer.launched(number) == errno.EACCES
    streamer.nothing_comes()
    program.chmod(0o755)
    assert streamer.run("").exited().status == 0
    assert launcher.log.find("event=handler-not-started .*handler=h ")
    assert launcher.counters()["handoffd_runs_not_started_total"] == 3


def test_namespaces_are_on(shared, streamer):
    """All tests here mean the whole cage; what a section leaves to the system must not have been left out unseen."""
    off = re.search(r"event=cage-prepared .*off=(\S*)", shared.log.find("event=cage-prepared ")[0]).group(1)
    assert "namespaces" not in off and "proc" not in off
    run = streamer.run("echo $$ $(id -u)")
    assert run.line() == f"2 {shared.uid}"
    run.exited()


def test_a_policy_of_its_own(env, launch):
    """What the section's file takes away is taken from its program; a file that is no handler's policy starts nothing."""
    folder = env.folder("policies")
    text = (ROOT / "policy" / "handler.policy").read_text()
    assert "\nallow uname\n" in text
    stricter = folder / "stricter.policy"
    stricter.write_text(text.replace("\nallow uname\n", "\nerrno EPERM uname\n"))
    code = "python3 -c 'import os; print(os.uname().sysname)' 2>&1 | tail -n 1"
    assert launch().introduce().run(code).output() == "Linux\n"
    launcher = launch(policy=str(stricter))
    assert launcher.introduce().run(code).output() == "PermissionError: [Errno 1] Operation not permitted\n"
    assert launcher.log.find(f'event=policy-replaced file="?{stricter}')
    other = folder / "other.policy"
    other.write_text((ROOT / "policy" / "dialer.policy").read_text())
    writable = folder / "writable.policy"
    writable.write_text(text)
    writable.chmod(0o666)
    for file, wrong in ((other, "is not the policy of role handler"), (folder / "none.policy", "No such file"),
                        (writable, "others than its owner may write to it")):
        launcher.configure(policy=str(file))
        launcher.restart(wait=False)
        launcher.expect("event=fatal")
        assert launcher.process.popen.wait(10) == 1
        launcher.log.wait(f"event=fatal .*{file}.*{wrong}", 5)


def test_more_places_than_descriptors(launch):
    """Fail at the start, not in the middle."""
    launcher = launch()
    launcher.configure(concurrency=10000)
    launcher.restart(wait=False, limits=["--nofile=4096:4096"])
    launcher.expect("event=fatal")
    assert launcher.process.popen.wait(10) == 1
    launcher.log.wait("event=fatal .*concurrency = 10000 needs 50.* open files, the limit is 4096", 5)


def test_an_executable_memfd_is_no_data(shared, streamer):
    try:
        noexec = os.memfd_create("x", os.MFD_CLOEXEC | 0x8)
    except OSError:
        pytest.skip("this kernel's memfds are all executable")
    os.close(noexec)
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o777)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0xf)
    number = streamer.place()
    streamer.launch(number, b"", memfd=fd)
    os.close(fd)
    assert streamer.launched(number) == errno.EACCES


def test_the_launcher_is_killed(launch):
    launcher = launch()
    streamer = launcher.introduce()
    for script in ("sleep 100", "trap '' TERM; echo ready; sleep 100", "setsid sleep 100 & kill -STOP $$"):
        streamer.run(script)
    below = wait_for(lambda: len(found := launcher.programs()) >= 6 and found, 5)
    os.kill(launcher.pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in below), 5, "their end")
    assert streamer.is_closed()


# ---------------------------------------------------------------- misuse

def _launch_without_place(streamer):
    streamer.launch(4711, "exit 0")


def _launch_while_waiting(streamer):
    held = [streamer.place() for _ in range(2)]
    waiting = streamer.ask()
    assert held
    streamer.launch(waiting, "exit 0")


def _launch_after_leaving(streamer):
    number = streamer.place()
    streamer.leave(number)
    streamer.launch(number, "exit 0")


def _launch_twice(streamer):
    run = streamer.run("sleep 100")
    streamer.launch(run.id, "sleep 100")


def _place_twice(streamer):
    streamer.ask(streamer.place())


def _place_while_it_runs(streamer):
    streamer.ask(streamer.run("sleep 100").id)


def _leave_what_runs(streamer):
    streamer.leave(streamer.run("sleep 100").id)


def _stop_what_does_not_run(streamer):
    streamer.send("STOP", struct.pack("<II", streamer.place(), 0))


def _stop_for_another_limit(streamer):
    streamer.run("sleep 100").stop(3)


def _unknown_flags(streamer):
    streamer.launch(streamer.place(), "exit 0", flags=1)


def _more_facts_than_bytes(streamer):
    streamer.launch(streamer.place(), "exit 0", facts={"ID": "1"}, facts_len=1000)


def _facts_without_end(streamer):
    streamer.launch(streamer.place(), "", raw_facts=b"HANDOFF_ID=1", n_facts=1)


def _facts_of_its_own(streamer):
    streamer.launch(streamer.place(), "exit 0", raw_facts=b"LD_PRELOAD=/tmp/x.so\0", n_facts=1)


def _facts_of_ours(streamer):
    streamer.launch(streamer.place(), "exit 0", facts={"DATA_FD": "0"})


def _a_fact_twice(streamer):
    streamer.launch(streamer.place(), "exit 0", raw_facts=b"HANDOFF_ID=1\0HANDOFF_ID=2\0", n_facts=2)


def _more_facts_than_there_are(streamer):
    streamer.launch(streamer.place(), "exit 0", facts={"ID": "1"}, n_facts=0xffffffff)


def _with_fd(streamer, fd, data=b""):
    streamer.launch(streamer.place(), data, memfd=fd)
    os.close(fd)


def _unsealed(streamer):
    _with_fd(streamer, memfd(b"exit 0", sealed=False))


def _no_memfd(streamer):
    _with_fd(streamer, os.open("/dev/zero", os.O_RDONLY))


def _data_twice(streamer):
    _with_fd(streamer, memfd(b"exit 0"), b"exit 0")


def _descriptors_where_none_belong(streamer):
    fd = os.open("/dev/null", os.O_RDONLY)
    streamer.send("PLACE", struct.pack("<II", 99, 0), fds=[fd])
    os.close(fd)


def _another_length(streamer):
    streamer.send("PLACE", struct.pack("<II", 99, 0), length=17)


def _too_short(streamer):
    streamer.send("STOP", struct.pack("<I", 99))


def _what_the_launcher_says(streamer):
    streamer.send("PLACED", struct.pack("<Ii", 99, 0))


def _what_the_gate_says(streamer):
    streamer.send("LAUNCHER_PING", struct.pack("<Q", 1))


def _no_message(streamer):
    streamer.channel.send(struct.pack("<II", len(TYPES), 8))


MISUSES = [value for name, value in list(globals().items())
           if name.startswith("_") and callable(value) and getattr(value, "__module__", "") == __name__
           and name not in ("_with_fd",)]


@pytest.fixture(scope="module")
def victim(env):
    with Launcher(env, concurrency=3, queue=2, kill_grace=20) as launcher:
        yield launcher


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda function: function.__name__.strip("_").replace("_", "-"))
def test_misuse_closes_the_channel(victim, misuse):
    """Only that one, with the runs on it, at once; it is counted and logged once."""
    before, since = victim.counters()["handoffd_message_malformed_total"], victim.log.position()
    good = victim.introduce(1)
    kept = good.run("echo ready; exec sleep 100")
    assert kept.line() == "ready"
    bad = victim.introduce(0)
    others = set(victim.programs())
    misuse(bad)
    assert bad.is_closed(10)
    wait_for(lambda: set(victim.programs()) == others, 10, "its runs are gone at once")
    assert len(victim.log.find(MISUSED, since)) == 1
    assert victim.counters()["handoffd_message_malformed_total"] == before + 1
    kept.stop()
    assert kept.exited().limit == "stopped"
    bad.close()
    good.close()
    # All places are free again.
    fresh = victim.introduce(0)
    for number in [fresh.place() for _ in range(3)]:
        fresh.leave(number)
    fresh.close()


def test_introductions(launch):
    launcher = launch()
    for backend, worker in ((0, 0), (1, 2), (2, 0), (0xffffffff, 0)):
        assert launcher.introduce(worker, backend).is_closed()
    assert len(launcher.log.find("event=introduction-failed")) == 4
    launcher.introduce(1).place()


# ---------------------------------------------------------------- the end of the launcher

def test_stopping_waits_for_runs(launch):
    launcher = launch(concurrency=2, queue=2)
    streamer = launcher.introduce()
    run = streamer.run("echo ready; sleep 1; echo done")
    given, waiting = streamer.place(), streamer.ask()
    assert run.line() == "ready"
    launcher.terminate()
    assert streamer.placed(waiting) == errno.ESHUTDOWN
    assert streamer.placed(streamer.ask()) == errno.ESHUTDOWN
    # A client that was accepted already gets its answer.
    streamer.launch(given, "echo late")
    late = streamer.launched(given)
    assert late.output() == "late\n" and late.exited().status == 0
    assert run.output() == "done\n" and run.exited().status == 0
    assert launcher.process.popen.wait(10) == 0
    assert streamer.is_closed()


def test_stopping_with_nothing_to_do(launch):
    launcher = launch()
    launcher.introduce()
    before = time.monotonic()
    launcher.terminate()
    assert launcher.process.popen.wait(10) == 0 and time.monotonic() - before < 5, "it waits for stop-grace"


@pytest.mark.parametrize("script, number", [("sleep 100", signal.SIGTERM),
                                            ("trap '' TERM; echo ready; sleep 100 & while :; do wait; done", signal.SIGKILL)])
def test_stop_grace(launch, script, number):
    launcher = launch(stop_grace=1, kill_grace=1)
    streamer = launcher.introduce()
    streamer.place()  # is never used
    run = streamer.run(script)
    time.sleep(0.3)
    before = time.monotonic()
    launcher.terminate()
    exited = run.exited()
    assert exited.signal == number and exited.limit == "stopped"
    assert launcher.process.popen.wait(10) == 0 and 0.8 < time.monotonic() - before < 9


# ---------------------------------------------------------------- many

SCRIPTS = [
    "exit 0",
    "echo hello; exit 3",
    "sleep 0.2",
    "sleep 100",
    "trap '' TERM; sleep 100",
    "kill -STOP $$; sleep 100",
    "(setsid sleep 100 &); exit 1",
    "(setsid sleep 100 &); sleep 100",
    "kill -KILL $$",
    "yes",
    "yes >&2",
    "i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i + 1)); done; wait",
    "head -c 100000000 /dev/zero > /tmp/full; sleep 100",
]


def _one_of_many(launcher, streamers, dice):
    """Begin a run, and leave it, stop it, kill what can be seen of it, close its pipes or close its channel."""
    which = dice.randrange(len(streamers))
    streamer = streamers[which]
    run = None
    number = streamer.place()
    how = dice.random()
    if how < 0.05:
        streamer.leave(number)
        return 0
    streamer.launch(number, dice.choice(SCRIPTS))
    if how > 0.1:
        run = streamer.launched(number)
        assert isinstance(run, Run), os.strerror(run)
    if how < 0.25:
        streamer.close()
        streamers[which] = launcher.introduce(which % 2)
        return 1
    time.sleep(dice.choice([0, 0, 0.001, 0.01]))
    if how < 0.6:
        victims = launcher.programs()
        if victims:
            try:
                os.kill(dice.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                pass
    if run.fds and how > 0.8:
        run.close()
    run.stop()
    run.exited()
    if run.fds:
        run.close()
    streamer.runs.remove(run)
    return 1


def test_nothing_is_left_behind(launch):
    launcher = launch(kill_grace=0, concurrency=8, memory=1 << 30)
    dice = random.Random(7)
    for streamer in (launcher.introduce(0), launcher.introduce(1)):
        streamer.run("exit 0").exited()
        streamer.close()
    launcher.streamers.clear()
    wait_for(lambda: len(launcher.log.find("event=channel-closed")) == 2, 5)
    wait_for(lambda: not launcher.processes(), 5)
    before = launcher.inventory()
    streamers = [launcher.introduce(number % 2) for number in range(4)]
    began = sum(_one_of_many(launcher, streamers, dice) for _ in range(10000 if LONG else 300))
    for streamer in streamers:
        streamer.close()
    wait_for(lambda: launcher.inventory() == before, 10,
             f"{before}, now {launcher.inventory()}")
    counters = launcher.counters()
    assert counters["handoffd_runs_running"] == counters["handoffd_runs_waiting"] == 0
    ended = sum(value for name, value in counters.items() if name.startswith("handoffd_runs_ended_total"))
    assert ended == counters["handoffd_runs_started_total"]
    assert counters["handoffd_runs_started_total"] + counters["handoffd_runs_not_started_total"] <= began + 2


def test_many_at_once(launch):
    """All run at one time, each with its own data and output."""
    count = 1000 if LONG else 100
    launcher = launch(concurrency=count, queue=count)
    streamers = [launcher.introduce(0), launcher.introduce(1)]
    for streamer in streamers:  # they are there
        streamer.leave(streamer.place())
    before = launcher.inventory()
    runs = []
    for number in range(count):
        runs.append(streamers[number % 2].run(f"echo begin {number}; read x < /tmp/none; sleep 1000 & wait",
                                              facts={"ID": str(number)}))
    for number, run in enumerate(runs):
        assert run.line(60) == f"begin {number}"
    assert launcher.counters()["handoffd_runs_running"] == count
    for run in runs:
        run.stop()
    for run in runs:
        assert run.exited(60).limit == "stopped"
    for streamer in streamers:
        for run in streamer.runs:
            run.close()
        streamer.runs.clear()
    wait_for(lambda: launcher.inventory() == before, 10, f"{before}, now {launcher.inventory()}")
