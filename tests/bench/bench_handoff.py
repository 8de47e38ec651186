#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a handoff costs, through a real Apache: tables, nothing is asserted. docs/performance.md has results and what
they mean.

    make bench                                                     everything, some minutes
    BUILD=build tests/bench/bench_handoff.py --mpm event --clients 16 --rounds 5 --only "no module,raw,verified"

A new connection for each request, as a handoff always ends one (clients.c). All variants run once a round, in another
order each time, so that a busy moment of the machine hits all alike; shown are medians over the rounds with the
quartiles. CPU is what the scheduler accounts to Apache's threads (with php-fpm's) and to the processes behind it,
divided by the requests.

    no module      three bytes of text by a C handler (mod_bench.c); mod_socket_handoff is not loaded
    off            the same; the module is loaded, the handoff is off here
    on             the same; the handoff is on here, but the handler does not ask for it
    original       the original module, when --original names a build of it; to sink.c
    raw            raw mode without token or peer check, as the original module does it; to sink.c
    raw+token      raw mode, signed and verified; to sink.c
    verified       handoff/1, signed and verified, accepted; to sink.c
    daemon         handoff/1 to the real gate and streamer (demo backend), HEAD: only a head is sent
    stream         the same with GET: the demo's whole answer, some 20 events, each a write of its own
    php ...        the same with PHP (php-fpm) in the place of the C handler

The original module is not part of this project. Who has its source builds it outside of the tree and passes the result:

    apxs -c mod_socket_handoff.c
    tests/bench/bench_handoff.py --original /elsewhere/.libs/mod_socket_handoff.so --only "no module,original,raw,verified"
"""
import argparse
import json
import os
import pathlib
import random
import shlex
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "integration"))

from env import AS_ROOT, UID_GATE, Apache, Env, Handoffd, PhpFpm, descendants, request  # noqa: E402

WARM_UP = 200
WORKERS = {"event": "ThreadsPerChild 25\nServerLimit 2\nStartServers 2\nMinSpareThreads 50\nMaxSpareThreads 50\n"
                    "MaxRequestWorkers 50\n",
           "prefork": "StartServers 24\nMinSpareServers 24\nMaxSpareServers 24\nMaxRequestWorkers 24\n"}


def output(*command) -> list:
    return shlex.split(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cpu_ns(pids) -> int:
    """Time on a processor of all threads of these processes."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                pass
    return total


class Programs:
    """The C parts, compiled with the flags of this machine's httpd."""

    def __init__(self, env: Env):
        compiler = [os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}"]
        library = [env.build / "liblib.a", "-lsodium"]
        apache = [*output("apr-1-config", "--includes", "--cppflags"), "-I" + output("apxs", "-q", "INCLUDEDIR")[0]]
        self.sink, self.clients, self.module = (env.state / name for name in ("sink", "clients", "mod_bench.so"))
        subprocess.run([*compiler, "-o", self.sink, HERE / "sink.c", *library], check=True)
        subprocess.run([*compiler, "-o", self.clients, HERE / "clients.c"], check=True)
        subprocess.run([*compiler, *apache, "-fPIC", "-shared", "-o", self.module, HERE / "mod_bench.c", *library],
                       check=True)


