# SPDX-License-Identifier: Apache-2.0
"""Objects that are processes, the state of the kernel, or the attacker itself as the kernel shows it."""
import ctypes
import fcntl
import os
import pathlib
import re
import secrets
import socket
import struct
import subprocess

from objects_files import Object
from world import (DECOY_FD, FD_OBJECT, FD_SECOND, LIBC, UID_APACHE, UID_OTHER, check, children_of, descriptor_copy,
                   descriptor_flags, descriptors, status_of)

PIPE_SIZE = 65536  # what the kernel gives


class Victim(Object):
    """Another process. Roles are not dumpable, so neither is a sibling where that layer is on."""

    def plant(self, user="other"):
        uid = {"other": UID_OTHER, "same": self.target.uid, "apache": UID_APACHE}[user]
        dumpable = user == "apache" or not ({"process", "whole"} & set(self.layers))
        self.decoy = self.world.decoy(uid, dumpable)
        self.secret = self.decoy.secret
        one, other = socket.socketpair()
        self.closing += [one, other]
        self.fds = {FD_OBJECT: one.fileno(), FD_SECOND: other.fileno()}
        self.parameters.update({"pid": self.decoy.pid, "address": self.decoy.address, "fd": DECOY_FD})
        self.maps = pathlib.Path(f"/proc/{self.decoy.pid}/maps").read_bytes()[:12]
        self.namespace = os.readlink(f"/proc/{self.decoy.pid}/ns/uts")

    def harm(self, trial):
        if self.was_read(trial):
            return self.was_read(trial)
        if trial.got == self.maps:
            return "its addresses were read"
        after = self.decoy.look()
        for what, value in self.decoy.before.items():
            if after.get(what) != value:
                return {"alive": "it is dead", "stopped": "it was stopped", "traced by": "it is traced"}.get(
                    what, f"its {what} was changed")
        if trial.status is None and os.readlink(f"/proc/{trial.pid}/ns/uts") == self.namespace:
            return "the attacker is in its namespace"
        return None

    def clean(self):
        if self.decoy.look() != self.decoy.before:
            self.world.discard(self.decoy)
        super().clean()


class Itself(Object):
    """The attacker: the kernel's view of it is the evidence."""

    def plant(self, ask=None, **rest):
        self.ask, self.rest = ask, rest
        self.parameters["uid"] = 12345
        self.parameters["nowhere"] = 0
        self.parameters["limit"] = self._hard_limit("self") + 1
        self.parameters["queue"] = f"/rogue-{self.secret}"

    @staticmethod
    def _hard_limit(pid):
        text = pathlib.Path(f"/proc/{pid}/limits").read_text()
        return int(re.search(r"^Max msgqueue size +\S+ +(\d+)", text, re.MULTILINE).group(1))

    def harm(self, trial):
        if trial.status is not None:
            # What the attempt itself had shown before it ended.
            return self.ask(self, trial) if self.ask in (reached, token) else None
        return self.ask(self, trial)


def reached(_, trial):
    return "the kernel made the call" if trial.reached() else None


def token(this, trial):
    return "a process of its own ran" if this.secret.encode() in trial.got else None


def held(this, trial):
    """It has a descriptor of that kind."""
    for number, link in descriptors(trial.pid).items():
        if re.fullmatch(this.rest["link"], link) and (
                not this.rest.get("write") or descriptor_flags(trial.pid, number) & os.O_ACCMODE != os.O_RDONLY):
            return f"it has {link} open" + (" for writing" if this.rest.get("write") else "")
    return None


def pipe(_, trial):
    """Any program may have pipes; harm is one that holds more than a pipe does."""
    for number, link in descriptors(trial.pid).items():
        if not link.startswith("pipe:"):
            continue
        copy = descriptor_copy(trial.pid, number)
        try:
            size = fcntl.fcntl(copy, fcntl.F_GETPIPE_SZ)
        finally:
            os.close(copy)
        if size > PIPE_SIZE:
            return f"it has a pipe of {size} bytes"
    return None


def queue(this, trial):
    return "it has the queue" if any(this.secret in link for link in descriptors(trial.pid).values()) else None


def namespace(this, trial):
    name = this.rest["name"]
    if name == "pid_for_children" and not os.path.exists(f"/proc/{trial.pid}/ns/{name}"):
        return "its children would be in a namespace of their own"  # there is none as long as it has no child
    parent = status_of(trial.pid)["PPid"]
    if os.readlink(f"/proc/{trial.pid}/ns/{name}") != os.readlink(f"/proc/{parent}/ns/{name}"):
        return "it is in a namespace of its own"
    return None


