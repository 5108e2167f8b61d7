// Shows the daemon's own JSON, again and again. Whatever it says is text and never markup: a name or a
// sentence of AWS's goes into the page by textContent alone.

import { plot } from "./plots.js";

const LOOK_MS = 2000, PATIENCE_MS = 5000, LOOKS_PER_HISTORY = 3;
const SHAPES = { open: "●", throttled: "▲", held: "■" };
const FATES = {
  dead_lettered: "dead letter",
  dropped: "lost",
  refused: "refused to the sender",
  retried: "tried again",
  delivered: "delivered, and of these",
};

const place = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

function make(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** A duration in its two largest units. */
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const i = UNITS.findIndex(([, size]) => seconds >= size);
  const [[unit, size], next] = [UNITS[i], UNITS[i + 1]];
  const rest = next ? `${Math.floor((seconds % size) / next[1])}${next[0]}` : "";
  return `${Math.floor(seconds / size)}${unit}${rest}`;
}

function bytes(size) {
  const unit = size >= 1 << 20 ? ["MiB", 1 << 20] : ["KiB", 1 << 10];
  return `${(size / unit[1]).toFixed(1)} ${unit[0]}`;
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

function fill(id, nodes) {
  place(id).replaceChildren(...nodes);
}

function row(cells) {
  const line = document.createElement("tr");
  line.append(...cells);
  return line;
}

function showTargets(targets) {
  const cell = (text) => make("td", text);
  const count = (value) => make("td", whole.format(value), { class: "number" });
  fill("targets", Object.entries(targets).map(([name, each]) => row([
    make("th", name, { scope: "row" }),
    make("td", `${SHAPES[each.state] ?? "?"} ${each.state}`, { class: `state ${each.state}` }),
    count(each.waiting),
    count(each.in_flight),
    make("td", each.oldest_age_seconds ? span(each.oldest_age_seconds) : "–", { class: "number" }),
    count(each.rates.received_per_second),
    count(each.rates.delivered_per_second),
    count(each.delivered),
    cell(`${each.kind} ${each.region}`),
    cell(`${each.queue}, of ${whole.format(each.capacity_events)}`),
    cell(each.transport || "none yet"),
  ])));
}

/** Deliveries that nobody can confirm, bus by bus. */
function unconfirmed(name, target) {
  return target.unconfirmed_buses.map((bus) => {
    const least = bus.at_least ? "at least " : "";
    const events = `${whole.format(bus.events)} delivered ${bus.events === 1 ? "event is" : "events are"}`;
    const when = `between ${moment(bus.since)} and ${moment(bus.until)}`;
    return `${name}: ${least}${events} unconfirmed: event bus ${bus.name} was deleted ${when}`;
  });
}

function sentences(status) {
  const said = [];
  for (const [name, each] of Object.entries(status.targets)) {
    said.push(...unconfirmed(name, each));
    if (!each.message) continue;
    const next = each.next_probe_seconds === null ? "" : ` (next try in ${span(each.next_probe_seconds)})`;
    said.push(`${name}, ${each.state} since ${moment(each.since)}: ${each.message}${next}`);
  }
  for (const [name, events] of Object.entries(status.storage.stranded)) {
    said.push(`${name}: ${whole.format(events)} events wait on disk for a target that is not configured`);
  }
  if (status.storage.trouble) said.push(`storage: ${status.storage.trouble}`);
  return said;
}

function showSummary(status) {
  const all = Object.entries(status.targets);
  const held = all.filter(([, each]) => each.state === "held").map(([name]) => name);
  const slow = all.filter(([, each]) => each.state === "throttled").map(([name]) => name);
  const parts = [];
  if (status.draining) parts.push("It is stopping.");
  if (held.length) parts.push(`Held, only a person can help: ${held.join(", ")}.`);
  if (slow.length) parts.push(`Backing off: ${slow.join(", ")}.`);
  if (status.storage.trouble) parts.push("The storage has trouble.");
  const bad = held.length || status.storage.trouble;
  say(parts.join(" ") || "All targets are open.", bad ? "bad" : parts.length ? "busy" : "");
}

/** Readers of screens are told when it changes, and only then. */
function say(text, mood) {
  const summary = place("summary");
  if (summary.textContent !== text) summary.textContent = text;
  summary.className = mood;
}

function showTotals(status) {
  const all = Object.values(status.targets);
  const sum = (of) => all.reduce((total, each) => total + of(each), 0);
  const oldest = all.reduce((most, each) => Math.max(most, each.oldest_age_seconds), 0);
  const totals = {
    "Only in memory": whole.format(status.only_in_memory),
    "Waiting": whole.format(sum((each) => each.waiting)),
    "Oldest": oldest ? span(oldest) : "–",
    "In, events a second": whole.format(sum((each) => each.rates.received_per_second)),
    "Out, events a second": whole.format(sum((each) => each.rates.delivered_per_second)),
    "Dead letters kept": whole.format(status.storage.dead_letters_events),
  };
  fill("totals", Object.entries(totals).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(make("dt", name), make("dd", value));
    return pair;
  }));
}

