#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What streams cost once they are handed off, from the gate on: tables; asserted is only that the bytes are right.
docs/performance.md has results and what they mean.

    make bench-stream                                                       the demo and openai tables, some 40 minutes
    BUILD=build tests/bench/bench_stream.py --rounds 3 --only "demo 10000,bare 10000"

stream_clients.c is the module and its clients, upstream.c the service behind the openai backend, bare.c the least that
could answer. All variants named run once a round, in another order each time; shown are medians over the rounds with
the lowest and the highest. CPU is what the scheduler accounts to a process. Memory is the growth of RSS and PSS of all
handoffd's processes at the moment when all streams are open; kernel memory that of the whole machine (slab and TCP
buffers), in which the clients' ends are.
"""
import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import re
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "integration"))

from bench_handoff import cpu_ns  # noqa: E402
from env import SANITIZE, Authority, Env, Handoffd, KeyRing, proc_status, wait_for  # noqa: E402

MARK = "#" * 16  # where the prompt stands
TEXT = "\n\nThis is the demo backend of handoffd: no model was asked. Apache's worker has long been free."
SETTLE = 1.0  # seconds between the last first event and a measurement
MAX_STREAMS = 20000
MESSAGES = 18
SLOW_RATE, SLOW_MESSAGES = 20000, 20000
PAGE = os.sysconf("SC_PAGE_SIZE")
CAUSES = (("streams-lost", "handoffd_streams_lost_total", "gate"), ("peer-hung", "handoffd_peer_hung_total", "gate"),
          ("accept-too-late", "handoffd_accept_too_late_total", "streamer"),
          ("dials-failed", "handoffd_dials_failed_total", "streamer"),
          ("breaker-refused", "handoffd_breaker_refused_total", "streamer"))


@dataclasses.dataclass(frozen=True)
class Variant:
    backend: str = "demo"   # or bare, h1, h1-tls, h2
    streams: int = 10000
    seconds: float = 10     # of the ramp; 0: all at once
    gap: int = 1000         # milliseconds between two messages
    workers: int = 1        # streamers
    processes: int = 2      # that are clients
    caged: bool = True
    relayed: bool = False
    words: int = 0          # of the prompt, beyond the stream's own
    window: bool = False    # CPU a chunk, while all streams are open
    dense: int = 0          # messages without time between them, instead of 18
    leave: bool = False     # all clients at once, when all have got their first data
    slow: int = 0           # clients more, that read SLOW_RATE bytes a second of SLOW_MESSAGES messages


VARIANTS = {
    "demo 10000": Variant(),
    "bare 10000": Variant("bare"),
    "demo 10000 uncaged": Variant(caged=False),
    "demo 10000 relayed": Variant(relayed=True),
    "demo 10000 at once": Variant(seconds=0, processes=4),
    "bare 10000 at once": Variant("bare", seconds=0, processes=4),
    "demo 100000": Variant(streams=100000, seconds=100, gap=8000, workers=6, processes=6),
    "h1 5000": Variant("h1", streams=5000),
    "h1-tls 5000": Variant("h1-tls", streams=5000),
    "h2 5000": Variant("h2", streams=5000),
    "h2 5000 uncaged": Variant("h2", streams=5000, caged=False),
    "h2 10000": Variant("h2"),
    "h2 5000 at once": Variant("h2", streams=5000, seconds=0, processes=4),
    "h2 dense": Variant("h2", streams=1000, seconds=5, dense=300),
    "h2 1000 leave": Variant("h2", streams=1000, seconds=1, leave=True),
    "h2 1000": Variant("h2", streams=1000, seconds=1),
    "h2 1000 beside 10 slow": Variant("h2", streams=1000, seconds=1, slow=10),
    # The same number of chunks a second from ever more streams.
    "chunk 1000": Variant(streams=1000, seconds=1, gap=100, words=182, window=True),
    "chunk 10000": Variant(streams=10000, seconds=5, gap=1000, words=22, window=True),
    "chunk 100000": Variant(streams=100000, seconds=60, gap=10000, workers=6, processes=6, window=True),
}


def demo_body(prompt: str) -> str:
    """What a client of the demo backend gets: each word an event."""
    words = re.findall(r"\s*\S+", prompt) + re.findall(r"\s*\S+", TEXT)
    return "".join(f"data: {json.dumps({'content': word}, separators=(',', ':'))}\n\n" for word in words) + \
        "data: [DONE]\n\n"


def openai_body(prompt: str, messages: int) -> str:
    """What upstream.c makes them get."""
    words = [prompt] + [f" word {number}" for number in range(1, messages)]
    return "".join(f'data: {{"content":"{word}"}}\n\n' for word in words) + "data: [DONE]\n\n"


class Programs:
    """The C parts."""

    def __init__(self, env: Env):
        self.env = env
        library = [env.build / "liblib.a", "-lsodium"]
        self.clients = self._compile("stream_clients", ["stream_clients.c", "offer.c", "answer.c"], library)
        self.bare = self._compile("bare", ["bare.c", "answer.c"], library)
        self.upstream = self._compile("upstream", ["upstream.c", "upstream_h2.c"], ["-lnghttp2", "-lssl", "-lcrypto"])
        self.uncaged = self._compile("uncaged.so", ["uncaged.c"], [], "-fPIC", "-shared")

    def _compile(self, name: str, sources: list, libraries: list, *flags) -> pathlib.Path:
        out = self.env.state / name
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}",
                        *(["-fsanitize=address,undefined"] if SANITIZE else []), *flags, "-o", out,
                        *(HERE / source for source in sources), *libraries], check=True)
        return out

    def uncaged_roles(self) -> pathlib.Path:
        """A folder of programs that start with uncaged.so: the roles, and the supervisor whose cage they get."""
        folder = self.env.folder("uncaged")
        for program in self.env.bin.iterdir():
            wrapper = folder / program.name
            wrapper.write_text(f"#!/bin/sh\nLD_PRELOAD={shlex.quote(str(self.uncaged))} "
                               f"exec {shlex.quote(str(program))} \"$@\"\n")
            wrapper.chmod(0o755)
        return folder


# ---------------------------------------------------------------- what is measured

def user_memory(pids) -> dict:
    """Bytes of RSS and PSS."""
    total = {"rss": 0, "pss": 0}
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name.lower() in total:
                total[name.lower()] += int(rest.split()[0]) * 1024
    return total


def kernel_memory() -> int:
    """Bytes of slab and TCP buffers of the machine."""
    slab = re.search(r"^Slab:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    tcp = re.search(r"^TCP: .* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.M)
    return int(slab[1]) * 1024 + int(tcp[1]) * PAGE


class Upstream:
    """upstream.c."""

    def __init__(self, env: Env, programs: Programs, variant: Variant):
        arguments, self.options = [], {"max-connections": 20000}
        if variant.backend != "h1":
            authority = Authority(env)
            certificate, key = authority.issue("IP:127.0.0.1")
            arguments = ["-c", certificate, "-k", key]
            self.options["ca-file"] = str(authority.ca_file)
        if variant.backend == "h2":
            arguments.append("-2")
            self.options["http"] = "2"
        self.process = subprocess.Popen([programs.upstream, "-n", str(MESSAGES), "-g", str(variant.gap),
                                         "-d", str(variant.dense or SLOW_MESSAGES), *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.options["url"] = f"http{'s' if arguments else ''}://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def seen(self) -> dict:
        """What upstream.c has counted."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.communicate()


