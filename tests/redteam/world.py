# SPDX-License-Identifier: Apache-2.0
"""The world in which attacks are tried: folders, decoys, and targets that make one attempt each.

The runner has host name, mounts and System V objects of its own (namespaces), so that what succeeds there disturbs
nobody; the targets share them with it. All that an attack may touch lies below World.base or is a process or a socket of the
runner's.
"""
import base64
import ctypes
import os
import pathlib
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_CHILD_SUBREAPER = 36

UIDS = {"gate": 64300, "dialer": 64301, "streamer": 64302, "launcher": 64303}
UID_OTHER = 64310   # a sibling: another role
UID_APACHE = 33
FD_RESULT, FD_HOLD, FD_OBJECT, FD_SECOND = 190, 191, 192, 193
DECOY_FD = 100
SYS = {"x86_64": {"pidfd_open": 434, "pidfd_getfd": 438}}.get(os.uname().machine, {"pidfd_open": 434, "pidfd_getfd": 438})

CONFIG = """
runtime-dir = "{run}"
key-file = "{base}/keys"
gate-user = "{gate}"
dialer-user = "{dialer}"
streamer-user = "{streamer}"
launcher-user = "{launcher}"
listen "{run}/chat.sock" {{
    backend = "demo"
    allow-peer = {{ "33" }}
}}
backend "demo" {{ type = "demo" }}
handler "true" {{ command = {{ "/bin/true" }} }}
handler "namespaces" {{
    command = {{ "{alone}", "run" }}
    namespaces = required
}}
handler "no-namespaces" {{
    command = {{ "{alone}", "run" }}
    namespaces = off
}}
"""


