// Posts what it is told with Node's own fetch; its orders and what it prints are those of posting.py.

import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  const { url, headers, body, chunked } = JSON.parse(line);
  const bytes = Buffer.from(body, "base64");
  const content = chunked ? { body: new Blob([bytes]).stream(), duplex: "half" } : { body: bytes };
  const answer = await fetch(url, { method: "POST", headers, ...content });
  console.log(JSON.stringify({ status: answer.status, body: await answer.text() }));
}
