# SPDX-License-Identifier: Apache-2.0
"""The page of the matrix: one file without anything from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>handoffd: attacks and layers</title>
<style>
:root { color-scheme: light dark; --line: #8885; --stopped: #1a7f37; --harm: #cf222e; --failed: #9a6700; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 110rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } p { margin: .3rem 0; max-width: 60rem; }
form { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; align-items: end; }
label { display: grid; font-size: .8rem; } select, input { font: inherit; padding: .2rem .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: Canvas; }
tr.row { cursor: pointer; } tr.row:hover, tr.row:focus { background: #8882; }
tr.idle { opacity: .55; }
.stopped { color: var(--stopped); } .succeeded { color: var(--harm); font-weight: 600; } .failed { color: var(--failed); }
tr.more td { background: #8881; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .3rem 0; }
dt { font-weight: 600; } dd { margin: 0; } pre { margin: .2rem 0; white-space: pre-wrap; font-size: .8rem; }
</style>
<h1>handoffd: what a process that was taken over may try, and which layer stops it</h1>
@SUMMARY@
<p>A row is one attack, made inside one process. The first column of outcomes is without any cage: only what succeeds there counts. Then each layer alone, then the
whole cage. <b class="stopped">stopped</b>: the runner looked at the object and found no harm. <b class="succeeded">harm</b>: it found some. Click a row for what was observed.</p>
<form id="filters">
<label>attacker <select id="target"></select></label>
<label>layer <select id="layer"></select></label>
<label>outcome <select id="outcome"><option value="">any<option value="stopped">stopped<option value="succeeded">harm<option value="failed">failed</select></label>
<label>rows <select id="rows"><option value="counts">that count<option value="">all<option value="exception">exceptions<option value="idle">that do not count</select></label>
<label>text <input id="text" type="search" placeholder="ptrace, key-ring..."></label>
<output id="number"></output>
</form>
<table><thead></thead><tbody></tbody></table>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const matrix = JSON.parse(document.getElementById("data").textContent);
const words = {stopped: "stopped", succeeded: "harm", failed: "failed", absent: "absent"};
const by = id => document.getElementById(id);
const make = (name, text, kind) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const fill = (select, values) => values.forEach(([value, text]) => {
  const option = make("option", text);
  option.value = value;
  select.append(option);
});
fill(by("target"), [["", "any"], ...[...new Set(matrix.rows.map(row => row.target))].map(name => [name, name])]);
fill(by("layer"), [["whole", "whole cage"], ...matrix.columns.filter(name => name !== "whole").map(name => [name, name === "none" ? "none" : name + " alone"])]);
const head = make("tr");
["attacker", "attack", "on what", "by what", ...matrix.columns].forEach(name => head.append(make("th", name === "none" ? "no cage" : name)));
document.querySelector("thead").append(head);

const details = row => {
  const line = make("tr", undefined, "more"), cell = make("td"), list = make("dl");
  cell.colSpan = 4 + matrix.columns.length;
  const say = (name, value) => { list.append(make("dt", name)); const dd = make("dd"); dd.append(value); list.append(dd); };
  matrix.columns.filter(name => row.cells[name]).forEach(name => say(name, words[row.cells[name].outcome] + ": " + row.cells[name].observed));
  say("baseline", row.base === "root" ? "root with all its capabilities, no layer" : "the same user as the role's, without capabilities, no layer");
  if (!row.counts) say("does not count", "it did not succeed without a cage either");
  if (row.exception) say("exception", row.exception);
  if (row.policy.length) say("policy", make("pre", row.policy.join("\\n")));
  say("in attacks", "number " + row.number);
  cell.append(list);
  line.append(cell);
  return line;
};
const show = () => {
  const body = document.querySelector("tbody"), layer = by("layer").value, text = by("text").value.toLowerCase();
  body.replaceChildren();
  let number = 0;
  for (const row of matrix.rows) {
    const kind = by("rows").value;
    if (by("target").value && row.target !== by("target").value) continue;
    if (by("outcome").value && (row.cells[layer] || {}).outcome !== by("outcome").value) continue;
    if (kind === "counts" && !row.counts || kind === "idle" && row.counts || kind === "exception" && !(row.exception && row.counts)) continue;
    if (text && ![row.attack, row.object, row.title, row.primitive].some(word => word.toLowerCase().includes(text))) continue;
    const line = make("tr", undefined, "row" + (row.counts ? "" : " idle"));
    [row.target, row.attack, row.title, row.primitive].forEach(word => line.append(make("td", word)));
    matrix.columns.forEach(name => line.append(row.cells[name] ? make("td", words[row.cells[name].outcome], row.cells[name].outcome) : make("td", "not tried")));
    line.tabIndex = 0;
    const toggle = () => {
      if (line.nextSibling && line.nextSibling.className === "more") line.nextSibling.remove();
      else line.after(details(row));
    };
    line.addEventListener("click", toggle);
    line.addEventListener("keydown", event => { if (event.key === "Enter") toggle(); });
    body.append(line);
    number++;
  }
  by("number").textContent = number + " rows";
};
by("filters").addEventListener("input", show);
by("filters").addEventListener("submit", event => event.preventDefault());
show();
</script>
</html>
"""