def check(result, what):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def status_of(pid):
    """/proc/PID/status as a dictionary; empty when it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def children_of(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:
        pass
    return found


def descendants_of(pid):
    found = children_of(pid)
    for child in list(found):
        found += descendants_of(child)
    return found


class Decoy:
    """A victim: alone decoy, of some user, with a secret in its memory, environment, arguments and a descriptor."""

    def __init__(self, world, uid, dumpable):
        self.uid, self.secret = uid, secrets.token_hex(16)
        def become():
            check(LIBC.unshare(CLONE_NEWUTS), "unshare")
            os.setpgid(0, 0)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        self.process = subprocess.Popen([world.alone, "decoy", self.secret, "1" if dumpable else "0"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, preexec_fn=become,
                                        env={"DECOY_SECRET": self.secret}, cwd="/")
        self.pid, self.address, _ = map(int, self.process.stdout.readline().split())
        self.before = self.look()

    def look(self):
        """What an attack could change, as the kernel and the decoy itself say it."""
        state = status_of(self.pid)
        if not state or state["State"][0] in "ZX":
            return {"alive": False}
        seen = {"alive": True, "stopped": state["State"][0] in "tT", "traced by": state["TracerPid"] != "0",
                "processors": state["Cpus_allowed"]}
        seen["priority"] = os.getpriority(os.PRIO_PROCESS, self.pid)
        seen["scheduler"] = os.sched_getscheduler(self.pid)
        seen["limits"] = pathlib.Path(f"/proc/{self.pid}/limits").read_text()
        seen["oom_score_adj"] = pathlib.Path(f"/proc/{self.pid}/oom_score_adj").read_text().strip()
        seen["memory"] = None if seen["stopped"] or seen["traced by"] else self.ask()
        return seen

    def ask(self):
        try:
            self.process.stdin.write(b"?\n")
            self.process.stdin.flush()
            ready = select.select([self.process.stdout], [], [], 1)[0]
            return self.process.stdout.readline().decode(errors="replace").strip() if ready else "no answer"
        except OSError:
            return "gone"

    def stop(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Trial:
    """One attempt in one target. harm() of the object looks while the target is held; then it ends."""

    def __init__(self, pid, result, hold, is_program=False):
        self.pid, self.result, self.hold = pid, result, hold
        self.started, self.is_program = pid, is_program
        self.steps, self.got, self.ended, self.status, self.hung = [], b"", False, None, False

    def read(self, timeout=6):
        """Until the attempt has ended, or its process."""
        text, deadline = b"", time.monotonic() + timeout
        while not self.ended:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.result], [], [], left)[0]:
                self.hung = True
                break
            data = os.read(self.result, 65536)
            if not data:
                break
            text += data
            self.ended = text.endswith(b"\nend\n") or text == b"end\n"
        for line in text.decode("ascii", "replace").splitlines():
            word, _, rest = line.partition(" ")
            if word == "try":
                self.steps.append([rest, None])
            elif word == "saw" and self.steps:
                self.steps[-1][1] = rest
            elif word == "got":
                self.got += bytes.fromhex(rest) if len(rest) % 2 == 0 else b""
        if not self.ended and not self.hung:
            self._reap(False)
        elif self.is_program:
            # The launcher's child is the run's init, and below it is the program.
            self.pid = next(pid for pid in descendants_of(self.started) if status_of(pid).get("Name") == "alone")

    def _reap(self, kill):
        if self.status is None:
            family = descendants_of(self.started)
            if kill:
                for pid in [self.started, *family]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
            _, status = os.waitpid(self.started, 0)
            self.status = os.waitstatus_to_exitcode(status)
            if self.is_program and self.status > 128:
                self.status = 128 - self.status

    def end(self):
        self._reap(True)
        os.close(self.result)
        os.close(self.hold)

    def observed(self):
        """How the attempt ended, in words; harm aside."""
        call, result = self.steps[-1] if self.steps else ("", None)
        if not self.steps:
            return f"never began, status {self.status}"
        if result is None and self.status is not None and self.status < 0:
            return f"{signal.Signals(-self.status).name} at {call}"
        if self.hung:
            return f"hangs in {call}"
        failed = [f"{name}: {value}" for name, value in self.steps if value not in ("0", None)]
        return failed[-1] if failed else "no error, and no effect"

    def reached(self):
        """Whether the last call was made by the kernel, whatever it answered."""
        return bool(self.steps) and self.steps[-1][1] not in (None, "EPERM", "EACCES", "ENOSYS")


class World:
    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="handoffd-redteam-", dir="/var/tmp"))
        self.base.chmod(0o711)
        self.alone = str(self.base / "alone")
        shutil.copy(self.build / "redteam/alone", self.alone)
        os.chmod(self.alone, 0o755)
        self.decoys, self.listeners, self.count = {}, {}, 0
        self.log = open(self.base / "log", "ab")
        self._separate()
        self._setup_roles()

    def _separate(self):
        check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC), "unshare")
        check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")
        check(LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
        check(LIBC.syscall(250, 1, None), "keyctl: join")  # KEYCTL_JOIN_SESSION_KEYRING
        # A role inherits these; a core must be possible where no layer forbids it.
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        os.chdir(self.base)

    def _setup_roles(self):
        self.run = self.base / "run"
        self.run.mkdir(mode=0o755)
        (self.base / "keys").write_text(f"test sign {base64.b64encode(os.urandom(32)).decode()} *\n")
        os.chown(self.base / "keys", UIDS["gate"], UIDS["gate"])
        os.chmod(self.base / "keys", 0o400)
        self.config = self.base / "handoffd.conf"
        self.config.write_text(CONFIG.format(run=self.run, base=self.base, alone=self.alone, **UIDS))
        self.config.chmod(0o644)
        for role, name in {"gate": "chat.sock", "dialer": "dialer.sock", "streamer": "streamer-demo-0.sock",
                           "launcher": "launcher-true.sock", "handler": "launcher-namespaces.sock",
                           "handler-bare": "launcher-no-namespaces.sock"}.items():
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(self.run / name))
            listener.listen(8)
            self.listeners[role] = listener

    def decoy(self, uid, dumpable):
        key = (uid, dumpable)
        if key not in self.decoys:
            self.decoys[key] = Decoy(self, uid, dumpable)
        return self.decoys[key]

    def discard(self, decoy):
        decoy.stop()
        self.decoys = {key: value for key, value in self.decoys.items() if value is not decoy}

    def folder(self):
        self.count += 1
        path = self.base / f"t{self.count}"
        path.mkdir(mode=0o711)
        return path

    def attacks(self):
        import json
        text = subprocess.run([self.alone, "list"], capture_output=True, text=True, check=True).stdout
        return [json.loads(line) for line in text.splitlines()]

    def start(self, target, attack, layers, parameters, fds, cwd):
        """Spawn the target with what the runner has prepared."""
        result_read, result_write = os.pipe()
        hold_read, hold_write = os.pipe()
        text = "".join(f"{name}={value}\n" for name, value in parameters.items())
        environment = {"REDTEAM_ATTACK": attack, "REDTEAM_LAYERS": ",".join(layers), "REDTEAM_PARAMETERS": text,
                       "LISTEN_FDS": "1", **target.environment}
        arguments, more = target.command(self)
        null = os.open("/dev/null", os.O_RDWR)
        wanted = {0: null, 1: self.log.fileno(), 2: self.log.fileno(), FD_RESULT: result_write, FD_HOLD: hold_read,
                  **more, **fds}
        # Out of the way of the numbers that are wanted.
        high = {number: os.dup(fd) for number, fd in wanted.items()}
        pid = -1
        try:
            os.chdir(cwd)
            pid = os.posix_spawn(arguments[0], arguments, environment, file_actions=[
                (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in high.items()])
        finally:
            os.chdir(self.base)
            for fd in [*high.values(), null, result_write, hold_read]:
                os.close(fd)
        return Trial(pid, result_read, hold_write, target.is_program)

    def close(self):
        for decoy in list(self.decoys.values()):
            decoy.stop()
        for listener in self.listeners.values():
            listener.close()
        for pid in children_of(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass
        self.log.close()
        os.chdir("/")
        shutil.rmtree(self.base)


class Role:
    """A role's own program with the door in it."""
    environment, is_program = {}, False

    def __init__(self, name):
        self.name, self.policy, self.uid = name, name, UIDS[name]

    def command(self, world):
        arguments = [str(world.build / f"redteam/handoffd-{self.name}"), "-c", str(world.config)]
        if self.name == "streamer":
            arguments += ["-b", "demo", "-n", "0"]
        if self.name == "launcher":
            arguments += ["-H", "true"]
        return arguments, {3: world.listeners[self.name].fileno()}


class Handler:
    """A program that a launcher has started in the cage of a run; handler-bare: without namespaces, where the kernel has none
    for users."""
    environment, is_program = {"REDTEAM_PROGRAM": "1"}, True

    def __init__(self, name):
        self.name, self.policy, self.uid = name, "handler", UIDS["launcher"]
        self.section = "namespaces" if name == "handler" else "no-namespaces"

    def command(self, world):
        arguments = [str(world.build / "redteam/handoffd-launcher"), "-c", str(world.config), "-H", self.section]
        return arguments, {3: world.listeners[self.name].fileno()}


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descriptors(pid):
    """{number: link} of a target, without what the door holds."""
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if not FD_RESULT <= int(name) <= FD_SECOND:
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        pass
    return found


def descriptor_flags(pid, number):
    text = pathlib.Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    return int(re.search(r"^flags:\s*(\d+)", text, re.MULTILINE).group(1), 8)


def descriptor_copy(pid, number):
    pidfd = check(LIBC.syscall(SYS["pidfd_open"], pid, 0), "pidfd_open")
    try:
        return check(LIBC.syscall(SYS["pidfd_getfd"], pidfd, number, 0), "pidfd_getfd")
    finally:
        os.close(pidfd)
