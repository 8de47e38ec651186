# SPDX-License-Identifier: Apache-2.0
"""A launcher of its own and the streamers that speak to it, see test_launcher_runs.py.

    with Launcher(env, concurrency=2) as launcher:
        streamer = launcher.introduce()
        run = streamer.run("echo $HANDOFF_METHOD", facts={"METHOD": "GET"})
        assert run.output() == "GET\\n" and run.exited().status == 0

The handler's program is a shell that does what the data says, unless command= names another. Messages, their numbers
and limits are read from daemon/common/messages.h.
"""
import itertools
import os
import pathlib
import re
import signal
import socket
import struct
import time

from base import (ROOT, UID_DIALER, UID_GATE, UID_STREAMER, Env, Watched, alive, children, descendants, open_fds,
                  wait_for)
from handoffd import SECCOMP, Handoffd
from strace import traced

# A user of its own for each launcher, and for each run of the tests: whatever has it belongs to that launcher.
_uids = itertools.count(100000 + os.getpid() % 10000 * 100)

HEADER = (ROOT / "daemon" / "common" / "messages.h").read_text()
TYPES = {name: number for number, name in enumerate(re.findall(r"\bX\(MESSAGE_(\w+),", HEADER))}
NAMES = {number: name for name, number in TYPES.items()}
LIMITS = [name.lower().replace("_", "-") for name in re.findall(r"\bRUN_LIMIT_(\w+),", re.search(
    r"enum run_limit \{(.*?)\};", HEADER, re.DOTALL)[1]) if name != "COUNT"]

SHELL = ["/bin/sh", "-c", 'eval "$HANDOFF_DATA"']


def _value(value) -> str:
    """As in handoffd.conf; between single quotes nothing but these two has a meaning."""
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(map(_value, value)) + "}"
    return str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Closed(Exception):
    """The launcher has closed the channel."""


class Exited:
    """MESSAGE_EXITED."""

    def __init__(self, body: bytes):
        (self.id, self.wait_status, limit, zero, self.user_us, self.system_us, self.max_rss_kib) = struct.unpack(
            "<IiIIQQQ", body)
        assert zero == 0
        self.limit = LIMITS[limit]
        self.signal = os.WTERMSIG(self.wait_status) if os.WIFSIGNALED(self.wait_status) else None
        self.status = os.WEXITSTATUS(self.wait_status) if os.WIFEXITED(self.wait_status) else None

    def __repr__(self):
        return f"<exited {self.id} status {self.status} signal {self.signal} limit {self.limit}>"


