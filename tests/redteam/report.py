# SPDX-License-Identifier: Apache-2.0
"""The matrix as JSON, Markdown and one page of HTML, and what of it is a fault."""
import html
import json

from design import EXCEPTIONS
from page import PAGE

SIGNS = {"succeeded": "harm", "stopped": "stopped", "failed": "failed"}


def faults(matrix):
    """What nobody has given a reason for."""
    found = []
    for row in matrix["rows"]:
        name = f"{row['target']}: {row['attack']}"
        outcomes = {column: cell["outcome"] for column, cell in row["cells"].items()}
        if "failed" in outcomes.values():
            broken = [column for column, outcome in outcomes.items() if outcome == "failed"]
            found.append(f"{name}: no result for {', '.join(broken)}: {row['cells'][broken[0]]['observed']}")
        if not row["counts"]:
            continue
        stopped = outcomes["whole"] == "stopped"
        if not stopped and not row["exception"]:
            found.append(f"{name}: not stopped: {row['cells']['whole']['observed']}")
        elif stopped and not matrix["short"] and len(row["layers"]) < 2 and not row["exception"]:
            found.append(f"{name}: stopped by {', '.join(row['layers']) or 'no layer alone'} only")
        elif stopped and row["exception"] and (matrix["short"] or len(row["layers"]) > 1):
            if not matrix["short"]:
                found.append(f"{name}: has an exception and needs none")
    seen = {(row["target"], row["attack"]) for row in matrix["rows"]}
    names = {row["attack"] for row in matrix["rows"]}
    for target, attack in EXCEPTIONS:
        if attack not in names and len(names) > 100 or target != "*" and target in {t for t, _ in seen} and \
                (target, attack) not in seen and len(names) > 100:
            found.append(f"{target}: {attack}: an exception for an attack that does not exist")
    return found


def summary(matrix):
    rows = matrix["rows"]
    counted = [row for row in rows if row["counts"]]
    stopped = [row for row in counted if row["cells"]["whole"]["outcome"] == "stopped"]
    pairs = {(row["object"], row["primitive"]) for row in counted}
    lines = [f"{len(rows)} attempts by {len({row['target'] for row in rows})} attackers in {matrix['seconds']} s; "
             f"{len(counted)} of them succeed without a cage and count ({len(pairs)} pairs of object and primitive)",
             f"whole cage: {len(stopped)} stopped, {len(counted) - len(stopped)} not"]
    if not matrix["short"]:
        single = [row for row in stopped if len(row["layers"]) < 2]
        lines.append(f"two layers or more stop {len(stopped) - len(single)} of them each alone, one or none {len(single)}")
    return lines + [f"fault: {fault}" for fault in faults(matrix)]


def markdown(matrix):
    columns = matrix["columns"]
    out = ["# Red team: what was tried, and what came of it", "", *summary(matrix), "",
           "| attacker | attack | object | base | " + " | ".join(columns) + " |", "|" + "---|" * (4 + len(columns))]
    for row in matrix["rows"]:
        cells = [f"{SIGNS[row['cells'][column]['outcome']]}: {row['cells'][column]['observed']}" for column in columns]
        note = "" if row["counts"] else " (does not count)"
        out.append(f"| {row['target']} | {row['attack']}{note} | {row['title']} | {row['base']} | " + " | ".join(cells) + " |")
    exceptions = [row for row in matrix["rows"] if row["exception"] and row["counts"]]
    out += ["", "## Exceptions", ""] + [f"- {row['target']}, {row['attack']}: {row['exception']}" for row in exceptions]
    out += ["", "## Does not count: it did not succeed without a cage either", ""]
    out += sorted({f"- {row['attack']}: {row['cells']['none']['observed']}" for row in matrix["rows"] if not row["counts"]})
    return "\n".join(out) + "\n"


def page(matrix):
    # In a script element "</" would end it.
    data = json.dumps(matrix).replace("</", "<\\/")
    text = "".join(f"<p>{html.escape(line)}</p>" for line in summary(matrix))
    return PAGE.replace("@SUMMARY@", text).replace("@DATA@", data)


def write(matrix, base):
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".json").write_text(json.dumps(matrix, indent=1) + "\n")
    base.with_suffix(".md").write_text(markdown(matrix))
    base.with_suffix(".html").write_text(page(matrix))
