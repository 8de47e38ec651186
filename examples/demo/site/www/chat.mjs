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

function scrollToEnd() {
  window.scrollTo(0, document.documentElement.scrollHeight);
}

/** Adds to the page what grow() adds, and scrolls along unless the reader has scrolled away from the end. */
function following(grow) {
  const atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 32;
  grow();
  if (atEnd) scrollToEnd();
}

function addMessage(role, text) {
  const message = document.createElement("article");
  const who = document.createElement("h2");
  const content = document.createElement("p");
  message.className = role;
  who.textContent = role === "user" ? "You" : "Answer";
  content.textContent = text;
  message.append(who, content);
  log.append(message);
  return { message, who, content };
}

function showState(busy, text, isError = false) {
  send.disabled = busy;
  stop.disabled = !busy;
  // Screen readers read the answer when it is there, not word by word.
  log.setAttribute("aria-busy", String(busy));
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function showFailure(error) {
  // fetch() and the body's reader call every fault of the network a TypeError.
  showState(false, error instanceof TypeError ? "The connection was interrupted." : error.message, true);
  if (error.status === 403) {
    const again = document.createElement("a");
    again.href = "";
    again.textContent = "Load the page again";
    status.append(" ", again);
  }
}

/** Fetches the answer to the end of these messages; show(text) is called for each piece. */
async function fetchAnswer(messages, show) {
  const response = await fetch("stream.php", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify({ messages }),
    signal: running.signal,
  });
  await readAnswer(response, show);
}

async function ask(text) {
  const messages = [...conversation, { role: "user", content: text }];
  const question = addMessage("user", text);
  const answer = addMessage("assistant", "");
  const shown = () => answer.content.textContent;
  running = new AbortController();
  showState(true, "Answering…");
  scrollToEnd();
  let failure = null;
  try {
    await fetchAnswer(messages, (piece) => following(() => answer.content.append(piece)));
  } catch (error) {
    failure = error;
  }
  const stopped = running.signal.aborted;
  running = null;
  if (!failure || (stopped && shown() !== "")) {
    conversation.push(messages.at(-1), { role: "assistant", content: shown() });
  } else {
    // It is no part of the conversation; the question can be changed and sent again.
    question.who.textContent += " (not answered)";
    prompt.value ||= text;
  }
  if (failure && shown() !== "") answer.who.textContent += stopped ? " (stopped)" : " (incomplete)";
  if (shown() === "") answer.message.remove();
  if (stopped) showState(false, "Stopped.");
  else if (failure) showFailure(failure);
  else showState(false, shown() === "" ? "The answer is empty." : "");
  // A button that is disabled loses the focus, now or soon; who took it elsewhere keeps it.
  if ([document.body, send, stop].includes(document.activeElement)) prompt.focus();
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
