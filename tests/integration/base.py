# SPDX-License-Identifier: Apache-2.0
"""What the harness stands on: the session's folder and ports, processes that always end, watched logs, key rings."""
import atexit
import contextlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import handoff1

ROOT = pathlib.Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
SANITIZE = os.environ.get("HANDOFF_SANITIZE") == "1"

# The run with sanitizers has users of its own: it goes on beside the other one, and the kernel counts descriptors on their way
# for each user. Apache's must have a name: Debian's www-data and proxy.
FIRST_UID = 64500 if SANITIZE else 64200
UID_APACHE = (13 if SANITIZE else 33) if AS_ROOT else os.geteuid()
UID_GATE = FIRST_UID if AS_ROOT else os.geteuid()
UID_DIALER = FIRST_UID + 1 if AS_ROOT else os.geteuid()
UID_FPM = FIRST_UID + 3 if AS_ROOT else os.geteuid()
UID_STREAMER = FIRST_UID + 10 if AS_ROOT else os.geteuid()
UID_HANDLER = FIRST_UID + 30 if AS_ROOT else os.geteuid()

LOCAL_PORTS = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
PORTS = range(10000, int(LOCAL_PORTS[0])) or range(10000, 32768)

SANITIZER_REPORT = re.compile(r"(Address|Leak|UndefinedBehavior)Sanitizer|runtime error:")


# How much longer than on an idle machine something may take before it counts as hanging.
BUSY = 3


def wait_for(condition, timeout: float = 10, what: str = "condition", interval: float = 0.01):
    """The first true value of condition(); AssertionError after timeout seconds, on a busy machine BUSY times as many."""
    deadline = time.monotonic() + timeout * BUSY
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(interval)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list:
    """Direct children of a process, all its threads' together."""
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has just ended
        return found
    for task in tasks:
        try:
            found += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            pass
    return found


def descendants(pid: int) -> list:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def proc_status(pid: int) -> dict:
    """/proc/PID/status as a dictionary of strings."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def open_fds(pid: int) -> dict:
    """Descriptor number -> what it leads to. Needs root for processes that are not dumpable."""
    result = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            result[int(entry.name)] = os.readlink(entry)
        except OSError:
            pass
    return result


class Process:
    """A started program: its own process group, its output in a log file, gone with everything below it on stop()."""

    def __init__(self, arguments, log: pathlib.Path, environment=None, cwd="/", stop_signal=signal.SIGTERM,
                 stdin=subprocess.DEVNULL):
        self.arguments, self.log_file, self.stop_signal = [str(argument) for argument in arguments], log, stop_signal
        # The program ends when the test run is killed.
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(guard + self.arguments, stdin=stdin, stdout=out, stderr=out,
                                          env=environment, cwd=cwd, process_group=0)
        self.pid = self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_port(self, port: int, timeout: float = 10) -> None:
        def connected():
            if not self.running():
                raise AssertionError(f"{self.arguments[0]} ended with {self.popen.returncode}:\n{self.log()[-3000:]}")
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0
        wait_for(connected, timeout, f"{self.arguments[0]} on port {port}\n{self.log()[-2000:]}")

    def stop(self, timeout: float = 10) -> int:
        """Ask, wait, kill; returns the exit status."""
        below = descendants(self.pid) if self.running() else []
        if self.running():
            self.popen.send_signal(self.stop_signal)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                below += descendants(self.pid)
        self.kill(below)
        return self.popen.returncode

    def kill(self, below=()) -> None:
        """End it and all below it at once."""
        for pid in [*below, *(descendants(self.pid) if self.running() else [])]:
            try:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.running():
            self.popen.kill()
        self.popen.wait()


class Env:
    """State of one test session: a fresh folder that all users involved can reach, the programs, free ports."""

    def __init__(self):
        os.umask(0o022)  # what is written here is for several users
        self.build = pathlib.Path(os.environ.get("BUILD") or "build")
        if not self.build.is_absolute():
            self.build = ROOT / self.build
        # Not in /tmp: runs of handlers have their own, so nothing of them may lie there.
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="handoff-", dir="/var/tmp"))
        self.state.chmod(0o711)
        self._cleanups = [lambda: shutil.rmtree(self.state, ignore_errors=True)]
        self._ports = set()
        self._count = 0
        self.live = []  # Apache and Handoffd objects whose logs are watched
        atexit.register(self.close)
        self.bin = self._reachable(self.build / "bin", "bin")
        self.module = self._reachable(self.build / "mod_socket_handoff.so", "mod_socket_handoff.so")
        self.php_src = self.state / "php-src"
        if (ROOT / "php" / "src").is_dir():
            shutil.copytree(ROOT / "php" / "src", self.php_src)

    def _reachable(self, path: pathlib.Path, name: str) -> pathlib.Path:
        """path, or a copy in the state folder when a folder above it is closed to others."""
        if not path.exists() or all(parent.stat().st_mode & 0o001 for parent in path.parents):
            return path
        copy = self.state / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
        return copy

    def folder(self, name: str, mode: int = 0o755, owner: int = None) -> pathlib.Path:
        """A new folder; a number is added to its name."""
        self._count += 1
        path = self.state / f"{name}{self._count}"
        path.mkdir()
        path.chmod(mode)
        if owner is not None and AS_ROOT:
            os.chown(path, owner, owner)
        return path

    def port(self) -> int:
        """A free port on loopback, each given once. None of those that the kernel gives to connections: one of them could
        have it before it is listened on, or meet itself where nobody is to listen."""
        while True:
            port = secrets.choice(PORTS)
            if port in self._ports:
                continue
            self._ports.add(port)
            with socket.socket() as sock, contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port

    def start(self, arguments, log: pathlib.Path, **how) -> Process:
        process = Process(arguments, log, **how)
        self._cleanups.append(process.kill)
        return process

    def sanitizer_environment(self, for_module: bool = False) -> dict:
        """What a sanitizer build needs in its environment; for_module: the program itself was built without."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        if SANITIZE:
            # The leak checker needs ptrace, which the cages forbid.
            environment["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=0"
            environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
            if for_module:
                library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True)
                environment["LD_PRELOAD"] = library.stdout.strip()
                # mod_php opens shared extensions in a way that the sanitizer refuses; it has what it needs without.
                environment["PHP_INI_SCAN_DIR"] = "/nonexistent"
        return environment

    def close(self) -> None:
        while self._cleanups:
            self._cleanups.pop()()


