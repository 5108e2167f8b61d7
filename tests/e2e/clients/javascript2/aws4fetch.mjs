// The program of tests/e2e/programs.py with aws4fetch, which signs a request that the program made itself.

import { AwsClient } from "aws4fetch";
import { createInterface } from "node:readline";

const seconds = (name, value) => (["Time", "timestamp"].includes(name) ? new Date(value) / 1000 : value);
const json = (params) => JSON.stringify(JSON.parse(params, seconds));

const APIS = {
  eventbridge: (params) => [
    process.env.AWS_ENDPOINT_URL_EVENTBRIDGE,
    "events",
    { "content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSEvents.PutEvents" },
    json(params),
  ],
  rum: (params) => {
    const { Id, Alias, ...body } = JSON.parse(params, seconds);
    const path = `${process.env.AWS_ENDPOINT_URL_RUM}/appmonitors/${Id}`;
    return [path, "rum", { "content-type": "application/json" }, JSON.stringify({ ...body, Alias })];
  },
};

const client = new AwsClient({
  accessKeyId: process.env.AWS_ACCESS_KEY_ID,
  secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  sessionToken: process.env.AWS_SESSION_TOKEN,
  region: process.env.AWS_REGION,
  retries: process.env.AWS_MAX_ATTEMPTS - 1,
});
for await (const line of createInterface({ input: process.stdin })) {
  const [url, service, headers, body] = APIS[process.argv[2]](line);
  const response = await client.fetch(url, { method: "POST", headers, body, aws: { service } });
  const text = await response.text();
  const said = response.ok
    ? { answer: JSON.parse(text || "{}") }
    : { error: { code: String(response.status), message: text } };
  console.log(JSON.stringify(said));
}