class Receiver:
    """handoffd, or bare.c: something with a socket that takes handoffs."""

    def __init__(self, env: Env, programs: Programs, variant: Variant, body: pathlib.Path):
        self.variant, self.keys = variant, KeyRing(env)
        self.daemon = self.bare = self.upstream = None
        if variant.backend == "bare":
            self.path = env.folder("bare") / "bare.sock"
            body.write_text(text_of(variant))
            self.bare = env.start([programs.bare, self.path, body, variant.gap], env.state / "bare.log",
                                  environment=env.sanitizer_environment())
            wait_for(self.path.exists)
        else:
            self.daemon = self._handoffd(env, programs)
            self.path = self.daemon.path()

    def _handoffd(self, env: Env, programs: Programs) -> Handoffd:
        variant = self.variant
        env_bin = env.bin
        if not variant.caged:
            env.bin = programs.uncaged_roles()
        try:
            common = {"workers": variant.workers, "max-streams": MAX_STREAMS, "keepalive": 0}
            backend, upstreams = {"type": "demo", "delay": variant.gap, **common}, {}
            if variant.backend != "demo":
                self.upstream = Upstream(env, programs, variant)
                backend = {"type": "openai", "upstream": "bench", "model": "bench", **common}
                upstreams = {"bench": self.upstream.options}
            daemon = Handoffd(env, {"answer": backend}, {"chat": {"backend": "answer", "relay": variant.relayed}},
                              upstreams, keys=self.keys, allow_peer=(os.geteuid(),))
        finally:
            env.bin = env_bin
        for pids in daemon.roles().values():
            for pid in pids:
                assert SANITIZE or proc_status(pid)["Seccomp"] == ("2" if variant.caged else "0")
        return daemon

    def pids(self) -> dict:
        return {"bare": [self.bare.popen.pid]} if self.bare else self.daemon.roles()

    def cpu(self) -> dict:
        return {role: cpu_ns(pids) / 1e9 for role, pids in self.pids().items()}

    def memory(self) -> dict:
        return {**user_memory(pid for pids in self.pids().values() for pid in pids), "kernel": kernel_memory()}

    def count(self, counter: str, role: str = "streamer") -> dict:
        """{label: the sum over all processes of a role}; label "" where there is none."""
        total, since, pids = collections.Counter(), self.daemon.log.position(), self.daemon.roles()[role]
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
        for pid in pids:
            self.daemon.log.wait(rf"handoffd-{role}\[{pid}\]: event=counter ", 10, since)
        time.sleep(0.05)  # the rest of them
        for line in self.daemon.log.find(rf"handoffd-{role}\[\d+\]: .*name={counter} ", since):
            fields = dict(re.findall(r"(\w+)=(\S+)", line))
            total[fields.get("label", "")] += int(fields["value"])
        return total

    def causes(self) -> dict:
        """What handoffd knows of streams that did not come whole, and of what happened to its processes."""
        time.sleep(SETTLE)
        found = collections.Counter()
        for role in ("gate", "streamer"):
            found.update(self.count("daemon_handoff_errors_total", role))
            found.update({"message-malformed": self.count("handoffd_message_malformed_total", role)[""]})
        found.update(self.count("handoffd_streams_total"))
        for cause, counter, role in CAUSES:
            found[cause] += self.count(counter, role)[""]
        for event in ("crashed", "exited", "hung", "killing", "peer-lost", "gate-disconnected", "dialer-lost"):
            found[f"log: {event}"] = len(self.daemon.log.find(rf"event={event}\b"))
        del found["done"]
        return {cause: number for cause, number in found.items() if number}

    def stop(self) -> None:
        if self.daemon:
            self.daemon.stop(20)
            if self.upstream:
                self.upstream.stop()
        else:
            self.bare.stop()