class Run:
    """A run that was launched: the read ends of its pipes, and its end."""

    def __init__(self, streamer, number: int, fds):
        self.streamer, self.id, self.fds, self.began = streamer, number, list(fds), time.monotonic()

    def _read(self, which: int, timeout: float) -> bytes:
        """To the end."""
        os.set_blocking(self.fds[which], False)
        found, deadline = b"", time.monotonic() + timeout
        while True:
            try:
                piece = os.read(self.fds[which], 1 << 20)
            except BlockingIOError:
                assert time.monotonic() < deadline, f"no end of the output within {timeout} s: {found[-1000:]}"
                time.sleep(0.002)
                continue
            if not piece:
                return found
            found += piece

    def output_bytes(self, timeout: float = 20) -> bytes:
        return self._read(0, timeout)

    def output(self, timeout: float = 20) -> str:
        return self._read(0, timeout).decode()

    def errors(self, timeout: float = 20) -> str:
        return self._read(1, timeout).decode()

    def line(self, timeout: float = 20) -> str:
        """The next line of its output, without its end: the program has come so far."""
        os.set_blocking(self.fds[0], False)
        found, deadline = b"", time.monotonic() + timeout
        while not found.endswith(b"\n"):
            try:
                piece = os.read(self.fds[0], 1)
                assert piece, f"the output ends: {found}, {self.errors()}"
                found += piece
            except BlockingIOError:
                assert time.monotonic() < deadline, f"no line within {timeout} s: {found}"
                time.sleep(0.002)
        return found[:-1].decode()

    def stop(self, limit: int = 0) -> None:
        self.streamer.send("STOP", struct.pack("<II", self.id, limit))

    def exited(self, timeout: float = 20) -> Exited:
        return self.streamer.exited(self.id, timeout)

    def lasted(self) -> float:
        return time.monotonic() - self.began

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Streamer:
    """One streamer's channel, as the gate has introduced it. Messages of several runs may come in any order: what nobody
    waits for yet is kept."""

    def __init__(self, channel: socket.socket):
        self.channel, self.kept, self.runs, self.next_id = channel, [], [], 1

    def send(self, name: str, body: bytes, more: bytes = b"", fds=(), length: int = None) -> None:
        length = 8 + len(body) + len(more) if length is None else length
        while True:
            self.channel.settimeout(0)
            try:
                socket.send_fds(self.channel, [struct.pack("<II", TYPES[name], length), body, more], fds)
                return
            except BlockingIOError:
                # The launcher reads nothing while its own messages are not read.
                self.kept.append(self.receive())

    def receive(self, timeout: float = 10):
        """(name, body, descriptors) of the next message."""
        self.channel.settimeout(timeout)
        try:
            message, fds, flags, _ = socket.recv_fds(self.channel, 4096, 4)
        except ConnectionResetError:
            raise Closed from None
        if not message:
            raise Closed
        kind, length = struct.unpack_from("<II", message)
        assert length == len(message) and not flags & socket.MSG_CTRUNC
        return NAMES[kind], message[8:], fds

    def wait(self, name: str, number: int, timeout: float = 10):
        """(body, descriptors) of that message about that id."""
        deadline = time.monotonic() + timeout
        for message in self.kept:
            if message[0] == name and struct.unpack_from("<I", message[1])[0] == number:
                self.kept.remove(message)
                return message[1:]
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"no {name} of {number} within {timeout} s"
            try:
                message = self.receive(left)
            except TimeoutError:
                raise AssertionError(f"no {name} of {number} within {timeout} s") from None
            if message[0] == name and struct.unpack_from("<I", message[1])[0] == number:
                return message[1:]
            self.kept.append(message)

    def nothing_comes(self, seconds: float = 0.2) -> None:
        try:
            message = self.receive(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"{message} came")

    def is_closed(self, timeout: float = 10) -> bool:
        """Whether the launcher closes the channel in time; what comes before is forgotten."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                for fd in self.receive(max(deadline - time.monotonic(), 0.001))[2]:
                    os.close(fd)
            except TimeoutError:
                return False
            except Closed:
                return True
        return False

    # -- what streamers do

    def ask(self, number: int = None) -> int:
        """Ask for a place; the id."""
        if number is None:
            number, self.next_id = self.next_id, self.next_id + 1
        self.send("PLACE", struct.pack("<II", number, 0))
        return number

    def placed(self, number: int, timeout: float = 10) -> int:
        """0, or the errno."""
        body, _ = self.wait("PLACED", number, timeout)
        return -struct.unpack("<Ii", body)[1]

    def leave(self, number: int) -> None:
        self.send("LEAVE", struct.pack("<II", number, 0))

    def place(self) -> int:
        number = self.ask()
        assert (error := self.placed(number)) == 0, os.strerror(error)
        return number

    def launch(self, number: int, data="", facts=(), memfd: int = None, flags: int = 0, raw_facts: bytes = None,
               n_facts: int = None, facts_len: int = None) -> None:
        facts = dict(facts)
        block = b"".join(f"HANDOFF_{name}={value}".encode() + b"\0" for name, value in facts.items())
        block = block if raw_facts is None else raw_facts
        data = data.encode() if isinstance(data, str) else data
        body = struct.pack("<IIII", number, flags, len(block) if facts_len is None else facts_len,
                           len(facts) if n_facts is None else n_facts)
        self.send("LAUNCH", body, block + data, [] if memfd is None else [memfd])

    def launched(self, number: int, timeout: float = 20):
        """The run, or the errno."""
        body, fds = self.wait("LAUNCHED", number, timeout)
        error = -struct.unpack("<Ii", body)[1]
        assert len(fds) == (2 if error == 0 else 0)
        if error != 0:
            return error
        self.runs.append(Run(self, number, fds))
        return self.runs[-1]

    def run(self, data="", **how) -> Run:
        number = self.place()
        self.launch(number, data, **how)
        run = self.launched(number)
        assert isinstance(run, Run), os.strerror(run)
        return run

    def exited(self, number: int, timeout: float = 20) -> Exited:
        return Exited(self.wait("EXITED", number, timeout)[0])

    def close(self) -> None:
        self.channel.close()
        for run in self.runs:
            run.close()
        for _, _, fds in self.kept:
            for fd in fds:
                os.close(fd)
        self.runs, self.kept = [], []


class Launcher:
    """handoffd-launcher with a handler section "h", whose backend is number 1 and has two workers. Options of the section
    as in handoffd.conf with _ for -; stop_grace is the backend's."""

    suspicious = Handoffd.suspicious

    def __init__(self, env: Env, command=None, stop_grace: int = 10, **options):
        self.env, self.process, self.gate, self.streamers, self.uid = env, None, None, [], next(_uids)
        self.folder = env.folder("launcher", 0o711)
        self.config = self.folder / "handoffd.conf"
        self.path = str(self.folder / "launcher-h.sock")
        self.log = Watched(self.folder / "launcher.log")
        self.log.suspicious = self.suspicious
        self.options, self.stop_grace = {"command": command or SHELL, **options}, stop_grace
        self.configure()
        env.live.append(self)
        self.start()

    def configure(self, **options) -> None:
        """Write the configuration, with these options of the section from now on."""
        self.options.update(options)
        top = {"runtime-dir": str(self.folder), "gate-user": str(UID_GATE), "dialer-user": str(UID_DIALER),
               "streamer-user": str(UID_STREAMER), "launcher-user": str(self.uid), **SECCOMP}
        text = "".join(f"{name} = {_value(text)}\n" for name, text in top.items())
        text += f'listen "{self.folder}/chat.sock" {{ backend = demo allow-peer = {{ "65533" }} }}\n'
        text += "backend demo { type = demo }\n"
        text += f"backend b {{ type = handler handler = h workers = 2 stop-grace = {self.stop_grace} }}\n"
        text += "handler h {\n" + "".join(f"    {name.replace('_', '-')} = {_value(each)}\n"
                                          for name, each in self.options.items()) + "}\n"
        self.config.write_text(text)
        self.config.chmod(0o644)

    def restart(self, wait: bool = True, limits=()) -> None:
        """Stop it, and start it as it is configured now; limits are prlimit's options."""
        self.process.stop()
        self.start(wait, limits)

    def start(self, wait: bool = True, limits=()) -> None:
        pathlib.Path(self.path).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.path)
        os.chmod(self.path, 0o666)
        listener.listen(8)
        # Whose pid LISTEN_PID is, only the process itself can say.
        starter = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 0</dev/null'
        program = [*traced("launcher"), self.env.bin / "handoffd-launcher", "-c", self.config, "-H", "h"]
        prefix = ["prlimit", *limits] if limits else []
        self.process = self.env.start([*prefix, "/bin/sh", "-c", starter, "sh", *program], self.log.path, stdin=listener,
                                      environment=self.env.sanitizer_environment())
        listener.close()
        if not wait:
            return
        try:
            wait_for(lambda: self.log.find("event=ready") or not self.process.running(), 15)
            assert self.process.running()
        except AssertionError:
            raise AssertionError("the launcher is not ready:\n" + "\n".join(self.log.lines()[-30:])) from None

    @property
    def pid(self) -> int:
        return self.process.pid

    def introduce(self, worker: int = 0, backend: int = 1) -> Streamer:
        """A streamer; the gate is connected once."""
        if self.gate is None:
            self.gate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # The launcher asks who connects.
            os.seteuid(UID_GATE)
            try:
                self.gate.connect(self.path)
            finally:
                os.seteuid(0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.gate, [struct.pack("<IIII", TYPES["LAUNCHER_STREAMER"], 16, backend, worker)],
                        [theirs.fileno()])
        theirs.close()
        self.streamers.append(Streamer(ours))
        return self.streamers[-1]

    # -- what is left

    def counters(self) -> dict:
        """As Handoffd.counters()."""
        since = self.log.position()
        os.kill(self.pid, signal.SIGUSR1)
        self.log.wait("event=counter", 5, since)
        time.sleep(0.05)
        result = {}
        for line in self.log.find("event=counter", since):
            fields = dict(re.findall(r"(\w+)=(\S+)", line))
            result["/".join(filter(None, (fields["name"], fields.get("label"))))] = int(fields["value"])
        return result

    def processes(self) -> list:
        """All below the launcher, and all of its uid that are not below it any more."""
        found = set(descendants(self.pid))
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and entry.stat().st_uid == self.uid:
                    found.add(int(entry.name))
            except OSError:
                pass
        return sorted(found - {self.pid})

    def programs(self) -> list:
        """Those of processes() that are alive."""
        return [pid for pid in self.processes() if alive(pid)]

    def inventory(self) -> dict:
        """What a run could leave behind."""
        mounts = pathlib.Path(f"/proc/{self.pid}/mountinfo").read_text().count("\n")
        namespaces = len({link for pid in [self.pid, *self.processes()] if (link := _namespace(pid))})
        return {"descriptors": len(open_fds(self.pid)), "processes": self.processes(), "mounts": mounts,
                "namespaces": namespaces, "children": children(self.pid)}

    def undeclared(self) -> list:
        return [f"{self.log.path}: {line}" for line in self.log.undeclared()]

    def expect(self, *patterns: str) -> None:
        self.log.expect(*patterns)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def stop(self) -> int:
        """Close the streamers, stop the launcher; its exit status."""
        for streamer in self.streamers:
            streamer.close()
        self.streamers = []
        if self.gate is not None:
            self.gate.close()
            self.gate = None
        status = self.process.stop()
        if self in self.env.live:
            self.env.live.remove(self)
        wait_for(lambda: not self.programs(), 5, "the end of all that it has started")
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        assert kind is not None or not (found := self.undeclared()), "undeclared log lines:\n" + "\n".join(found)


def _namespace(pid: int):
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None