def child_namespace(_, trial):
    for child in children_of(trial.pid):
        if os.readlink(f"/proc/{child}/ns/user") != os.readlink(f"/proc/{trial.pid}/ns/user"):
            return "a child is in a namespace of its own"
    return None


def root_directory(_, trial):
    return "its root is another" if os.readlink(f"/proc/{trial.pid}/root") != "/" else None


def identity(_, trial):
    state = status_of(trial.pid)
    found = [name for name in ("Uid", "Gid", "Groups") if "12345" in state.get(name, "").split()]
    return f"its {found[0]} is another's" if found else None


def capabilities(_, trial):
    return "it has an inheritable capability" if int(status_of(trial.pid)["CapInh"], 16) else None


def scheduling(_, trial):
    if os.sched_getscheduler(trial.pid) == os.SCHED_RR:
        return "it runs before all others"
    return "its priority was raised" if os.getpriority(os.PRIO_PROCESS, trial.pid) < 0 else None


def children(_, trial):
    found = children_of(trial.pid)
    return f"it has {len(found)} child processes" if found else None


def threads(_, trial):
    count = int(status_of(trial.pid)["Threads"])
    return f"it has {count} threads" if count > 1 else None


def session(_, trial):
    # A launcher's program has one of its own from its start, and leads it: there is none that it could leave.
    return "it left its session" if not trial.is_program and os.getsid(trial.pid) == trial.pid else None


def limits(this, trial):
    return "its limit was raised" if this._hard_limit(trial.pid) >= this.parameters["limit"] else None


def timers(_, trial):
    count = len(re.findall(r"^ID:", pathlib.Path(f"/proc/{trial.pid}/timers").read_text(), re.MULTILINE))
    return f"it has {count} timers" if count else None


def locked(_, trial):
    amount = int(status_of(trial.pid)["VmLck"].split()[0])
    return f"it has locked {amount} KiB" if amount > 2048 else None


def dumpable(this, trial):
    return "others of its user may look into it" if os.stat(f"/proc/{trial.pid}/mem").st_uid == this.target.uid else None


def int80(_, trial):
    own = status_of(trial.pid)["NSpid"].split()[-1]
    return "the call was made" if trial.got == f"pid {own}.".encode() else None


def descriptor_table(_, trial):
    return "it has an entry (its own word)" if trial.got == b"ldt-entry" else None


class Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
                ("esterror", ctypes.c_long), ("rest", ctypes.c_char * 256)]