class Watched:
    """A log that tests look into. Lines that `suspicious` matches must be declared with expect() by the test."""

    suspicious = SANITIZER_REPORT

    def __init__(self, path: pathlib.Path):
        self.path, self.checked, self.expected = path, 0, []

    def lines(self, since: int = 0) -> list:
        try:
            return self.path.read_bytes()[since:].decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def position(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def expect(self, *patterns: str) -> None:
        """Declare lines that this test causes (regular expressions, searched)."""
        self.expected += [re.compile(pattern) for pattern in patterns]

    def find(self, pattern: str, since: int = 0) -> list:
        return [line for line in self.lines(since) if re.search(pattern, line)]

    def wait(self, pattern: str, timeout: float = 10, since: int = 0, count: int = 1) -> list:
        """The lines that match, once there are count of them after position since."""
        try:
            return wait_for(lambda: (found := self.find(pattern, since)) and len(found) >= count and found, timeout)
        except AssertionError:
            raise AssertionError(f"not {count} log lines like {pattern!r} within {timeout} s:\n" +
                                 "\n".join(self.lines(since)[-40:])) from None

    def undeclared(self) -> list:
        """Suspicious lines since the last call that were not declared; forgets the declarations."""
        lines, self.checked = self.lines(self.checked), self.position()
        expected, self.expected = self.expected, []
        return [line for line in lines
                if self.suspicious.search(line) and not any(pattern.search(line) for pattern in expected)]


class KeyRing:
    """Keys, and files of them for each reader: file(uid) is owned by that uid with mode 0600."""

    def __init__(self, env: Env, *keys: handoff1.Key):
        self.env, self.keys, self.files = env, list(keys) or [handoff1.Key()], {}
        self.folder = env.folder("keys")

    @property
    def key(self) -> handoff1.Key:
        return self.keys[0]

    def file(self, uid: int = None) -> pathlib.Path:
        uid = (0 if AS_ROOT else os.geteuid()) if uid is None else uid
        path = self.folder / f"keys-{uid}"
        if uid not in self.files:
            self.files[uid] = path
            self.write(path, uid)
        return path

    def write(self, path: pathlib.Path, uid: int) -> None:
        fresh = path.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text("".join(key.line() + "\n" for key in self.keys))
        if AS_ROOT:
            os.chown(fresh, uid, uid)
        fresh.rename(path)

    def set(self, *keys: handoff1.Key) -> None:
        """Other keys, in all files given out so far."""
        self.keys = list(keys)
        for uid, path in self.files.items():
            self.write(path, uid)
