# SPDX-License-Identifier: Apache-2.0
"""Trials: each attack, with each layer alone and with all of them."""
import fcntl

from objects_files import FILES
from objects_kernel import KERNEL, Machine
from objects_network import NETWORK, Interface

OBJECTS = {**FILES, **NETWORK, **KERNEL}
LAYERS = ("privileges", "no-new-privs", "seccomp", "landlock", "rlimits", "process")
# What a process without capabilities needs for these.
NEED_NO_NEW_PRIVS = ("seccomp", "landlock")


def layers_of(attack, column):
    """What is put in force in a column."""
    if column == "whole":
        return ("whole",)
    on = () if column == "none" else (column,)
    if attack["base"] == "user" and column != "privileges":
        on = ("user", *(("no-new-privs",) if column in NEED_NO_NEW_PRIVS else ()), *on)
    return on


def attempt(world, target, attack, column):
    """One trial. {"outcome": succeeded | stopped | failed | absent, "observed": ..., "call": the last}"""
    layers = layers_of(attack, column)
    make, rest, _ = OBJECTS[attack["object"]]
    if not issubclass(make, (Machine, Interface)):
        return attempt_on(world, target, attack, layers, make, rest)
    # There is one of these, and the runner may be several processes.
    with open("/run/lock/handoffd-redteam", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return attempt_on(world, target, attack, layers, make, rest)


def attempt_on(world, target, attack, layers, make, rest):
    try:
        thing = make(world, target, layers, rest)
    except OSError as error:
        return {"outcome": "absent", "observed": f"this machine has no such object: {error}", "call": ""}
    try:
        trial = world.start(target, attack["name"], layers, thing.parameters, thing.fds, thing.scratch)
        try:
            trial.read()
            harm = thing.harm(trial)
        finally:
            trial.end()
    finally:
        thing.clean()
    outcome = "succeeded" if harm else "stopped" if trial.steps and not trial.hung else "failed"
    return {"outcome": outcome, "observed": harm or trial.observed(), "call": trial.steps[-1][0] if trial.steps else ""}
