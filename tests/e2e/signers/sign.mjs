// One signed request to the URL given, by the signer named: AWS's SDK for JavaScript, or the RUM web client's own
// code. Prints "ok", or the error's name and its HTTP status.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const [signer, url] = process.argv.slice(2);
const MONITOR = "00000000-0000-4000-8000-0000000000aa";
const BATCH = {
  BatchId: randomUUID(),
  AppMonitorDetails: { id: MONITOR, version: "1.0.0" },
  UserDetails: { userId: MONITOR, sessionId: MONITOR },
  RumEvents: [
    { id: MONITOR, timestamp: new Date(1767323045000), type: "my_custom_event", metadata: "{}", details: "{}" },
  ],
};
const credentials = {
  accessKeyId: process.env.AWS_ACCESS_KEY_ID,
  secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  sessionToken: process.env.AWS_SESSION_TOKEN,
};
const settings = { region: "eu-west-1", endpoint: url, credentials };

async function eventbridge() {
  const { EventBridgeClient, PutEventsCommand } = await import("@aws-sdk/client-eventbridge");
  const entry = { Source: "shop", DetailType: "größe", Detail: '{"n":1}' };
  await new EventBridgeClient(settings).send(new PutEventsCommand({ Entries: [entry] }));
}

async function rum() {
  const { RUMClient, PutRumEventsCommand } = await import("@aws-sdk/client-rum");
  await new RUMClient({ ...settings, disableHostPrefix: true }).send(
    new PutRumEventsCommand({ Id: MONITOR, ...BATCH }),
  );
}

function webClient() {
  const { DataPlaneClient } = require("@aws-rum/web-core/dispatch/DataPlaneClient");
  const { BeaconHttpHandler } = require("@aws-rum/web-core/dispatch/BeaconHttpHandler");
  const { FetchHttpHandler } = require("@smithy/fetch-http-handler");
  const { createSigningConfig } = require("@aws-rum/web-core/dispatch/signing");
  return new DataPlaneClient(
    {
      endpoint: new URL(url),
      fetchRequestHandler: new FetchHttpHandler(),
      beaconRequestHandler: new BeaconHttpHandler(),
      compressionStrategy: { enabled: true },
    },
    createSigningConfig(credentials, "eu-west-1"),
  );
}

function answered(status) {
  if (status !== 200) throw Object.assign(new Error(), { name: "Refused", $metadata: { httpStatusCode: status } });
}

async function webFetch(batch) {
  answered((await webClient().sendFetch(batch)).response.statusCode);
}

// Long enough, and alike enough, to be worth packing.
const webGzip = () => webFetch({ ...BATCH, RumEvents: Array(30).fill(BATCH.RumEvents[0]) });

// What a browser sends is what its fetch sends: a string makes both say text/plain.
async function webBeacon() {
  let sent;
  Object.defineProperty(globalThis, "navigator", {
    value: { sendBeacon: (to, body) => Boolean((sent = fetch(to, { method: "POST", body }))) },
  });
  await webClient().sendBeacon(BATCH);
  answered((await sent).status);
}

const signers = { eventbridge, rum, "web fetch": () => webFetch(BATCH), "web gzip": webGzip, "web beacon": webBeacon };
try {
  await signers[signer]();
  console.log("ok");
} catch (error) {
  console.log(`${error.name} ${error.$metadata?.httpStatusCode}`);
}