def setting(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


class Machine(Object):
    """The state of the machine: looked at before and after, and put back."""

    def plant(self, what=""):
        self.what = what
        self.parameters["uid"] = 12345
        getattr(self, f"plant_{what}")()

    def harm(self, trial):
        return getattr(self, f"harm_{self.what}")(trial)

    def clean(self):
        getattr(self, f"clean_{self.what}", lambda: None)()
        super().clean()

    # -- names, of the runner's own namespace

    def plant_name(self):
        self.before = os.uname().nodename, setting("/proc/sys/kernel/domainname")

    def harm_name(self, _):
        now = os.uname().nodename, setting("/proc/sys/kernel/domainname")
        return "the machine's name was changed" if now != self.before else None

    def clean_name(self):
        socket.sethostname(self.before[0])
        LIBC.setdomainname(self.before[1].encode(), len(self.before[1]))

    # -- mounts, likewise

    def plant_mounts(self):
        self.mounted = self.folder / "mounted"
        self.mounted.mkdir()
        check(LIBC.mount(b"redteam", bytes(self.mounted), b"tmpfs", 0, b"size=4k"), "mount")
        self.parameters["mounted"] = self.mounted
        self.before = pathlib.Path("/proc/self/mountinfo").read_text()

    def harm_mounts(self, _):
        return "the mounts are others" if pathlib.Path("/proc/self/mountinfo").read_text() != self.before else None

    def clean_mounts(self):
        for path in (self.mounted, self.victim):
            while LIBC.umount2(bytes(path), 2) == 0:
                pass

    # -- swap and accounting: files of the runner

    def plant_swap(self):
        self.swap = self.folder / "swap"
        self.swap.write_bytes(bytes(1 << 20))
        self.swap.chmod(0o600)
        subprocess.run(["/sbin/mkswap", self.swap], check=True, capture_output=True)
        self.parameters["swap"] = self.swap

    def harm_swap(self, _):
        return "the machine swaps to it" if str(self.swap) in pathlib.Path("/proc/swaps").read_text() else None

    def clean_swap(self):
        LIBC.swapoff(bytes(self.swap))

    def plant_accounting(self):
        self.account = self.folder / "account"
        self.account.touch()
        self.parameters["account"] = self.account

    def harm_accounting(self, _):
        subprocess.run(["/bin/true"], check=True)
        return "processes are accounted there" if self.account.stat().st_size else None

    def clean_accounting(self):
        if self.account.stat().st_size:
            LIBC.acct(None)

    # -- the kernel's log

    def plant_log(self):
        pathlib.Path("/dev/kmsg").write_text(f"redteam {self.secret}\n")

    def harm_log(self, trial):
        return self.was_read(trial)

    # -- Ctrl-Alt-Del

    def plant_cad(self):
        self.before = setting("/proc/sys/kernel/ctrl-alt-del")
        self.parameters["now"] = self.before

    def harm_cad(self, _):
        return "reboot() was heard" if setting("/proc/sys/kernel/ctrl-alt-del") != self.before else None

    def clean_cad(self):
        pathlib.Path("/proc/sys/kernel/ctrl-alt-del").write_text(self.before)

    # -- the clock: a timer that ends when it is set, even to the time it has

    def plant_clock(self):
        self.timer = check(LIBC.timerfd_create(0, 0o4000), "timerfd_create")
        when = struct.pack("4q", 0, 0, 1 << 40, 0)
        check(LIBC.timerfd_settime(self.timer, 3, when, None), "timerfd_settime")  # absolute, cancel on set

    def harm_clock(self, _):
        try:
            os.read(self.timer, 8)
        except BlockingIOError:
            return None
        except OSError as error:
            return f"the clock was set ({os.strerror(error.errno)})"
        return None

    def clean_clock(self):
        os.close(self.timer)

    @staticmethod
    def _esterror(value=None):
        now = Timex(modes=0 if value is None else 8, esterror=value or 0)
        check(LIBC.adjtimex(ctypes.byref(now)), "adjtimex")
        return now.esterror

    def plant_error(self):
        self.before = self._esterror()
        self.parameters["error"] = self.before - 1 - secrets.randbelow(1000)

    def harm_error(self, _):
        return "the clock's error was changed" if self._esterror() != self.before else None

    def clean_error(self):
        self._esterror(self.before)

    # -- keys of the runner's session

    def plant_keys(self):
        self.known = f"known-{self.secret[:8]}".encode()
        self.key = check(LIBC.syscall(248, b"user", self.known, self.secret.encode(), len(self.secret), -3), "add_key")
        self.parameters.update({"key": self.key, "known": self.known.decode(), "description": f"rogue-{self.secret[:8]}"})

    def harm_keys(self, trial):
        if f"rogue-{self.secret[:8]}" in pathlib.Path("/proc/keys").read_text():
            return "a key was planted"
        return self.was_read(trial)

    def clean_keys(self):
        LIBC.syscall(250, 3, self.key)
        for line in pathlib.Path("/proc/keys").read_text().splitlines():
            if "rogue-" in line:
                LIBC.syscall(250, 3, ctypes.c_int(int(line.split()[0], 16)))

    # -- System V objects, of the runner's own namespace

    @staticmethod
    def _objects():
        return {kind: pathlib.Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "msg", "sem")}

    def plant_shared(self):
        key = secrets.randbelow(1 << 30) + 1
        self.shared = check(LIBC.shmget(key, 4096, 0o1600), "shmget")
        LIBC.shmat.restype = ctypes.c_void_p
        address = LIBC.shmat(self.shared, None, 0)
        ctypes.memmove(address, self.secret.encode(), len(self.secret))
        LIBC.shmdt(ctypes.c_void_p(address))
        self.queue = check(LIBC.msgget(key, 0o1600), "msgget")
        self.parameters.update({"key": key, "new-key": key + 1})
        self.before = self._objects()

    def harm_shared(self, trial):
        if self.was_read(trial):
            return self.was_read(trial)
        for kind, text in self._objects().items():
            lines, before = text.splitlines(), self.before[kind].splitlines()
            if len(lines) != len(before):
                return f"a {kind} object is new or gone"
            if kind == "msg" and [line.split()[4] for line in lines] != [line.split()[4] for line in before]:
                return "a message is in the queue"
        return None

    def clean_shared(self):
        LIBC.shmctl(self.shared, 0, None)
        LIBC.msgctl(self.queue, 0, None)
        for kind, remove in (("shm", LIBC.shmctl), ("msg", LIBC.msgctl), ("sem", lambda i, *_: LIBC.semctl(i, 0, 0))):
            for line in self._objects()[kind].splitlines()[1:]:
                remove(int(line.split()[1]), 0, None)


