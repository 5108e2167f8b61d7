// The program of tests/e2e/programs.py with the JavaScript SDK v2. Its argument is the API.

import AWS from "aws-sdk";
import { createInterface } from "node:readline";

// This SDK reads no endpoint from the environment, so a program has it in its code.
const APIS = {
  eventbridge: [AWS.EventBridge, "putEvents", process.env.AWS_ENDPOINT_URL_EVENTBRIDGE],
  rum: [AWS.RUM, "putRumEvents", process.env.AWS_ENDPOINT_URL_RUM],
  evidently: [AWS.Evidently, "putProjectEvents", process.env.AWS_ENDPOINT_URL_EVIDENTLY],
};

// What is JSON in a text for other SDKs is an object for this one.
const TEXTS = ["details", "metadata", "data"];
const native = (name, value) =>
  ["Time", "timestamp"].includes(name) ? new Date(value) : TEXTS.includes(name) ? JSON.parse(value) : value;

const [Service, operation, endpoint] = APIS[process.argv[2]];
const client = new Service({ endpoint, hostPrefixEnabled: false, maxRetries: process.env.AWS_MAX_ATTEMPTS - 1 });
for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    const answer = await client[operation](JSON.parse(line, native)).promise();
    said = { answer };
  } catch (error) {
    said = { error: { code: error.code, message: error.message } };
  }
  console.log(JSON.stringify(said));
}
