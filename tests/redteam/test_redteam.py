# SPDX-License-Identifier: Apache-2.0
"""The red team's short form, and that nothing of its door is in what is installed."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
SHIPPED = [path for path in sorted((BUILD / "bin").glob("handoff*"))]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the baseline is root")


@pytest.fixture(name="matrix", scope="module")
def fixture_matrix(tmp_path_factory):
    """The short form: all attacks, without a cage and with the whole one."""
    base = tmp_path_factory.mktemp("redteam") / "short"
    done = subprocess.run([sys.executable, HERE / "runner.py", "--short", "--build", BUILD, "--output", base],
                          capture_output=True, text=True, timeout=600)
    assert base.with_suffix(".json").exists(), done.stdout + done.stderr
    return json.loads(base.with_suffix(".json").read_text()), done.stdout


@needs_root
def test_whole_cage(matrix):
    """Each attack that succeeds without a cage is stopped by it, or is a known exception."""
    _, text = matrix
    print(text)
    assert "fault: " not in text, text


@needs_root
def test_enough_is_tried(matrix):
    rows = [row for row in matrix[0]["rows"] if row["counts"]]
    assert len({(row["object"], row["primitive"]) for row in rows}) >= 120
    assert {"gate", "streamer", "dialer", "launcher", "handler", "handler-bare"} <= {row["target"] for row in rows}


@pytest.mark.parametrize("program", SHIPPED, ids=lambda path: path.name)
def test_shipped_programs_have_no_door(program):
    content = program.read_bytes()
    for trace in (b"REDTEAM", b"__wrap_", b"attack_run", b"attacks_files"):
        assert trace not in content, trace


@pytest.mark.parametrize("role", ["gate", "streamer", "dialer", "launcher"])
def test_doors_are_found_where_they_are(role):
    """The counterpart: what is looked for above is there in a program with a door."""
    content = (BUILD / f"redteam/handoffd-{role}").read_bytes()
    for trace in (b"REDTEAM", b"__wrap_", b"attack_run", b"attacks_files"):
        assert trace in content, trace


@needs_root
@pytest.mark.parametrize("role", ["gate", "streamer", "dialer", "launcher"])
def test_shipped_role_does_not_open(role):
    """What opens the door of the one program means nothing to the other."""
    script = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from trials import OBJECTS
from world import Role, World

class Shipped(Role):
    def command(self, world):
        arguments, fds = super().command(world)
        return [str(world.build / "bin" / ("handoffd-" + self.name)), *arguments[1:]], fds

world = World({str(BUILD)!r})
try:
    for make in (Role, Shipped):
        target = make({role!r})
        kind, rest, _ = OBJECTS["key-ring"]
        thing = kind(world, target, (), rest)
        trial = world.start(target, "read-key-ring", (), thing.parameters, thing.fds, thing.scratch)
        trial.read(2)
        print(make.__name__, len(trial.steps) > 0, thing.harm(trial))
        trial.end()
        thing.clean()
finally:
    world.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["Role True the secret was read", "Shipped False None"], done.stdout + done.stderr
