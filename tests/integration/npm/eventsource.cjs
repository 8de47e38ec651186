// SPDX-License-Identifier: Apache-2.0
//
// Reads an event stream with the `eventsource` package: node eventsource.cjs URL [times]
// Prints each thing that happens as a line of JSON; closes at the `times`th [DONE], and ends once it is closed.

const { EventSource } = require("eventsource");

const [url, times = "1"] = process.argv.slice(2);
const source = new EventSource(url);
let left = Number(times);
const tell = (what, more = {}) => console.log(JSON.stringify({ what, state: source.readyState, ...more }));

source.onopen = () => tell("open");
source.onmessage = ({ data }) => {
  tell("message", { data });
  if (data === "[DONE]" && --left === 0) source.close();
};
// What the package reports itself has no data; an event named "error" of the stream has.
source.addEventListener("error", ({ data, code }) => tell("error", { data, code }));
