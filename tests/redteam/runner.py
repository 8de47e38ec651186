#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The red team: makes every attack in every target, without a cage, with each layer alone and with the whole cage, and writes what
came of it.

    runner.py [--short] [--build DIRECTORY] [--target NAME]... [ATTACK...]

As root. --short: the baseline and the whole cage only. Result: DIRECTORY/redteam/matrix.{json,md,html}.
"""
import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time

import report
from design import EXCEPTIONS, one_layer
from trials import LAYERS, OBJECTS, attempt
from world import Handler, Role, World


HANDLERS = ("handler", "handler-bare")  # their layers are tried by tests/unit/test_launcher_cage.c


def targets_of(build, names):
    found = [path.name.removeprefix("handoffd-") for path in sorted(pathlib.Path(build, "redteam").glob("handoffd-*"))]
    return [name for name in [*found, *HANDLERS] if not names or name in names]


def explain(world, role, call, known={}):
    """The policy's word on a system call."""
    key = (role, call)
    if key not in known:
        done = subprocess.run([world.build / "bin/handoff-policy", "-b", "explain", role, call], capture_output=True, text=True)
        known[key] = [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
    return known[key]


def row_of(world, target, attack, columns):
    cells = {column: attempt(world, target, attack, column) for column in columns}
    whole = cells["whole"]
    return {
        "attack": attack["name"], "number": attack["number"], "target": target.name, "object": attack["object"],
        "title": OBJECTS[attack["object"]][2], "primitive": attack["primitive"], "base": attack["base"],
        "cells": cells,
        "counts": cells.get("none", {}).get("outcome") == "succeeded",
        "layers": [layer for layer in LAYERS if cells.get(layer, {}).get("outcome") == "stopped"],
        "policy": explain(world, target.policy, whole["call"]) if whole["call"] else [],
    }


def run_one(job):
    """All rows of one target, in a process of its own."""
    arguments, name, columns = job
    world = World(arguments.build)
    try:
        target = Handler(name) if name.startswith("handler") else Role(name)
        return [row_of(world, target, attack, columns) for attack in world.attacks()
                if not arguments.attack or attack["name"] in arguments.attack]
    finally:
        world.close()


def share_baseline(rows):
    """In the short form the first target only is tried without a cage."""
    baseline = {row["attack"]: row for row in rows if "none" in row["cells"]}
    for row in rows:
        row["cells"] = {"none": baseline[row["attack"]]["cells"]["none"], **row["cells"]}
        row["counts"] = baseline[row["attack"]]["counts"]


def give_reasons(rows, short):
    for row in rows:
        few = not short and row["target"] not in HANDLERS and len(row["layers"]) < 2 and row["cells"]["whole"]["outcome"] == "stopped"
        row["exception"] = EXCEPTIONS.get((row["target"], row["attack"])) or \
            (one_layer(row["target"], row["attack"]) if few else None)


def run(arguments):
    columns = ("none", "whole") if arguments.short else ("none", *LAYERS, "whole")
    names, started = targets_of(arguments.build, arguments.target), time.monotonic()
    jobs = [(arguments, name, ("whole",) if name in HANDLERS or arguments.short and name != names[0] else columns)
            for name in names]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        rows = [row for found in pool.map(run_one, jobs) for row in found]
    share_baseline(rows)
    give_reasons(rows, arguments.short)
    return {"columns": columns, "short": arguments.short, "seconds": round(time.monotonic() - started), "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--build", default="build")
    parser.add_argument("--target", action="append")
    parser.add_argument("--output", help="file name without its ending; default DIRECTORY/redteam/matrix")
    parser.add_argument("attack", nargs="*")
    arguments = parser.parse_args()
    arguments.build = pathlib.Path(arguments.build).resolve()
    matrix = run(arguments)
    report.write(matrix, pathlib.Path(arguments.output or arguments.build / "redteam/matrix"))
    print("\n".join(report.summary(matrix)))
    return 1 if report.faults(matrix) else 0


if __name__ == "__main__":
    sys.exit(main())
