// SPDX-License-Identifier: Apache-2.0
//
// One request by an official SDK: node openai.cjs FILE, which holds {package, client, request, helper, abortAfter} as JSON:
// the options of `new OpenAI`, the request, whether the SDK's own reader of streams puts the answer together, and after
// how many chunks the client aborts. Prints each chunk and the end as a line of JSON.

const plan = JSON.parse(require("node:fs").readFileSync(process.argv[2], "utf8"));
const { OpenAI } = require(plan.package);

const tell = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));

async function ask(client) {
  if (plan.helper) {
    const runner = (client.chat.completions.stream ?? client.beta.chat.completions.stream).call(
      client.chat.completions.stream ? client.chat.completions : client.beta.chat.completions, plan.request);
    tell("final", { completion: await runner.finalChatCompletion() });
    return;
  }
  const stream = await client.chat.completions.create(plan.request);
  let count = 0;
  for await (const chunk of stream) {
    tell("chunk", { chunk });
    if (++count === plan.abortAfter) stream.controller.abort();
  }
  tell("end", { aborted: stream.controller.signal.aborted });
}

ask(new OpenAI(plan.client)).catch((error) =>
  tell("error", {
    name: error.constructor.name,
    status: error.status,
    message: error.message,
    code: error.code,
    type: error.type,
    retryAfter: error.headers?.get?.("retry-after") ?? error.headers?.["retry-after"],
  }),
);