function showReasons(status) {
  const rows = [];
  for (const [name, each] of Object.entries(status.targets)) {
    for (const [fate, words] of Object.entries(FATES)) {
      for (const [reason, events] of Object.entries(each.reasons[fate])) {
        rows.push(row([
          make("th", name, { scope: "row" }),
          make("td", words),
          make("td", reason),
          make("td", whole.format(events), { class: "number" }),
        ]));
      }
    }
  }
  fill("reasons", rows.length ? rows : [row([make("td", "None.", { colspan: "4" })])]);
  const kept = Object.entries(status.targets).filter(([, each]) => each.dead_letters.events);
  const parts = kept.map(([name, { dead_letters: { events, bytes: size } }]) =>
    `${name} ${whole.format(events)} (${bytes(size)})`);
  const where = `in ${status.storage.path}`;
  place("letters").textContent = parts.length
    ? `Dead letters kept ${where}: ${parts.join(", ")}.`
    : `No dead letters are kept ${where}.`;
}

function showStatus(status) {
  const up = span(status.uptime_seconds);
  place("about").textContent = `version ${status.version}, up ${up}`;
  showSummary(status);
  const said = sentences(status);
  place("trouble").hidden = !said.length;
  fill("sentences", said.map((sentence) => make("li", sentence)));
  showTotals(status);
  showTargets(status.targets);
  showReasons(status);
  const on = Object.entries(status.versions).map(([name, version]) => `${name} ${version}`);
  place("versions").textContent = `forwarder ${status.version}, ${on.join(", ")}`;
}

function showHistory(history) {
  const draw = (title, series) => plot(title, series, history.seconds_ago, history.kept_seconds);
  fill("plots", Object.entries(history.targets).map(([name, each]) => {
    const block = make("div", "", { class: "target" });
    const figures = make("div", "", { class: "row" });
    figures.append(
      draw("events/s", { accepted: each.accepted, delivered: each.delivered }),
      draw("failures/s", { retried: each.retried, refused: each.refused, dead: each.dead_lettered }),
      draw("waiting", { waiting: each.waiting }),
    );
    block.append(make("h3", name), figures);
    return block;
  }));
}

/** The settings in the form of their file, as text. */
function written(value, indent = "") {
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map((each) => written(each)).join(", ")}]`;
  return Object.entries(value).map(([name, each]) => {
    const inner = each !== null && typeof each === "object" && !Array.isArray(each);
    return inner ? `${indent}${name}:\n${written(each, `${indent}  `)}` : `${indent}${name}: ${written(each)}`;
  }).join("\n");
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`${path} was answered with ${answer.status}`);
  return answer.json();
}

let looks = 0, lastAnswer = null;

async function look() {
  try {
    showStatus(await ask("status"));
    if (looks % LOOKS_PER_HISTORY === 0) {
      showHistory(await ask("history"));
      place("config").textContent = written(await ask("config"));
    }
    looks += 1;
    lastAnswer = new Date();
  } catch (error) {
    const since = lastAnswer ? `since ${lastAnswer.toLocaleTimeString()}; what is below is from then` : "yet";
    say(`No answer from the daemon ${since} (${error.message}).`, "bad");
    looks = 0;
  }
}

async function keepLooking() {
  if (!document.hidden) await look();
  setTimeout(keepLooking, LOOK_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || look());
keepLooking();
