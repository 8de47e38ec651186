#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a handoff costs, through a real Apache: a table, nothing is asserted.

    BUILD=build tests/bench/bench_handoff.py [requests a run] [rounds]

16 clients (ab, from apache2-utils), a new connection for each request, as a handoff always ends one. The variants run
interleaved, round by round, and medians over the rounds are shown, so that a busy moment of the machine hits all alike.
CPU is user and system time of Apache (with php-fpm) and of handoffd's processes, divided by the requests.

    static          a file by mod_asis, the least Apache can do
    raw             the same file with X-Socket-Handoff: raw handoff without token to a sink that answers at once
    php             php-fpm answers
    php raw         php-fpm answers with X-Socket-Handoff: raw handoff without token to the sink
    php signs       php-fpm signs with the php/ package and then answers itself: what signing costs
    php verified    php-fpm signs; module and gate verify; the streamer accepts and sends only a head (HEAD request)
    php stream      the same with GET: the demo's whole stream of some 18 events, each a write of its own
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from env import AS_ROOT, Apache, Env, Handoffd, PhpFpm, descendants, request  # noqa: E402

CLIENTS = 16
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids) -> float:
    """User and system time of these processes and their ended children."""
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICK


class Bench:
    def __init__(self, env: Env, requests: int):
        self.env, self.requests = env, requests
        sink = env.state / "sink"
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-D_GNU_SOURCE", "-o", sink, HERE / "sink.c"], check=True)
        self.sink_path = env.state / "sink.sock"
        self.sink = env.start([sink, self.sink_path], env.state / "sink.log")
        self.daemon = Handoffd(env, {"demo": {"type": "demo", "delay": 0}})
        self.fpm = PhpFpm(env, children_max=8)
        self.apache = Apache(env, php="fpm", fpm=self.fpm, keys=self.daemon.keys, workers=50, modules=("asis",),
                             log_level="warn", conf=f"""AddHandler send-as-is asis
<LocationMatch "raw">
SocketHandoffProtocol raw
SocketHandoffRequireToken Off
</LocationMatch>
SocketHandoffPeer 0 64200
""" if AS_ROOT else "")
        self.apache.page("static.asis", "Content-Type: text/plain\n\nok\n")
        self.apache.page("raw.asis", f"Content-Type: text/plain\nX-Socket-Handoff: {self.sink_path}\n\nok\n")
        self.apache.page("plain.php", "<?php header('Content-Type: text/plain'); echo \"ok\\n\";")
        self.apache.page("raw.php", f"<?php header('X-Socket-Handoff: {self.sink_path}');")
        self.apache.page("signs.php", f"""<?php
require '{env.php_src}/autoload.php';
(new Handoffd\\Signer('{self.daemon.keys.file(self.apache.php_uid)}'))->token('{self.daemon.path()}', '{{"prompt":"x"}}');
header('Content-Type: text/plain');
echo "ok\\n";
""")
        self.apache.chat_page(self.daemon)

    def variants(self) -> dict:
        return {"static": "/static.asis", "raw": "/raw.asis", "php": "/plain.php", "php raw": "/raw.php",
                "php signs": "/signs.php", "php verified": "/chat.php?prompt=x", "php stream": "/chat.php?prompt=x"}

    def run(self, name: str, target: str) -> dict:
        apache = [self.apache.process.pid, *descendants(self.apache.process.pid), self.fpm.process.pid,
                  *descendants(self.fpm.process.pid)]
        daemon = [self.sink.pid, *descendants(self.daemon.process.pid)]
        before, table = (cpu_seconds(apache), cpu_seconds(daemon)), self.env.state / "ab.csv"
        head = ["-i"] if name == "php verified" else []
        done = subprocess.run(["ab", "-q", "-l", *head, "-n", str(self.requests), "-c", str(CLIENTS), "-e", table,
                               self.apache.url + target], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr}")
        failed = [int(number) for number in re.findall(r"(?:Failed requests|Non-2xx responses):\s+(\d+)", done.stdout)]
        if sum(failed):
            print(f"{name}: {sum(failed)} of {self.requests} failed", file=sys.stderr)
        percentiles = dict(line.split(",") for line in table.read_text().splitlines()[1:])
        return {"rate": float(re.search(r"Requests per second:\s+([\d.]+)", done.stdout)[1]),
                "p50": float(percentiles["50"]), "p99": float(percentiles["99"]),
                "apache": (cpu_seconds(apache) - before[0]) / self.requests * 1e6,
                "daemon": (cpu_seconds(daemon) - before[1]) / self.requests * 1e6}

    def stop(self):
        for part in (self.apache, self.fpm, self.daemon, self.sink):
            part.stop()


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if not shutil.which("ab"):
        raise SystemExit("ab is not installed (Debian: apache2-utils)")
    env = Env()
    try:
        bench = Bench(env, requests)
        results = {name: [] for name in bench.variants()}
        for name, target in bench.variants().items():
            answer = request(bench.apache.port, target)
            if answer.status != 200:
                raise SystemExit(f"{name}: {answer.raw[:200]!r}\n" + "\n".join(bench.apache.error_log.lines()[-5:]))
        for _ in range(rounds):
            for name, target in bench.variants().items():
                results[name].append(bench.run(name, target))
        print(f"{CLIENTS} clients, {requests} requests a run, median of {rounds} interleaved runs, {os.cpu_count()} cores\n")
        print(f"{'':14}{'req/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'Apache us':>11}{'daemon us':>11}")
        for name, runs in results.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(f"{name:14}{median['rate']:8.0f}{median['p50']:9.2f}{median['p99']:9.2f}{median['apache']:11.0f}"
                  f"{median['daemon']:11.0f}")
        bench.stop()
    finally:
        env.close()


if __name__ == "__main__":
    main()
