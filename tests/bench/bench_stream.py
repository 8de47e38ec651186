#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What streams cost once they are handed off, from the gate on: tables, nothing is asserted but that the bytes are right.
docs/performance.md has results and what they mean.

    make bench-stream                                                       the demo and openai tables, some 40 minutes
    BUILD=build tests/bench/bench_stream.py --rounds 3 --only "demo 10000,bare 10000"

stream_clients.c is the module and its clients, upstream.c the service behind the openai backend, bare.c the least that
could answer. All variants named run once a round, in another order each time; shown are medians over the rounds with the
lowest and the highest. CPU is what the scheduler accounts to a process. Memory is the growth of RSS and PSS of all
handoffd's processes at the moment when all streams are open; kernel memory that of the whole machine (slab and TCP
buffers), in which the clients' ends are.
"""
import argparse
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
from env import SANITIZE, Env, Handoffd, KeyRing, proc_status, wait_for  # noqa: E402

MARK = "#" * 16  # where the prompt stands
TEXT = "\n\nThis is the demo backend of handoffd: no model was asked. Apache's worker has long been free."
SETTLE = 1.0  # seconds between the last first event and a measurement
MAX_STREAMS = 20000
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Variant:
    backend: str = "demo"   # or bare
    streams: int = 10000
    seconds: float = 10     # of the ramp; 0: all at once
    gap: int = 1000         # milliseconds between two messages
    workers: int = 1        # streamers
    processes: int = 2      # that are clients
    caged: bool = True
    relayed: bool = False
    words: int = 0          # of the prompt, beyond the stream's own
    window: bool = False    # CPU a chunk, while all streams are open


VARIANTS = {
    "demo 10000": Variant(),
    "bare 10000": Variant("bare"),
    "demo 10000 uncaged": Variant(caged=False),
    "demo 10000 relayed": Variant(relayed=True),
    "demo 10000 at once": Variant(seconds=0, processes=4),
    "bare 10000 at once": Variant("bare", seconds=0, processes=4),
    "demo 100000": Variant(streams=100000, seconds=60, gap=6000, workers=6, processes=6),
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


class Programs:
    """The C parts."""

    def __init__(self, env: Env):
        self.env = env
        library = [env.build / "liblib.a", "-lsodium"]
        self.clients = self._compile("stream_clients", ["stream_clients.c", "offer.c", "answer.c"], library)
        self.bare = self._compile("bare", ["bare.c", "answer.c"], library)
        self.uncaged = self._compile("uncaged.so", ["uncaged.c"], [], "-fPIC", "-shared")

    def _compile(self, name: str, sources: list, libraries: list, *flags) -> pathlib.Path:
        out = self.env.state / name
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}",
                        *(["-fsanitize=address,undefined"] if SANITIZE else []), *flags, "-o", out,
                        *(HERE / source for source in sources), *libraries], check=True)
        return out

    def uncaged_roles(self) -> pathlib.Path:
        """A folder of roles that are started with uncaged.so."""
        folder = self.env.folder("uncaged")
        for program in self.env.bin.iterdir():
            wrapper = folder / program.name
            preload = f"LD_PRELOAD={shlex.quote(str(self.uncaged))} " if program.name.startswith("handoffd-") else ""
            wrapper.write_text(f"#!/bin/sh\n{preload}exec {shlex.quote(str(program))} \"$@\"\n")
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


class Receiver:
    """handoffd, or bare.c: something with a socket that takes handoffs."""

    def __init__(self, env: Env, programs: Programs, variant: Variant, body: pathlib.Path):
        self.variant, self.keys = variant, KeyRing(env)
        self.daemon = self.bare = None
        if variant.backend == "bare":
            self.path = env.folder("bare") / "bare.sock"
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
            daemon = Handoffd(env, {"demo": {"type": "demo", "delay": variant.gap, "workers": variant.workers,
                                             "max-streams": MAX_STREAMS, "keepalive": 0}},
                              {"chat": {"backend": "demo", "relay": variant.relayed}}, keys=self.keys,
                              allow_peer=(os.geteuid(),))
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

    def chunks(self) -> int:
        """Events sent so far."""
        total, since, pids = 0, self.daemon.log.position(), self.daemon.roles()["streamer"]
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
        for pid in pids:
            line = self.daemon.log.wait(rf"handoffd-streamer\[{pid}\]: .*name=daemon_chunks_sent_total value=", 10,
                                        since)[0]
            total += int(re.search(r"value=(\d+)", line)[1])
        return total

    def stop(self) -> None:
        if self.daemon:
            self.daemon.stop(20)
        else:
            self.bare.stop()


# ---------------------------------------------------------------- a run

def window(receiver: Receiver, seconds: float) -> dict:
    """CPU of the streamers for each chunk, over so many seconds."""
    time.sleep(SETTLE)
    chunks, cpu = receiver.chunks(), receiver.cpu()["streamer"]
    time.sleep(seconds)
    cpu = receiver.cpu()["streamer"] - cpu
    chunks = receiver.chunks() - chunks
    return {"chunk": cpu / chunks * 1e6, "chunks": chunks / seconds}


def run(env: Env, programs: Programs, variant: Variant) -> dict:
    body = env.state / "body"
    more = " word" * variant.words
    text = demo_body(MARK + more)
    body.write_text(text)
    duration = (text.count("\n\n") - 2) * variant.gap / 1000
    receiver = Receiver(env, programs, variant, body)
    cpu, memory = receiver.cpu(), receiver.memory()
    arguments = [programs.clients, "-s", receiver.path, "-k", receiver.keys.file(), "-b", body, "-n", variant.streams,
                 "-t", variant.seconds, "-p", variant.processes, "-w", duration + 30, "-x", more, *(["-r"] if variant.relayed else [])]
    with subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, text=True,
                          env=env.sanitizer_environment()) as clients:
        first = clients.stdout.readline()
        result = {}
        if first == "open\n":
            time.sleep(0.2)
            result = {name: (value - memory[name]) / variant.streams for name, value in receiver.memory().items()}
            if variant.window:
                result.update(window(receiver, min(duration - variant.seconds - 2 * SETTLE - 0.5, 20)))
        loads = json.loads(clients.stdout.readline() if first == "open\n" else first)
    result.update(loads, receiver=sum(receiver.cpu().values()) - sum(cpu.values()),
                  **{f"cpu {role}": seconds - cpu[role] for role, seconds in receiver.cpu().items()})
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


COLUMNS = {
    "whole": lambda runs: str(sum(run["whole"] for run in runs)),
    "other": lambda runs: ", ".join(f"{total} {name}" for name in ("hung", "wrong", "cut", "refused", "unanswered", "left")
                                    if (total := sum(run[name] for run in runs))) or "none",
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
    "clients CPU s": lambda runs: show(runs, lambda run: run["cpu"], 2),
}


def table(results: dict) -> str:
    cells = {name: {column: make(runs) for column, make in COLUMNS.items()} for name, runs in results.items() if runs}
    used = [column for column in COLUMNS if any(row[column] for row in cells.values())]
    lines = [f"| | {' | '.join(used)} |", "|---" * (len(used) + 1) + "|"]
    return "\n".join(lines + [f"| {name} | {' | '.join(row[column] for column in used)} |" for name, row in cells.items()])


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
    print(f"{options.rounds} rounds, {os.cpu_count()} cores, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f} at the "
          "start", flush=True)
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