class Bench:
    """Apaches of one MPM, with the module, without and with the original, and all that is behind them."""

    def __init__(self, env: Env, programs: Programs, mpm: str, original: pathlib.Path):
        self.env, self.programs = env, programs
        folder = env.folder("sinks")
        self.raw_path, self.sink_path = folder / "raw.sock", folder / "handoff.sock"
        self.sinks = [env.start([programs.sink, kind, path], env.state / "sink.log")
                      for kind, path in (("raw", self.raw_path), ("handoff", self.sink_path))]
        self.daemon = Handoffd(env, {"demo": {"type": "demo", "delay": 0}})
        self.fpm = PhpFpm(env, children_max=8)
        keys = self.daemon.keys
        common = f"LoadModule bench_module {programs.module}\nBenchKeyFile {keys.file(0)}\n{WORKERS[mpm]}" \
            "<Location /off>\nSetHandler bench-plain\n</Location>\n"
        how = {"php": "fpm", "fpm": self.fpm, "log_level": "warn", "keys": keys, "peer": None}
        self.without = Apache(env, mpm, handoff=False, conf=common, **how)
        self.original = original and Apache(env, mpm, handoff=False, conf=common + self._original(original), **how)
        self.apache = Apache(env, mpm, conf=common + self._sections(), **how)
        self._pages(keys.file(self.apache.php_uid))

    def _original(self, module: pathlib.Path) -> str:
        return f"LoadModule socket_handoff_module {module}\nSocketHandoffAllowedPrefix {self.env.state}/\n" \
            f"<Location /raw>\nSetHandler bench-raw\nBenchSocket {self.raw_path}\n</Location>\n"

    def _sections(self) -> str:
        peer = f"SocketHandoffPeer 0 {UID_GATE}" if AS_ROOT else f"SocketHandoffPeer {UID_GATE}"
        raw = "SocketHandoffProtocol raw"
        bare = f"{raw}\nSocketHandoffRequireToken Off"
        sections = [("on", "bench-plain", peer), ("raw", "bench-raw", bare), ("sink", "bench-signed", peer),
                    ("raw-token", "bench-signed", f"{raw}\n{peer}"), ("daemon", "bench-signed", peer)]
        paths = {"raw": self.raw_path, "raw-token": self.raw_path, "daemon": self.daemon.path()}
        text = "SocketHandoffEnabled Off\n"
        for name, handler, lines in sections:
            text += f"<Location /{name}>\nSetHandler {handler}\nBenchSocket {paths.get(name, self.sink_path)}\n" \
                f"SocketHandoffEnabled On\n{lines}\n</Location>\n"
        for name, lines in (("php-raw", bare), ("php-sink", peer), ("php-daemon", peer)):
            text += f"<Location /{name}>\nSocketHandoffEnabled On\n{lines}\n</Location>\n"
        return text

    def _pages(self, keys) -> None:
        self.apache.page("php/page.php", "<?php header('Content-Type: text/plain'); echo \"ok\\n\";")
        for apache in filter(None, (self.apache, self.original)):
            apache.page("php-raw/page.php", f"<?php header('X-Socket-Handoff: {self.raw_path}');"
                        "header('X-Handoff-Data: {\"prompt\":\"x\"}');")
        for name, path in (("php-sink", self.sink_path), ("php-daemon", self.daemon.path())):
            self.apache.page(f"{name}/page.php", f"<?php\nrequire '{self.env.php_src}/autoload.php';\n"
                             f"$handoff = new Handoffd\\Handoff(new Handoffd\\Signer('{keys}'));\n"
                             f"$handoff->send('{path}', '{{\"prompt\":\"x\"}}');\n")

    def variants(self) -> dict:
        """name: (Apache, target, method)"""
        original = {"original": (self.original, "/raw", "GET"),
                    "php original": (self.original, "/php-raw/page.php", "GET")} if self.original else {}
        return {"no module": (self.without, "/off", "GET"), "off": (self.apache, "/off", "GET"),
                "on": (self.apache, "/on", "GET"), **original, "raw": (self.apache, "/raw", "GET"),
                "raw+token": (self.apache, "/raw-token", "GET"), "verified": (self.apache, "/sink", "GET"),
                "daemon": (self.apache, "/daemon", "HEAD"), "stream": (self.apache, "/daemon", "GET"),
                "php": (self.apache, "/php/page.php", "GET"), "php raw": (self.apache, "/php-raw/page.php", "GET"),
                "php verified": (self.apache, "/php-sink/page.php", "GET"),
                "php daemon": (self.apache, "/php-daemon/page.php", "HEAD"),
                "php stream": (self.apache, "/php-daemon/page.php", "GET")}

    def load(self, name: str, clients: int, requests: int) -> dict:
        apache, target, method = self.variants()[name]
        done = subprocess.run([self.programs.clients, str(apache.port), target, str(clients), str(requests), method],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr}\n" + "\n".join(apache.error_log.lines()[-5:]))
        return json.loads(done.stdout)

    def run(self, name: str, clients: int, requests: int) -> dict:
        apache = self.variants()[name][0]
        front = [apache.process.pid, *descendants(apache.process.pid), *descendants(self.fpm.process.pid)]
        back = [*(sink.pid for sink in self.sinks), *descendants(self.daemon.process.pid)]
        before = cpu_ns(front), cpu_ns(back)
        result = self.load(name, clients, requests)
        if result["wrong"]:
            print(f"{name}: {result['wrong']} of {requests} answers were wrong", file=sys.stderr)
        return {"rate": requests / result["seconds"], "p50": result["p50"], "p99": result["p99"],
                "apache": (cpu_ns(front) - before[0]) / requests / 1000,
                "behind": (cpu_ns(back) - before[1]) / requests / 1000,
                "clients": result["cpu"] / requests * 1e6}

    def check(self, names) -> None:
        for name in names:
            apache, target, method = self.variants()[name]
            answer = request(apache.port, target, method=method)
            if answer.status != 200:
                raise SystemExit(f"{name}: {answer.raw[:200]!r}\n" + "\n".join(apache.error_log.lines()[-5:]))
            self.load(name, 4, WARM_UP)

    def stop(self):
        for part in filter(None, (self.apache, self.without, self.original, self.fpm, self.daemon, *self.sinks)):
            part.stop()


