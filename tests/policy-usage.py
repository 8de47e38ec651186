#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which grants of the policies a run of the tests made no use of.

    HANDOFF_TRACE=DIRECTORY pytest tests/integration/test_e2e_*.py ...       # each handoffd runs under strace
    tests/policy-usage.py DIRECTORY

Prints what no process of a role has used since its cage closed. A line that stays all the same says why in its reason,
beginning with "seldom:"; any other one makes the exit status 1.
"""
import collections
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOOL = ROOT / (os.environ.get("BUILD") or "build") / "bin/handoff-policy"
ROLES = ("gate", "streamer", "dialer")
CALL = re.compile(r"^(\w+)\(([^)]*)\)? *(?:=|<unfinished|$)")
# strace's names of calls that have others in the kernel's table.
NAMES = {"pread": "pread64", "sendfile": "sendfile64"}


def calls_of(trace: pathlib.Path):
    """(role, {"name arg arg", ...}) of one process, from its last seccomp() on; role None: it is none."""
    role, calls = None, set()
    for line in trace.read_text(errors="replace").splitlines():
        started = re.match(r'execve\("[^"]*/handoffd-(\w+)"', line)
        if started:
            role, calls = started[1], set()
            continue
        match = CALL.match(line)
        if match is None:
            continue
        name, arguments = NAMES.get(match[1], match[1]), match[2].replace(",", " ").split()
        if name == "seccomp":
            calls = set()
            continue
        calls.add(" ".join([name, *(word for word in arguments if re.fullmatch(r"0x[0-9a-f]+|\d+", word))]))
    return role, calls


def unused_of(role: str, calls: set) -> list:
    text = "".join(line + "\n" for line in sorted(calls))
    result = subprocess.run([TOOL, "-b", "unused", role], input=text, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        sys.exit(result.stderr)
    return result.stdout.splitlines()


def main(folder: str) -> int:
    used = collections.defaultdict(set)
    for trace in pathlib.Path(folder).iterdir():
        role, calls = calls_of(trace)
        used[role] |= calls
    missing = [role for role in ROLES if not used[role]]
    if missing:
        sys.exit(f"no trace of {missing} in {folder}")
    unused = {role: unused_of(role, used[role]) for role in ROLES}
    # What the roles have in common one of them has to use.
    shared = set.intersection(*map(set, unused.values()))
    found = [("all", line) for line in sorted(shared)]
    found += [(role, line) for role in ROLES for line in unused[role] if not line.startswith("libc.")]
    unexplained = 0
    for role, line in found:
        explained = "# seldom:" in line
        unexplained += not explained
        print(f"{role}: {'explained' if explained else 'NOT USED '} {line}")
    print(f"{unexplained} grants are unused and do not say why")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