# ---------------------------------------------------------------- a run

def window(receiver: Receiver, seconds: float) -> dict:
    """CPU of the streamers for each chunk, over so many seconds."""
    time.sleep(SETTLE)
    chunks, cpu = receiver.count("daemon_chunks_sent_total")[""], receiver.cpu()["streamer"]
    time.sleep(seconds)
    cpu = receiver.cpu()["streamer"] - cpu
    chunks = receiver.count("daemon_chunks_sent_total")[""] - chunks
    return {"chunk": cpu / chunks * 1e6, "chunks": chunks / seconds}


class Clients:
    """stream_clients.c."""

    def __init__(self, env: Env, programs: Programs, receiver: Receiver, streams: int, text: str, *more):
        body = env.folder("body") / "body"
        body.write_text(text)
        self.line = ""
        arguments = [programs.clients, "-s", receiver.path, "-k", receiver.keys.file(), "-b", body, "-n", streams,
                     *more]
        self.process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, text=True,
                                        env=env.sanitizer_environment())

    def all_open(self) -> bool:
        """Once each stream has got its first data or has ended; False when some did neither."""
        self.line = self.process.stdout.readline()
        return self.line == "open\n"

    def result(self) -> dict:
        rest, _ = self.process.communicate()
        return json.loads((self.line + rest).splitlines()[-1])


def text_of(variant: Variant) -> str:
    """The body of a whole stream."""
    if variant.backend in ("demo", "bare"):
        return demo_body(MARK + " word" * variant.words)
    return openai_body(MARK, variant.dense or MESSAGES)


def after_leaving(receiver: Receiver, streams: int, left_at: float) -> dict:
    """How long the upstream took to see the last call given up."""
    deadline = time.monotonic() + 5
    while (seen := receiver.upstream.seen())["given_up"] < streams and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"given up": seen["given_up"], "given up ms": (seen["given_up_at"] - left_at) * 1000}


