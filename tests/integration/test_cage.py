# SPDX-License-Identifier: Apache-2.0
"""The cages of running processes, as the kernel shows them, and that a role without its cage does not start.

No Apache is needed here: handoffd is started with its demo backend, and single roles as systemd would start them.
"""
import base64
import ctypes
import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from env import children, open_fds, proc_status, wait_for

UIDS = {"gate": 60111, "dialer": 60113, "streamer": 60112}

pytestmark = [
    pytest.mark.skipif("HANDOFF_SANITIZE" in os.environ, reason="a sanitizer build leaves the cages out"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the roles become users of their own")

CONFIG = """
runtime-dir = "{dir}/run"
key-file = "{dir}/keys"
{users}
listen "{dir}/chat.sock" {{
    backend = "demo"
    allow-peer = {{ "{peer}" }}
    group = "{group}"
}}
backend "demo" {{ type = "demo" }}
"""


def write_setup(directory, owner, users=""):
    """A configuration and a key ring that `owner` may read; returns the configuration's path."""
    key = base64.b64encode(os.urandom(32)).decode()
    (directory / "keys").write_text(f"test sign {key} *\n", encoding="ascii")
    os.chmod(directory / "keys", 0o400)
    os.chown(directory / "keys", owner, owner)
    (directory / "run").mkdir(mode=0o755)
    config = directory / "handoffd.conf"
    config.write_text(CONFIG.format(dir=directory, users=users, group=owner, peer=os.geteuid() or 65533), encoding="ascii")
    os.chmod(config, 0o644)
    return config


@pytest.fixture(name="scratch")
def fixture_scratch(env):
    return env.folder("cage")


def role_of(pid):
    return Path(os.readlink(f"/proc/{pid}/exe")).name.removeprefix("handoffd-")


# ---------------------------------------------------------------- the family


class Family:
    """A running handoffd with the pids of its roles by name."""

    def __init__(self, programs, config, log, **popen):
        with open(log, "wb") as stream:
            self.process = subprocess.Popen([str(programs / "handoffd"), "-c", str(config), "-x", str(programs)],
                                            stderr=stream, **popen)
        self.log = log
        wait_for(lambda: self.process.poll() is not None or self.text().count("event=caged") == len(UIDS) + 1)
        assert self.process.poll() is None, self.text()
        self.pids = {role_of(pid): pid for pid in children(self.process.pid)}
        assert sorted(self.pids) == sorted(UIDS), self.text()

    def text(self):
        return self.log.read_text(encoding="ascii")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture(name="family", scope="module")
def fixture_family(env):
    if os.geteuid() != 0:
        pytest.skip("needs root: the roles become users of their own")
    directory = env.folder("cage")
    users = "\n".join(f'{role}-user = "{uid}"' for role, uid in UIDS.items())
    # A group and a descriptor that no role may keep.
    stray = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(stray, True)
    family = Family(env.bin, write_setup(directory, UIDS["gate"], users), directory / "log", close_fds=False,
                    env={"SECRET": "hunter2"}, extra_groups=[4, 27])
    os.close(stray)
    yield family
    family.stop()


@pytest.mark.parametrize("role", UIDS)
def test_filter_and_privileges(family, role):
    state = proc_status(family.pids[role])
    assert state["Seccomp"] == "2"
    assert state["Seccomp_filters"] == "2"  # the supervisor's, which all inherit, and its own
    assert state["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(state[name], 16) == 0, name
    assert state["Umask"] == "0077"


@pytest.mark.parametrize("role", UIDS)
def test_ids(family, role):
    state = proc_status(family.pids[role])
    assert state["Uid"].split() == [str(UIDS[role])] * 4
    gids = state["Gid"].split()
    assert len(set(gids)) == 1 and gids[0] != "0"
    assert state["Groups"].split() == []


def test_supervisor(family):
    """It keeps root's capabilities, and has a filter of what nobody below it needs."""
    state = proc_status(family.process.pid)
    assert state["Seccomp"] == "2" and state["Seccomp_filters"] == "1" and state["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{family.process.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert re.search(r"handoffd\[\d+\]: event=caged role=supervisor uid=0 ", family.text())


def test_uids_differ(family):
    uids = {proc_status(pid)["Uid"] for pid in family.pids.values()}
    assert len(uids) == len(UIDS)


@pytest.mark.parametrize("role", UIDS)
def test_not_dumpable(family, role):
    """The kernel gives the files of a process that is not dumpable to root."""
    owner = os.stat(f"/proc/{family.pids[role]}/mem").st_uid
    assert owner == 0
    limits = Path(f"/proc/{family.pids[role]}/limits").read_text(encoding="ascii")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert re.search(r"^Max processes +0 +0 ", limits, re.MULTILINE)


@pytest.mark.parametrize("role", UIDS)
def test_descriptors(family, role):
    # Its own page of counters; the gate has those of streamer and dialer, as soon as they have come.
    metrics = ["/memfd:handoffd-metrics (deleted)"] * (2 if role == "gate" else 1)
    deadline = time.monotonic() + 15
    while (links := open_fds(family.pids[role])) and time.monotonic() < deadline:
        if [link for link in links.values() if link.startswith("/memfd:")] == metrics:
            break
        time.sleep(0.05)
    assert links.pop(0) == "/dev/null"
    assert links.pop(1) == "/dev/null"
    assert links.pop(2) == str(family.log)
    strangers = [link for link in links.values()
                 if not re.fullmatch(r"socket:\[\d+\]|anon_inode:\[(eventpoll|eventfd|timerfd)\]", link)]
    assert strangers == metrics


@pytest.mark.parametrize("role", UIDS)
def test_environment_is_empty(family, role):
    environment = Path(f"/proc/{family.pids[role]}/environ").read_bytes()
    assert environment.strip(b"\0") == b""


@pytest.mark.parametrize("role", UIDS)
def test_no_memory_is_writable_and_executable(family, role):
    maps = Path(f"/proc/{family.pids[role]}/maps").read_text(encoding="utf-8")
    assert [line for line in maps.splitlines() if re.match(r"\S+ .wx", line)] == []


@pytest.mark.parametrize("role", UIDS)
def test_start_line_says_what_is_in_force(family, role):
    line = next(line for line in family.text().splitlines() if "event=caged" in line and f"role={role} " in line)
    assert f"uid={UIDS[role]} " in line
    assert int(re.search(r"instructions=(\d+)", line).group(1)) > 100
    assert re.search(r"landlock=\d+ ", line)
    assert "bounding-set" not in line


def test_every_role_is_one_thread(family):
    for pid in family.pids.values():
        assert proc_status(pid)["Threads"] == "1"


@needs_root
def test_started_by_another_user_than_root(env, scratch):
    """Without root: one uid for all, and everything else of the cage as before."""
    uid = 60119
    config = write_setup(scratch, uid)
    os.chown(scratch, uid, uid)
    os.chown(scratch / "run", uid, uid)
    family = Family(env.bin, config, scratch / "log", user=uid, group=uid, extra_groups=[])
    try:
        for pid in family.pids.values():
            state = proc_status(pid)
            assert state["Seccomp"] == "2" and state["NoNewPrivs"] == "1"
            assert state["Uid"].split() == [str(uid)] * 4
            assert all(int(state[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
            assert os.stat(f"/proc/{pid}/mem").st_uid == 0
            if int(state["CapBnd"], 16) != 0:
                assert "off=bounding-set" in family.text()
    finally:
        family.stop()


# ---------------------------------------------------------------- a layer that fails

PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_MDWE = 38, 4, 22, 24, 65
NUMBERS = {  # x86-64, aarch64
    "capset": (126, 91),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "seccomp": (317, 277),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
}
EPERM, EINVAL, ENOSYS = 1, 22, 38


def sabotage(call, result, first_arg=None):
    """In a process that is about to exec: from now on `call` does nothing and returns `result` (0, or an errno)."""
    number = NUMBERS[call][0 if platform.machine() == "x86_64" else 1]
    load = 0x20  # BPF_LD | BPF_W | BPF_ABS
    equal = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
    answer = 0x06  # BPF_RET | BPF_K
    program = [(load, 0, 0, 0), (equal, 0, 3 if first_arg is not None else 1, number)]
    if first_arg is not None:
        program += [(load, 0, 0, 16), (equal, 0, 1, first_arg)]
    program += [(answer, 0, 0, 0x00050000 | result), (answer, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, 2, fprog, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the sabotage failed")


def spawn_gate(programs, directory, config, prepare=None, environment=None, prefix=()):
    """The gate as systemd starts it: one listening socket at descriptor 3. Returns the process; its log is a pipe."""
    path = directory / "chat.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(1)
    high = socket.socket(fileno=os.dup(listener.fileno()))

    def child():
        os.dup2(high.fileno(), 3)
        if prepare is not None:
            prepare()
        command = [*prefix, str(programs / "handoffd-gate"), "-c", str(config)]
        os.execve(command[0], command,
                  {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **(environment or {})})

    process = subprocess.Popen(["/bin/false"], preexec_fn=child, stderr=subprocess.PIPE, close_fds=False)
    high.close()
    listener.close()
    return process


@pytest.fixture(name="start_gate")
def fixture_start_gate(env, scratch):
    """start_gate(config, prepare, environment): see spawn_gate(). None outlives its test."""
    started = []

    def start(*arguments, **options):
        started.append(spawn_gate(env.bin, scratch, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def log_until_end_or_ready(process):
    lines = []
    for line in process.stderr:
        lines.append(line.decode("ascii"))
        if "event=ready" in lines[-1]:
            break
    return "".join(lines)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.stderr.close()
    return process.wait(timeout=10)


def root_setup(scratch):
    users = "\n".join(f'{role}-user = "{uid}"' for role, uid in UIDS.items())
    return write_setup(scratch, UIDS["gate"], users)


@needs_root
def test_gate_alone_starts(start_gate, scratch):
    """The counterpart of what follows: without sabotage the same start works."""
    process = start_gate(root_setup(scratch))
    log = log_until_end_or_ready(process)
    assert "event=ready" in log
    assert proc_status(process.pid)["CapBnd"].strip("0") == ""
    assert end(process) == 0


@needs_root
@pytest.mark.parametrize("call, result, first_arg, expected", [
    # refused by the kernel
    ("landlock_create_ruleset", ENOSYS, None, "landlock-fs needs Landlock ABI 1, the kernel has 0"),
    ("landlock_restrict_self", EPERM, None, "landlock_restrict_self: Operation not permitted"),
    ("seccomp", EPERM, 1, "seccomp: Operation not permitted"),
    ("prlimit64", EPERM, None, "rlimits: Operation not permitted"),
    ("prctl", EPERM, PR_SET_NO_NEW_PRIVS, "no_new_privs: Operation not permitted"),
    ("prctl", EPERM, PR_SET_DUMPABLE, "dumpable: "),
    ("prctl", EPERM, PR_SET_MDWE, "mdwe: Operation not permitted"),
    ("setgroups", EPERM, None, "capng_change_id"),
    ("setresuid", EPERM, None, "capng_change_id"),
    ("capset", EPERM, None, "capng_change_id"),
    # said to be done, and not done
    ("setresuid", 0, None, "uids are 0/0/0 instead of"),
    ("setgroups", 0, None, "supplementary groups are left"),
    ("prctl", 0, PR_CAPBSET_DROP, "the bounding set is not empty"),
    ("prctl", 0, PR_SET_NO_NEW_PRIVS, "no_new_privs is not set"),
    ("prctl", 0, PR_SET_MDWE, "mdwe: "),
    ("landlock_restrict_self", 0, None, "landlock-fs is said to be in force, and is not"),
])
def test_does_not_start_without_a_layer(start_gate, scratch, call, result, first_arg, expected):
    def prepare():
        os.setgroups([4])
        sabotage(call, result, first_arg)

    process = start_gate(root_setup(scratch), prepare)
    log = log_until_end_or_ready(process)
    assert end(process) == 1, log
    fatal = [line for line in log.splitlines() if "event=fatal" in line]
    assert len(fatal) == 1 and expected in fatal[0], log
    assert "event=ready" not in log


@needs_root
def test_starts_without_what_is_where_available(start_gate, scratch):
    process = start_gate(root_setup(scratch), lambda: sabotage("prctl", EINVAL, PR_SET_MDWE))
    log = log_until_end_or_ready(process)
    assert "event=ready" in log, log
    assert re.search(r"event=caged .*off=\S*mdwe", log), log
    assert end(process) == 0


@needs_root
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to play an older kernel")
def test_starts_on_an_older_kernel(start_gate, scratch):
    """Landlock ABI 2 and no MDWE, as Linux 6.1 has it: the start line names each layer that is off."""
    strace = [shutil.which("strace"), "-D", "-qq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset",
              "-e", "inject=landlock_create_ruleset:retval=2:when=1", "--"]
    process = start_gate(root_setup(scratch), lambda: sabotage("prctl", EINVAL, PR_SET_MDWE), prefix=strace)
    log = log_until_end_or_ready(process)
    assert "event=ready" in log, log
    line = re.search(r"event=caged .*", log).group()
    assert "landlock=2 " in line
    off = re.search(r"off=\S*", line).group()
    assert off.removeprefix("off=").strip('"').split(",") == [
        "mdwe", "landlock-fs-truncate", "landlock-net-bind", "landlock-net-connect", "landlock-fs-ioctl-dev",
        "landlock-scope-abstract-unix", "landlock-scope-signal"]
    assert end(process) == 0


@needs_root
def test_does_not_start_as_root_without_a_user(start_gate, scratch):
    process = start_gate(write_setup(scratch, 0))
    log = log_until_end_or_ready(process)
    assert end(process) == 1
    assert "the configuration names no user to become" in log


@needs_root
def test_does_not_start_as_another_user_than_configured(start_gate, scratch):
    config = root_setup(scratch)
    os.chown(scratch / "keys", UIDS["gate"], 60119)
    os.chmod(scratch / "keys", 0o440)

    def prepare():
        os.setgroups([])
        os.setgid(60119)
        os.setuid(60119)

    process = start_gate(config, prepare)
    log = log_until_end_or_ready(process)
    assert end(process) == 1
    assert "the configuration says" in log, log


@needs_root
@pytest.mark.parametrize("family, kind, listening", [
    (socket.AF_UNIX, socket.SOCK_STREAM, True),
    (socket.AF_UNIX, socket.SOCK_SEQPACKET, False),
    (socket.AF_INET, socket.SOCK_STREAM, True),
])
def test_does_not_start_with_another_kind_of_socket(start_gate, scratch, family, kind, listening):
    other = socket.socket(family, kind)
    if listening:
        other.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(scratch / "other.sock"))
        other.listen(1)
    process = start_gate(root_setup(scratch), lambda: os.dup2(other.fileno(), 3))
    other.close()
    log = log_until_end_or_ready(process)
    assert end(process) == 1
    # One of the right kind that nobody bound is at no configured path.
    right = "inherited descriptor 3 is not an AF_UNIX SOCK_SEQPACKET socket" if listening else "no inherited socket is bound"
    assert right in log


@needs_root
def test_descriptors_meant_for_another_process(start_gate, scratch):
    """LISTEN_PID names somebody else: the socket is not ours, and without it the gate has nothing to listen on."""
    process = start_gate(root_setup(scratch), environment={"LISTEN_PID": "1"})
    log = log_until_end_or_ready(process)
    assert end(process) == 1
    assert "no inherited socket is bound to" in log


@needs_root
def test_a_call_outside_the_policy_ends_the_process(start_gate, scratch):
    """From outside: a debugger makes the caged gate call getppid(), which no policy grants."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    process = start_gate(root_setup(scratch))
    assert "event=ready" in log_until_end_or_ready(process)
    # strace replaces the number before the filter sees it.
    tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "trace=epoll_wait,epoll_pwait", "-e",
                               "inject=epoll_wait,epoll_pwait:retval=0:syscall=getppid", "-p", str(process.pid)],
                              stderr=subprocess.DEVNULL)
    try:
        # The gate looks for streamer and dialer again and again, so it makes calls without being asked.
        assert process.wait(timeout=20) == -signal.SIGSYS
    finally:
        tracer.kill()
        tracer.wait()
        process.stderr.close()
