// Shows the daemon's own JSON, again and again. Whatever it says is text and never markup: a name or a
// sentence of AWS's goes into the page by textContent alone.

import { alike, chosen, inShort, ORDERS } from "./order.js";
import { plot } from "./plots.js";

const LOOK_MS = 2000, PATIENCE_MS = 5000, LOOKS_PER_HISTORY = 3;
const SENTENCES = 8, ROWS = 25, PLOTTED = 5;
const SHAPES = { open: "●", backing_off: "▲", held: "■" };
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

/** A state and its reason in words. */
function standing(each) {
  const words = each.state.replace("_", " ");
  return each.reason ? `${words} (${each.reason})` : words;
}

function fill(id, nodes) {
  place(id).replaceChildren(...nodes);
}

const unfolded = new Set();

/** What is shown of a long list: its beginning, until a person asks for all of it. */
function folded(id, items, most) {
  const button = place(`more-${id}`);
  const all = unfolded.has(id);
  button.hidden = items.length <= most;
  button.textContent = all ? `Show the first ${most} only` : `Show all ${whole.format(items.length)}`;
  button.onclick = () => {
    if (!unfolded.delete(id)) unfolded.add(id);
    showAgain();
  };
  return all ? items : items.slice(0, most);
}

function row(cells) {
  const line = document.createElement("tr");
  line.append(...cells);
  return line;
}