def run(env: Env, programs: Programs, variant: Variant) -> dict:
    text = text_of(variant)
    duration = 0 if variant.dense else (text.count("\n\n") - 2) * variant.gap / 1000
    receiver = Receiver(env, programs, variant, env.state / "bare-body")
    cpu, memory = receiver.cpu(), receiver.memory()
    slow = variant.slow and Clients(env, programs, receiver, variant.slow, openai_body(MARK, SLOW_MESSAGES),
                                    "-m", "dense-", "-R", SLOW_RATE, "-w", 120)
    more = ["-t", variant.seconds, "-p", variant.processes, "-w", duration + 30, "-x", " word" * variant.words,
            *(["-r"] if variant.relayed else []), *(["-m", "dense-"] if variant.dense else []),
            *(["-l", 1000] if variant.leave else [])]
    clients, result = Clients(env, programs, receiver, variant.streams, text, *more), {}
    if clients.all_open():
        time.sleep(0.2)
        result = {name: (value - memory[name]) / variant.streams for name, value in receiver.memory().items()}
        if variant.window:
            result.update(window(receiver, min(duration - variant.seconds - 2 * SETTLE - 0.5, 20)))
    result.update(clients.result())
    if result["whole"] + result["left"] < variant.streams and receiver.daemon:
        result["causes"] = receiver.causes()
    if variant.leave:
        result.update(after_leaving(receiver, variant.streams, result["left_at"]))
    result.update(receiver=sum(receiver.cpu().values()) - sum(cpu.values()),
                  **{f"cpu {role}": seconds - cpu[role] for role, seconds in receiver.cpu().items()})
    if slow:
        result["slow whole"] = slow.result()["whole"]
        result["pauses"] = receiver.count("handoffd_pauses_total")[""]
    receiver.stop()
    return result


# ---------------------------------------------------------------- tables

def show(runs: list, pick, digits: int = 0) -> str:
    """Median, and in brackets the lowest and the highest."""
    values = sorted(value for run in runs if (value := pick(run)) is not None)
    if not values:
        return ""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"


def times(name: str):
    """p50 / p99 / p999 of the medians."""
    return lambda runs: " / ".join(f"{statistics.median(run[name].get(part, 0) for run in runs):.2f}"
                                   for part in ("p50", "p99", "p999"))


OTHER_ENDS = ("hung", "wrong", "cut", "refused", "unanswered", "left")
COLUMNS = {
    "whole": lambda runs: str(sum(run["whole"] for run in runs)),
    "other": lambda runs: ", ".join(f"{total} {name}" for name in OTHER_ENDS
                                    if (total := sum(run[name] for run in runs))) or "none",
    "handoffd says": lambda runs: ", ".join(
        f"{number} {cause}" for cause, number in sum((collections.Counter(run.get("causes", {})) for run in runs),
                                                     collections.Counter()).items()),
    "handoffs/s": lambda runs: show(runs, lambda run: run["rate"]),
    "first byte ms": times("first_byte"),
    "first line ms": times("first_line"),
    "from due ms": times("from_due"),
    "RSS B": lambda runs: show(runs, lambda run: run.get("rss")),
    "PSS B": lambda runs: show(runs, lambda run: run.get("pss")),
    "kernel KiB": lambda runs: show(runs, lambda run: run["kernel"] / 1024 if "kernel" in run else None, 1),
    "CPU s": lambda runs: show(runs, lambda run: run["receiver"], 2),
    "gate": lambda runs: show(runs, lambda run: run.get("cpu gate"), 2),
    "streamer": lambda runs: show(runs, lambda run: run.get("cpu streamer"), 2),
    "chunk us": lambda runs: show(runs, lambda run: run.get("chunk"), 1),
    "dialer": lambda runs: show(runs, lambda run: run.get("cpu dialer") or None, 2),
    "silence ms": times("silence"),
    "slow whole": lambda runs: show(runs, lambda run: run.get("slow whole")),
    "given up": lambda runs: show(runs, lambda run: run.get("given up")),
    "last after ms": lambda runs: show(runs, lambda run: run.get("given up ms")),
    "clients CPU s": lambda runs: show(runs, lambda run: run["cpu"], 2),
}


def table(results: dict) -> str:
    cells = {name: {column: make(runs) for column, make in COLUMNS.items()} for name, runs in results.items() if runs}
    used = [column for column in COLUMNS if any(row[column] for row in cells.values())]
    lines = [f"| | {' | '.join(used)} |", "|---" * (len(used) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row[column] for column in used)} |" for name, row in cells.items()]
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"with commas between: {', '.join(VARIANTS)}")
    return parser.parse_args()


def main() -> None:
    options, env = arguments(), Env()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = options.only.split(",") if options.only else list(VARIANTS)
    results = {name: [] for name in names}
    print(f"{options.rounds} rounds, {os.cpu_count()} cores, Linux {os.uname().release}, "
          f"load {os.getloadavg()[0]:.1f} at the start", flush=True)
    try:
        programs = Programs(env)
        for _ in range(options.rounds):
            for name in random.sample(names, len(names)):
                results[name].append(run(env, programs, VARIANTS[name]))
                print(name, json.dumps(results[name][-1]), file=sys.stderr, flush=True)
    finally:
        env.close()
        print(table(results))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
