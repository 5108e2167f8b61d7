// Shows the daemon's own JSON, again and again. Whatever it says is text and never markup: a name or a
// sentence of AWS's goes into the page by textContent alone.

import { chosen, inShort, ORDERS } from "./order.js";
import { plot } from "./plots.js";
import { moment, sentences, span, standing, whole } from "./sentences.js";

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

function make(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function bytes(size) {
  const unit = size >= 1 << 20 ? ["MiB", 1 << 20] : ["KiB", 1 << 10];
  return `${(size / unit[1]).toFixed(1)} ${unit[0]}`;
}

// What stays the same is left alone, so that a selection and the keyboard's focus survive the next look.

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fill(id, nodes) {
  const now = [...place(id).children];
  if (nodes.length !== now.length || nodes.some((node, i) => node !== now[i])) place(id).replaceChildren(...nodes);
}

/** Rows of cells, each its text and its class; the first one is the head of its row. */
function fillTable(id, rows) {
  const lines = rows.map((cells, i) => {
    const line = place(id).children[i] ?? make("tr", "");
    if (line.children.length !== cells.length) {
      line.replaceChildren(...cells.map((_, j) => (j ? make("td", "") : make("th", "", { scope: "row" }))));
    }
    cells.forEach(([text, style = ""], j) => {
      put(line.children[j], text);
      line.children[j].className = style;
    });
    return line;
  });
  fill(id, lines);
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

function showTargets(targets, shown) {
  const count = (value) => [whole.format(value), "number"];
  const known = Object.keys(targets).length;
  put(place("counted"), shown.length === known ? "" : `${whole.format(shown.length)} of ${whole.format(known)} targets`);
  fillTable("targets", folded("targets", shown, ROWS).map(([name, each]) => [
    [name],
    [`${SHAPES[each.state] ?? "?"} ${standing(each)}`, `state ${each.state}`],
    count(each.waiting),
    count(each.in_flight),
    [each.oldest_age_seconds ? span(each.oldest_age_seconds) : "–", "number"],
    count(each.rates.received_per_second),
    count(each.rates.delivered_per_second),
    count(each.delivered),
    [`${each.kind} ${each.region}`],
    [`${each.queue}, of ${whole.format(each.capacity_events)}`],
    [each.transport || "none yet"],
  ]));
}

const items = new Map();

function itemOf(key) {
  if (!items.has(key)) {
    const item = make("li", ""), parts = make("details", "");
    parts.append(make("summary", ""), make("div", ""));
    item.append(make("span", ""), make("p", "", { class: "cure" }), parts);
    items.set(key, item);
  }
  return items.get(key);
}

/** A sentence with what to do; its parts are folded until a person opens them. */
function itemFor({ key, sentence, cure, runbook, parts = [] }) {
  const item = itemOf(key), [said, todo, details] = item.children, [summary, list] = details.children;
  put(said, sentence);
  put(todo, cure ? `What to do: ${cure}${runbook ? ` (${runbook})` : ""}` : "");
  todo.hidden = !cure;
  details.hidden = !parts.length;
  put(summary, `Show all ${whole.format(parts.length)}`);
  if (list.textContent !== parts.join("")) list.replaceChildren(...parts.map((part) => make("p", part)));
  return item;
}

function showSentences(said) {
  place("trouble").hidden = !said.length;
  fill("sentences", folded("sentences", said, SENTENCES).map(itemFor));
  const keys = new Set(said.map(({ key }) => key));
  for (const key of items.keys()) if (!keys.has(key)) items.delete(key);
}

function showSummary(status, troubles) {
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
  const mood = held.length || status.storage.trouble ? "bad" : parts.length || troubles ? "busy" : "";
  if (!parts.length) parts.push(troubles ? "All targets are open. Below is what else is wrong." : "All targets are open.");
  say(parts.join(" "), mood);
}

/** Readers of screens are told when it changes, and only then. */
function say(text, mood) {
  put(place("summary"), text);
  place("summary").className = mood;
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
  place("totals").replaceChildren(...Object.entries(totals).map(([name, value]) => {
    const pair = make("div", "");
    pair.append(make("dt", name), make("dd", value));
    return pair;
  }));
}

function showReasons(status, shown) {
  const rows = [];
  for (const [name, each] of shown) {
    for (const [fate, words] of Object.entries(FATES)) {
      for (const [reason, events] of Object.entries(each.reasons[fate])) {
        rows.push([[name], [words], [reason], [whole.format(events), "number"]]);
      }
    }
  }
  fillTable("reasons", rows.length ? folded("reasons", rows, ROWS) : [[["None."], [""], [""], [""]]]);
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
  if (lastStatus && lastStatus.version !== status.version) location.reload(); // this script is of the other one
  const shown = chosen(status.targets, place("filter").value, place("order").value);
  const up = span(status.uptime_seconds);
  place("about").textContent = `version ${status.version}, up ${up}`;
  const said = sentences(status);
  if (summary) showSummary(status, said.length);
  showSentences(said);
  showTotals(status);
  showTargets(status.targets, shown);
  showReasons(status, shown);
  const on = Object.entries(status.versions).map(([name, version]) => `${name} ${version}`);
  place("versions").textContent = `forwarder ${status.version}, ${on.join(", ")}`;
  lastStatus = status;
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
  fill("plots", nodes);
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
  let status;
  try {
    status = await ask("status");
  } catch (error) {
    const since = lastAnswer ? `since ${moment(lastAnswer)}; what is below is from then` : "yet";
    say(`No answer from the daemon ${since} (${error.message}). See docs/runbook.md#forwarderdown.`, "bad");
    looks = 0;
    return;
  }
  lastAnswer = Date.now() / 1000;
  try {
    showStatus(status);
  } catch (error) {
    say(`This page cannot show the daemon's answer (${error.message}). Reload it, or read it as JSON: status.`, "bad");
    return;
  }
  if (looks % LOOKS_PER_HISTORY === 0) await lookFurther();
  looks += 1;
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
