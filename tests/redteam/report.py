# SPDX-License-Identifier: Apache-2.0
"""The matrix as JSON, Markdown and one page of HTML, and what of it is a fault."""
import html
import json

from design import EXCEPTIONS, one_layer
from page import PAGE

SIGNS = {"succeeded": "harm", "stopped": "stopped", "failed": "failed", "absent": "absent"}


def fault_of(row, short):
    """What of a row nobody has given a reason for, or None."""
    if row["cells"]["none"]["outcome"] == "absent":
        return None
    broken = [column for column, cell in row["cells"].items() if cell["outcome"] in ("failed", "absent")]
    if broken:
        return f"no result for {', '.join(broken)}: {row['cells'][broken[0]]['observed']}"
    if not row["counts"]:
        return None
    known = EXCEPTIONS.get((row["target"], row["attack"]))
    if row["cells"]["whole"]["outcome"] != "stopped":
        return None if known else f"not stopped: {row['cells']['whole']['observed']}"
    if known:
        return "is stopped, although an exception says that it is not"
    if not short and len(row["cells"]) > 2 and len(row["layers"]) < 2 and not one_layer(row["target"], row["attack"]):
        return f"stopped by {', '.join(row['layers']) or 'no layer alone'} only"
    return None


def faults(matrix):
    found = [(row, fault_of(row, matrix["short"])) for row in matrix["rows"]]
    return [f"{row['target']}: {row['attack']}: {fault}" for row, fault in found if fault]


def summary(matrix):
    rows = matrix["rows"]
    counted = [row for row in rows if row["counts"]]
    stopped = [row for row in counted if row["cells"]["whole"]["outcome"] == "stopped"]
    pairs = {(row["object"], row["primitive"]) for row in counted}
    lines = [f"{len(rows)} attempts by {len({row['target'] for row in rows})} attackers in {matrix['seconds']} s; "
             f"{len(counted)} of them succeed without a cage and count ({len(pairs)} pairs of object and primitive)",
             f"whole cage: {len(stopped)} stopped, {len(counted) - len(stopped)} not"]
    if not matrix["short"]:
        single = [row for row in stopped if len(row["cells"]) > 2 and len(row["layers"]) < 2]
        alone = [row for row in stopped if len(row["layers"]) > 1]
        lines.append(f"{len(alone)} of them are stopped by two layers or more, each alone; {len(single)} by fewer, with a reason")
        for target in sorted({row["target"] for row in rows}):
            mine = [row for row in counted if row["target"] == target]
            held = [row for row in mine if row in stopped]
            lines.append(f"{target}: {len(mine)} count, {len(held)} stopped, {len([row for row in held if row in alone])} by two layers or more")
    return lines + [f"fault: {fault}" for fault in faults(matrix)]


def markdown(matrix):
    columns = matrix["columns"]
    out = ["# Red team: what was tried, and what came of it", "", *summary(matrix), "",
           "| attacker | attack | object | base | " + " | ".join(columns) + " |", "|" + "---|" * (4 + len(columns))]
    for row in matrix["rows"]:
        cells = [f"{SIGNS[cell['outcome']]}: {cell['observed']}" if (cell := row["cells"].get(column)) else "not tried"
                 for column in columns]
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
