// The program of tests/e2e/programs.py with the JavaScript SDK v3. Its argument is the API.

import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
import { EvidentlyClient, PutProjectEventsCommand } from "@aws-sdk/client-evidently";
import { PutRumEventsCommand, RUMClient } from "@aws-sdk/client-rum";
import { createInterface } from "node:readline";

const APIS = {
  eventbridge: () => [new EventBridgeClient(), PutEventsCommand],
  rum: () => [new RUMClient({ disableHostPrefix: true }), PutRumEventsCommand],
  evidently: () => [new EvidentlyClient({ disableHostPrefix: true }), PutProjectEventsCommand],
};

const withDates = (name, value) => (["Time", "timestamp"].includes(name) ? new Date(value) : value);

const [client, Command] = APIS[process.argv[2]]();
for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    const { $metadata, ...answer } = await client.send(new Command(JSON.parse(line, withDates)));
    said = { answer };
  } catch (error) {
    said = { error: { code: error.name, message: error.message } };
  }
  console.log(JSON.stringify(said));
}
