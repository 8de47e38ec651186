# SPDX-License-Identifier: Apache-2.0
"""handoffd under its supervisor; see env.py."""
import functools
import os
import pathlib
import re
import signal

from base import (AS_ROOT, ROOT, SANITIZER_REPORT, UID_APACHE, UID_DIALER, UID_GATE, UID_HANDLER, UID_STREAMER, Env, KeyRing,
                  Watched, alive, descendants, open_fds, wait_for)
from strace import traced


# The tests run again in each mode of the filter: make check.
SECCOMP = {"seccomp": os.environ["HANDOFF_SECCOMP"]} if "HANDOFF_SECCOMP" in os.environ else {}


@functools.cache
def last_counter(role: str) -> str:
    """The last that a role logs in any case; they are in the order of metrics.h."""
    rows = re.findall(r'X\(METRIC_\w+, "(\w+)", (\w+), (\w+),([^"]+)', (ROOT / "daemon/common/metrics.h").read_text())
    names = [name for name, kind, label, by in rows if f"BY_{role.upper()}" in by]
    assert names and all((kind, label) == ("COUNTER", "NONE") for name, kind, label, _ in rows if name == names[-1])
    return names[-1]


class Handoffd:
    """handoffd under its supervisor.

    backends    {"demo": {"type": "demo", "delay": 1}}; options as in handoffd.conf, lists allowed; in each the name of
                the section and its options. A user is added when we are root.
    listens     {"chat": {"backend": "demo"}}; the socket is <state>/run/NAME.sock; allow-peer and group are added
    upstreams   {"mock": {"url": ..., "ca-file": ...}}
    handlers    {"figlet": {"command": ["/usr/bin/figlet"]}}; a user is added when we are root
    profiles    {"short": {"model": ...}}
    options     at top level, e.g. {"log-debug": "true"}
    """

    suspicious = re.compile(r"event=(fatal|crashed)\b|event=exited\b.*status=[1-9]|" + SANITIZER_REPORT.pattern)
    ready = re.compile(r"handoffd\[\d+\]: event=ready")

    def __init__(self, env: Env, backends=None, listens=None, upstreams=None, keys: KeyRing = None, options=None,
                 allow_peer=(UID_APACHE,), wait: bool = True, profiles=None, handlers=None):
        self.env = env
        self.root = env.folder("handoffd", 0o711)
        self.run = self.root / "run"
        self.run.mkdir(mode=0o755)
        self.handlers = handlers or {}
        self.keys = keys or KeyRing(env)
        self.backends = backends or {"demo": {"type": "demo", "delay": 1}}
        self.listens = listens or {"chat": {"backend": next(iter(self.backends))}}
        self.conf_file = self.root / "handoffd.conf"
        self.conf_file.write_text(self._config(upstreams or {}, options or {}, allow_peer, profiles or {}))
        self.conf_file.chmod(0o644)
        self.log = Watched(self.root / "handoffd.log")
        self.log.suspicious = self.suspicious
        self.process = None
        env.live.append(self)
        self.start(wait)

    @staticmethod
    def _value(value) -> str:
        if isinstance(value, (list, tuple)):
            return "{" + ", ".join(f'"{item}"' for item in value) + "}"
        return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'

    def _section(self, kind: str, title: str, options: dict) -> str:
        return f'{kind} "{title}" {{\n' + "".join(f"    {name} = {self._value(value)}\n"
                                                   for name, value in options.items()) + "}\n"

    def _config(self, upstreams, options, allow_peer, profiles) -> str:
        top = {"runtime-dir": self.run / "roles", "key-file": self.keys.file(UID_GATE), **SECCOMP, **options}
        if AS_ROOT:
            top = {"gate-user": UID_GATE, "dialer-user": UID_DIALER, "streamer-user": UID_STREAMER, **top}
        text = "".join(f"{name} = {self._value(value) if isinstance(value, (list, bool)) else f'{chr(34)}{value}{chr(34)}'}\n"
                       for name, value in top.items())
        for name, values in upstreams.items():
            text += self._section("upstream", name, values)
        for number, (name, values) in enumerate(self.handlers.items()):
            users = {"user": str(UID_HANDLER + number)} if AS_ROOT else {}
            text += self._section("handler", name, {**users, **values})
        for name, values in profiles.items():
            text += self._section("profile", name, values)
        for number, (name, values) in enumerate(self.backends.items()):
            users = {"user": str(UID_STREAMER + number)} if AS_ROOT else {}
            text += self._section("backend", name, {**users, **values})
        for name, values in self.listens.items():
            group = {"group": str(UID_APACHE)} if AS_ROOT else {}
            peers = {"allow-peer": [str(uid) for uid in allow_peer]}
            text += self._section("listen", self.path(name), {**peers, **group, **values})
        return text

    def path(self, listener: str = None) -> str:
        """The socket of a listener, as tokens name it."""
        return str(self.run / f"{listener or next(iter(self.listens))}.sock")

    # -- life

    def start(self, wait: bool = True) -> None:
        program = self.env.bin / "handoffd"
        assert program.exists(), f"{program} is not built"
        since = self.log.position()
        self.process = self.env.start([*traced("family"), program, "-c", self.conf_file, "-x", self.env.bin], self.log.path,
                                      environment=self.env.sanitizer_environment())
        if wait:
            self.wait_ready(since)

    def wait_ready(self, since: int = 0, timeout: float = 15) -> None:
        def is_ready():
            if not self.process.running():
                raise AssertionError(f"handoffd ended with {self.process.popen.returncode}:\n" +
                                     "\n".join(self.log.lines(since)[-30:]))
            return self.log.find(self.ready.pattern, since)
        try:
            wait_for(is_ready, timeout)
        except AssertionError as error:
            raise AssertionError(f"handoffd is not ready: {error}\n" + "\n".join(self.log.lines(since)[-30:])) from None

    def stop(self, timeout: float = 10) -> int:
        status = None
        if self.process is not None:
            status = self.process.stop(timeout)
            self.process = None
        if self in self.env.live:
            self.env.live.remove(self)
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        assert kind is not None or not (found := self.undeclared()), "undeclared log lines:\n" + "\n".join(found)

    def wait_introduced(self) -> None:
        """Until the gate knows all the others, and has their pages of counters: then it opens nothing more by itself."""
        known = 1 + len(self.roles()["streamer"])
        wait_for(lambda: sum("memfd:handoffd-metrics" in path for path in open_fds(self.pid("gate")).values()) >= known, 5,
                 "the pages of counters")

    # -- roles

    def roles(self) -> dict:
        """{"gate": [pid], "dialer": [pid], "streamer": [pid, ...]}; streamers in the order of the backends."""
        found = {}
        for pid in descendants(self.process.pid):
            try:
                arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            name = pathlib.Path(os.fsdecode(arguments[0])).name
            if name.startswith("handoffd-"):
                found.setdefault(name.removeprefix("handoffd-"), []).append(pid)
        return found

    def pid(self, role: str, backend: str = None) -> int:
        """The pid of a role; of the first streamer of a backend when given."""
        for pid in self.roles().get(role, []):
            arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if backend is None or backend.encode() in arguments:
                return pid
        raise AssertionError(f"no {role} {backend or ''} runs")

    def kill(self, role: str, backend: str = None, number=signal.SIGKILL) -> int:
        """Kill a role; waits until the supervisor has started it again and it is ready. Returns the new pid."""
        old = self.pid(role, backend)
        os.kill(old, number)
        wait_for(lambda: not alive(old), 5, f"end of {role}")

        def again():
            try:
                new = self.pid(role, backend)
            except (AssertionError, OSError):
                return None
            return new if self.log.find(rf"handoffd-{role}\[{new}\]: .*event=ready") else None
        return wait_for(again, 10, f"a new {role}")

    def reload(self, outcome: str = "event=reloaded", **replacements: str) -> None:
        """SIGHUP, after these replacements in the configuration; waits for what comes of it."""
        text = self.conf_file.read_text()
        for before, after in replacements.items():
            assert before in text
            text = text.replace(before, after)
        self.conf_file.write_text(text)
        since = self.log.position()
        os.kill(self.process.pid, signal.SIGHUP)
        self.log.wait(rf"handoffd\[\d+\]: {outcome}", 20, since)

    def counters(self, role: str, backend: str = None) -> dict:
        """Counters of a role, "name" or "name/label" as in docs/metrics.md: it logs them on SIGUSR1."""
        pid, since = self.pid(role, backend), self.log.position()
        os.kill(pid, signal.SIGUSR1)
        pattern = rf"handoffd-{role}\[{pid}\]: .*event=counter\b"
        self.log.wait(rf"{pattern} name={last_counter(role)} ", 5, since)
        result = {}
        for line in self.log.find(pattern, since):
            fields = dict(re.findall(r"(\w+)=(\S+)", line))
            name = f"{fields['name']}/{fields['label']}" if "label" in fields else fields["name"]
            result[name] = int(fields["value"])
        return result

    # -- log

    def expect(self, *patterns: str) -> None:
        self.log.expect(*patterns)

    def undeclared(self) -> list:
        return [f"{self.log.path}: {line}" for line in self.log.undeclared()]