function showTargets(targets, shown) {
  const cell = (text) => make("td", text);
  const count = (value) => make("td", whole.format(value), { class: "number" });
  const known = Object.keys(targets).length;
  const counted = shown.length === known ? "" : `${whole.format(shown.length)} of ${whole.format(known)} targets`;
  if (place("counted").textContent !== counted) place("counted").textContent = counted;
  fill("targets", folded("targets", shown, ROWS).map(([name, each]) => row([
    make("th", name, { scope: "row" }),
    make("td", `${SHAPES[each.state] ?? "?"} ${standing(each)}`, { class: `state ${each.state}` }),
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

/** What is wrong: each a sentence, with what to do where that is known. */
function sentences(status) {
  const said = [];
  const targets = chosen(status.targets);
  for (const [names, each] of alike(targets)) {
    const next = each.next_probe_seconds === null ? "" : ` (next try in ${span(each.next_probe_seconds)})`;
    const cure = each.cure || each.set_aside.largest[0]?.cure;
    const sentence = `${inShort(names)}, ${standing(each)} since ${moment(each.since)}: ${each.message}${next}`;
    said.push({ sentence, cure, runbook: each.runbook });
  }
  for (const [name, each] of targets) {
    for (const sentence of unconfirmed(name, each)) said.push({ sentence });
  }
  for (const [name, events] of Object.entries(status.storage.stranded)) {
    said.push({ sentence: `${name}: ${whole.format(events)} events wait on disk for a target that is not configured` });
  }
  const { trouble, reason, cure, runbook } = status.storage;
  if (trouble) said.unshift({ sentence: `storage (${reason}): ${trouble}`, cure, runbook });
  return said;
}

function itemOf({ sentence, cure, runbook }) {
  const item = make("li", sentence);
  if (cure) item.append(make("p", runbook ? `What to do: ${cure} (${runbook})` : `What to do: ${cure}`, { class: "cure" }));
  return item;
}

function showSummary(status) {
  const all = Object.entries(status.targets);
  const named = (chosen) => all.filter(([, each]) => chosen(each)).map(([name]) => name);
  const paused = named((each) => each.reason === "operator");
  const held = named((each) => each.state === "held" && each.reason !== "operator");
  const slow = named((each) => each.state === "backing_off");
  const parts = [];
  if (status.draining) parts.push("It is stopping.");
  if (held.length) parts.push(`Action needed, not delivering: ${inShort(held)}.`);
  if (paused.length) parts.push(`Paused by an operator: ${inShort(paused)}.`);
  if (slow.length) parts.push(`Backing off: ${inShort(slow)}.`);
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

function showReasons(status, shown) {
  const rows = [];
  for (const [name, each] of shown) {
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
  fill("reasons", rows.length ? folded("reasons", rows, ROWS) : [row([make("td", "None.", { colspan: "4" })])]);
  const kept = shown.filter(([, each]) => each.dead_letters.events);
  const parts = kept.map(([name, { dead_letters: { events, bytes: size } }]) =>
    `${name} ${whole.format(events)} (${bytes(size)})`);
  const where = `in ${status.storage.path}`;
  place("letters").textContent = parts.length
    ? `Dead letters kept ${where}: ${inShort(parts)}.`
    : `No dead letters are kept ${where}.`;
}

let lastStatus = null, lastHistory = null;

/** The same again, as a person wants to see it now. */
function showAgain() {
  if (lastStatus) showStatus(lastStatus, { summary: false });
  if (lastStatus && lastHistory) showHistory(lastHistory);
}

/** Without ``summary`` the sentence on top stays: it may say that the daemon does not answer. */
function showStatus(status, { summary = true } = {}) {
  lastStatus = status;
  const shown = chosen(status.targets, place("filter").value, place("order").value);
  const up = span(status.uptime_seconds);
  place("about").textContent = `version ${status.version}, up ${up}`;
  if (summary) showSummary(status);
  const said = sentences(status);
  place("trouble").hidden = !said.length;
  fill("sentences", folded("sentences", said, SENTENCES).map(itemOf));
  showTotals(status);
  showTargets(status.targets, shown);
  showReasons(status, shown);
  const on = Object.entries(status.versions).map(([name, version]) => `${name} ${version}`);
  place("versions").textContent = `forwarder ${status.version}, ${on.join(", ")}`;
}

const blocks = new Map();

/** The place of a target's plots. It stays the same node, so that a person's open and closed ones stay so. */
function blockOf(name, open) {
  if (!blocks.has(name)) {
    const block = make("details", "", { class: "target" });
    block.open = open;
    block.append(make("summary", name), make("div", "", { class: "row" }));
    block.addEventListener("toggle", () => lastHistory && drawInto(block, name));
    blocks.set(name, block);
  }
  return blocks.get(name);
}

/** Only what is open is drawn. */
function drawInto(block, name) {
  const each = lastHistory.targets[name];
  if (!block.open || !each) return;
  const draw = (title, series) => plot(title, series, lastHistory.seconds_ago, lastHistory.kept_seconds);
  block.lastChild.replaceChildren(
    draw("events/s", { accepted: each.accepted, delivered: each.delivered }),
    draw("failures/s", { retried: each.retried, refused: each.refused, dead: each.dead_lettered }),
    draw("waiting", { waiting: each.waiting }),
  );
}

function showHistory(history) {
  lastHistory = history;
  const shown = chosen(lastStatus.targets, place("filter").value, place("order").value)
    .map(([name]) => name).filter((name) => name in history.targets);
  const named = folded("plots", shown, ROWS);
  const nodes = named.map((name, i) => blockOf(name, i < PLOTTED));
  const now = [...place("plots").children];
  if (nodes.length !== now.length || nodes.some((node, i) => node !== now[i])) fill("plots", nodes);
  nodes.forEach((block, i) => drawInto(block, named[i]));
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

/** The plots and the configuration stay as they are while they cannot be had. */
async function lookFurther() {
  const note = place("plots-note");
  try {
    showHistory(await ask("history"));
    place("config").textContent = written(await ask("config"));
    note.hidden = true;
  } catch (error) {
    note.textContent = `The plots and the configuration may be old (${error.message}).`;
    note.hidden = false;
    looks = -1;
  }
}

async function look() {
  try {
    showStatus(await ask("status"));
    lastAnswer = new Date();
    if (looks % LOOKS_PER_HISTORY === 0) await lookFurther();
    looks += 1;
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

for (const name of Object.keys(ORDERS)) place("order").append(make("option", name, { value: name }));
place("filter").addEventListener("input", showAgain);
place("order").addEventListener("change", showAgain);
document.addEventListener("visibilitychange", () => document.hidden || look());
keepLooking();