class Setting(Object):
    """A file of the kernel's that is opened for writing, and not written to."""

    def plant(self, file=""):
        self.file = file
        self.parameters["setting"] = file

    def harm(self, trial):
        for number, link in descriptors(trial.pid).items():
            if link == self.file and descriptor_flags(trial.pid, number) & os.O_ACCMODE != os.O_RDONLY:
                return "it is open for writing"
        return None


def itself(ask, title, **rest):
    return (Itself, {"ask": ask, **rest}, title)


def machine(what, title):
    return (Machine, {"what": what}, title)


KERNEL = {
    "sibling": (Victim, {}, "another role, under another user"),
    "worker": (Victim, {"user": "same"}, "another process of the same user"),
    "apache": (Victim, {"user": "apache"}, "a process of Apache's user"),
    **{f"namespace-{name}": itself(namespace, f"a {name} namespace of its own",
                                   name={"pid": "pid_for_children", "time": "time_for_children"}.get(name, name))
       for name in ("user", "mnt", "net", "pid", "uts", "ipc", "cgroup", "time")},
    "child-namespace": itself(child_namespace, "a child in a user namespace"),
    "mounts": machine("mounts", "the mounts"),
    "root-directory": itself(root_directory, "its root directory"),
    "fanotify": itself(held, "what all processes open", link=r"anon_inode:\[fanotify\]"),
    "reached": itself(reached, "the kernel's interface itself: that it is reached counts"),
    "host-name": machine("name", "the machine's name"),
    "swap": machine("swap", "the swap space"),
    "accounting": machine("accounting", "process accounting"),
    "kernel-log": machine("log", "the kernel's log"),
    "ctrl-alt-del": machine("cad", "what Ctrl-Alt-Del does"),
    "clock": machine("clock", "the clock, by which tokens expire"),
    "clock-error": machine("error", "the clock's error"),
    "core-pattern": (Setting, {"file": "/proc/sys/kernel/core_pattern"}, "the program that gets cores"),
    "release-agent": (Setting, {"file": "/sys/fs/cgroup/pids/release_agent"}, "the program that a cgroup's end starts"),
    "sysrq": (Setting, {"file": "/proc/sysrq-trigger"}, "sysrq"),
    "memory-device": (Setting, {"file": "/dev/mem"}, "the machine's memory"),
    "disk-device": (Setting, {"file": "/dev/vda"}, "the disk"),
    "bpf-map": itself(held, "BPF", link="anon_inode:bpf-map"),
    "bpf-program": itself(held, "BPF", link="anon_inode:bpf-prog"),
    "perf-event": itself(held, "the performance counters of all", link=r"anon_inode:\[perf_event\]"),
    "userfaultfd": itself(held, "page faults, which it could hold up", link=r"anon_inode:\[userfaultfd\]"),
    "descriptor-table": itself(descriptor_table, "its table of segments"),
    "keys": machine("keys", "the keys of the kernel"),
    "identity": itself(identity, "its user and groups"),
    "capabilities": itself(capabilities, "its capabilities"),
    "scheduling": itself(scheduling, "its place among the processes"),
    "dumpable": itself(dumpable, "whether it can be looked into"),
    "int80": itself(int80, "the 32-bit system calls"),
    "children": itself(children, "processes"),
    "vforked": itself(token, "processes"),
    "threads": itself(threads, "threads"),
    "session": itself(session, "its session"),
    "shared-memory": machine("shared", "another's shared memory"),
    "message-queue": machine("shared", "another's message queue"),
    "ipc-objects": machine("shared", "System V objects"),
    "posix-queue": itself(queue, "POSIX message queues"),
    "limits": itself(limits, "its own limits"),
    "timers": itself(timers, "timers of the kernel"),
    "inotify": itself(held, "inotify instances, of which a user has few", link="anon_inode:inotify"),
    "memfd": itself(held, "memory in files without a name", link=r"/memfd:rogue \(deleted\)"),
    "pipe": itself(pipe, "memory in pipes"),
    "locked-memory": itself(locked, "memory that cannot be swapped out"),
}
