// SPDX-License-Identifier: Apache-2.0
//
// The demo page's event parser and reader: node --test tests/php/sse.test.mjs

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser, errorText, readAnswer } from "../../examples/demo/site/www/sse.mjs";

function parse(pieces) {
  const events = [];
  const parser = new EventParser((event) => events.push(event));
  pieces.forEach((piece) => parser.push(piece));
  return events;
}

const stream = '\uFEFF: hello\r\ndata: {"content":"a"}\r\n\r\ndata:x\rdata: y\r\revent: error\r\ndata: bad\nid: 7\n\ndata\n\n: end\n\n';
const expected = [
  { type: "message", data: '{"content":"a"}' },
  { type: "message", data: "x\ny" },
  { type: "error", data: "bad" },
  { type: "message", data: "" },
];

test("every way to cut a stream in two gives the same events", () => {
  assert.deepEqual(parse([stream]), expected);
  assert.deepEqual(parse([...stream]), expected);
  for (let i = 0; i <= stream.length; i++) {
    assert.deepEqual(parse([stream.slice(0, i), "", stream.slice(i)]), expected, `cut at ${i}`);
  }
});

test("an event without its blank line is not dispatched", () => {
  assert.deepEqual(parse(["data: x\n"]), []);
  assert.deepEqual(parse(["data: x\n", "\n"]), [{ type: "message", data: "x" }]);
});

test("the type of an event does not stay", () => {
  assert.deepEqual(parse(["event: error\n\ndata: x\n\n"]), [{ type: "message", data: "x" }]);
});

function response(pieces, options = {}) {
  const bytes = pieces.map((piece) => (typeof piece === "string" ? new TextEncoder().encode(piece) : piece));
  const body = new ReadableStream({
    start(controller) {
      bytes.forEach((piece) => controller.enqueue(piece));
      controller.close();
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" }, ...options });
}

async function answer(...argument) {
  let text = "";
  await readAnswer(response(...argument), (piece) => (text += piece));
  return text;
}

test("content up to [DONE], with a character cut in two", async () => {
  const bytes = new TextEncoder().encode('data: {"content":"ü"}\n\ndata: {"content":" b"}\n\ndata: [DONE]\n\n');
  const cut = bytes.indexOf(0xc3) + 1;
  assert.equal(await answer([bytes.slice(0, cut), bytes.slice(cut)]), "ü b");
});

test("a stream without [DONE] is an interruption", async () => {
  await assert.rejects(answer(['data: {"content":"a"}\n\n']), /interrupted/);
  await assert.rejects(answer(['data: {"content":"a"}\n\ndata: [DONE]\n']), /interrupted/);
});

test("an error event is an error, also before [DONE]", async () => {
  await assert.rejects(answer(['event: error\ndata: {"error":{"message":"no luck"}}\n\ndata: [DONE]\n\n']), /^Error: no luck$/);
});

test("a refusal shows what it says, or its status", async () => {
  await assert.rejects(answer(['{"error":"too long"}'], { status: 413 }), /^Error: too long$/);
  await assert.rejects(answer(["<h1>no</h1>"], { status: 503 }), /^Error: The server refused \(status 503\)\.$/);
  const busy = (after) => answer(['{"error":{"message":"Busy."}}'], { status: 429, headers: { "Retry-After": after } });
  await assert.rejects(busy("7"), { status: 429, message: "Busy. Please try again in 7 s." });
  await assert.rejects(busy("Wed, 21 Oct 2026 07:28:00 GMT"), /^Error: Busy\.$/);
  await assert.rejects(answer(["<h1>yes</h1>"], { headers: { "Content-Type": "text/html" } }), /not a stream/);
});

test("what is not understood is not shown", async () => {
  await assert.rejects(answer(["data: {\n\ndata: [DONE]\n\n"]), /does not understand/);
  assert.equal(errorText('{"error":{"message":3}}', "otherwise"), "otherwise");
});