def show(runs: list, key: str, digits: int) -> str:
    """Median and quartiles."""
    values = sorted(run[key] for run in runs)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def compare(runs: list, first: list, key: str) -> str:
    """Difference to the first variant in percent, round by round: the median and its 95 % interval."""
    if runs is first:
        return ""
    ratios = sorted(100 * (run[key] / other[key] - 1) for run, other in zip(runs, first))
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return f"{middle:+.1f} % ± {1.57 * (high - low) / len(ratios) ** 0.5:.1f}"


def table(mpm: str, clients: int, results: dict) -> str:
    lines = [f"\n### {mpm}, {clients} client{'s' * (clients > 1)}\n",
             "| | requests/s | p50 us | p99 us | Apache us | against the first | behind it us | clients us |",
             "|---|---|---|---|---|---|---|---|"]
    first = next(iter(results.values()))
    for name, runs in results.items():
        cells = [show(runs, key, 0 if key in ("rate", "p50", "p99") else 1)
                 for key in ("rate", "p50", "p99", "apache", "behind", "clients")]
        cells.insert(4, compare(runs, first, "apache"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mpm", default="event,prefork")
    parser.add_argument("--clients", default="1,16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--only", default="", help="names of variants, with commas between; the first is compared with")
    parser.add_argument("--original", type=pathlib.Path, metavar="MODULE.SO", help="a build of the original module")
    parser.add_argument("--cpu", type=int, help="everything on this processor: slower, but the steadiest CPU times")
    return parser.parse_args()


def measure(env: Env, programs: Programs, mpm: str, options) -> None:
    bench = Bench(env, programs, mpm, options.original)
    names = options.only.split(",") if options.only else list(bench.variants())
    bench.check(names)
    for clients in map(int, options.clients.split(",")):
        results = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in random.sample(names, len(names)):
                results[name].append(bench.run(name, clients, options.requests))
        print(table(mpm, clients, results), flush=True)
    bench.stop()


def main() -> None:
    options, env = arguments(), Env()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    print(f"{options.requests} requests a run, {options.rounds} rounds, {os.cpu_count()} cores, "
          f"Linux {os.uname().release}, load {os.getloadavg()[0]:.1f} at the start", flush=True)
    try:
        programs = Programs(env)
        for mpm in options.mpm.split(","):
            measure(env, programs, mpm, options)
    finally:
        env.close()
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
