// Sends events with the CloudEvents SDK for JavaScript; its order and what it heard are those of send.py.
// Mode `batch` puts ten events into a request: the SDK makes the events, and the array of them is ours.

import { CloudEvent, HTTP } from "cloudevents";

const AGAIN = [0, 429, 503];
const BATCH = 10;

function made({ attributes, data, base64 }) {
  const payload = base64 === undefined ? data : Uint8Array.from(Buffer.from(base64, "base64"));
  return new CloudEvent({ ...attributes, data: payload });
}

function messages(mode, events) {
  if (mode === "batch") {
    const headers = { "content-type": "application/cloudevents-batch+json" };
    const batches = [];
    for (let i = 0; i < events.length; i += BATCH) batches.push(events.slice(i, i + BATCH));
    return batches.map((batch) => ({ headers, body: JSON.stringify(batch.map(made)) }));
  }
  return events.map((event) => HTTP[mode](made(event)));
}

async function post(url, { headers, body }) {
  try {
    const answer = await fetch(url, { method: "POST", headers, body });
    return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() };
  } catch (problem) {
    return { status: 0, headers: {}, body: String(problem.cause ?? problem) };
  }
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function send({ url, patience }, message) {
  const ends = Date.now() + patience * 1000;
  let tries = 1;
  let answer = await post(url, message);
  while (AGAIN.includes(answer.status) && Date.now() < ends) {
    await sleep(Number(answer.headers["retry-after"] ?? 0.1));
    answer = await post(url, message);
    tries += 1;
  }
  return { ...answer, tries };
}

let said = "";
for await (const chunk of process.stdin) said += chunk;
const order = JSON.parse(said);
const answers = [];
for (const message of messages(order.mode, order.events)) {
  answers.push(await send(order, { ...message, headers: { ...message.headers, ...order.headers } }));
  await sleep(order.pause);
}
process.stdout.write(JSON.stringify(answers));
