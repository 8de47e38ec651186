// SPDX-License-Identifier: Apache-2.0
//
// Server-sent events from a fetch() body: an incremental parser, and a reader that says how the stream ended.

/** Takes text in pieces of any size and calls onEvent({type, data}) for each whole event. */
export class EventParser {
  #onEvent;
  #rest = "";
  #type = "";
  #data = [];
  #afterCr = false;
  #started = false;

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  push(text) {
    if (text === "") return;
    if (!this.#started) {
      this.#started = true;
      text = text.replace(/^\uFEFF/, "");
    }
    // The LF of a CRLF may come in the next piece: the CR has ended the line already.
    if (this.#afterCr && text[0] === "\n") text = text.slice(1);
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#afterCr = text.endsWith("\r");
    this.#rest = lines.pop();
    lines.forEach((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
  }

  #dispatch() {
    const type = this.#type || "message";
    const data = this.#data;
    this.#type = "";
    this.#data = [];
    if (data.length > 0) this.#onEvent({ type, data: data.join("\n") });
  }
}

/** What an error event, or the body of a refusal, says to people. */
export function errorText(text, otherwise) {
  let said;
  try {
    const value = JSON.parse(text);
    said = value?.error?.message ?? value?.error ?? value?.message;
  } catch {
    // Not JSON: an error page of a web server, which says nothing to people.
  }
  return typeof said === "string" && said !== "" ? said : otherwise;
}

/** An answer with another status than 200, which is kept in `status`. */
export class Refusal extends Error {
  constructor({ status, headers }, body) {
    const seconds = headers.get("Retry-After") ?? "";
    const again = /^[0-9]+$/.test(seconds) ? ` Please try again in ${seconds} s.` : "";
    super(errorText(body, `The server refused (status ${status}).`) + again);
    this.status = status;
  }
}

/**
 * Read an answer to its end, calling onContent(text) for each piece.
 * Resolves when the stream said [DONE]; rejects with an Error to show otherwise.
 */
export async function readAnswer(response, onContent) {
  if (!response.ok) throw new Refusal(response, await response.text());
  if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
    throw new Error("The server's answer is not a stream of events.");
  }
  let done = false;
  let failure = null;
  const parser = new EventParser(({ type, data }) => {
    if (done || failure) return;
    if (type === "error") failure = new Error(errorText(data, "The answer failed."));
    else if (data === "[DONE]") done = true;
    else if (type === "message") onContent(contentOf(data));
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (!done && !failure) {
    const piece = await reader.read();
    if (piece.done) break;
    parser.push(piece.value);
  }
  if (failure || done) await reader.cancel().catch(() => {});
  if (failure) throw failure;
  if (!done) throw new Error("The answer was interrupted.");
}

function contentOf(data) {
  try {
    const content = JSON.parse(data)?.content;
    return typeof content === "string" ? content : "";
  } catch {
    throw new Error("The answer holds something that this page does not understand.");
  }
}
