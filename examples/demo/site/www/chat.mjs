// SPDX-License-Identifier: Apache-2.0
//
// The chat page: one answer at a time, shown piece by piece, with a stop button.

import { readAnswer } from "./sse.mjs";

const csrf = document.querySelector('meta[name="csrf-token"]').content;
const log = document.getElementById("log");
const status = document.getElementById("status");
const form = document.getElementById("form");
const prompt = document.getElementById("prompt");
const send = document.getElementById("send");
const stop = document.getElementById("stop");

const conversation = [];
let running = null; // the AbortController of the answer that is arriving

function addMessage(role, text) {
  const message = document.createElement("article");
  const who = document.createElement("h2");
  const content = document.createElement("p");
  message.className = role;
  who.textContent = role === "user" ? "You" : "Answer";
  content.textContent = text;
  message.append(who, content);
  log.append(message);
  message.scrollIntoView({ block: "end" });
  return content;
}

function showState(busy, text, isError = false) {
  send.disabled = busy;
  stop.disabled = !busy;
  // Screen readers read the answer when it is there, not word by word.
  log.setAttribute("aria-busy", String(busy));
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function ask(text) {
  const request = [...conversation, { role: "user", content: text }];
  addMessage("user", text);
  const shown = addMessage("assistant", "");
  running = new AbortController();
  showState(true, "Answering…");
  try {
    const response = await fetch("stream.php", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify({ messages: request }),
      signal: running.signal,
    });
    await readAnswer(response, (piece) => {
      shown.append(piece);
      shown.scrollIntoView({ block: "end" });
    });
    conversation.push(...request.slice(-1), { role: "assistant", content: shown.textContent });
    showState(false, "");
  } catch (error) {
    if (running.signal.aborted) showState(false, "Stopped.");
    else showState(false, error instanceof TypeError ? "The connection was interrupted." : error.message, true);
  } finally {
    running = null;
    prompt.focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (running || text === "") return;
  prompt.value = "";
  ask(text);
});

prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
