// What the status says in sentences, each with what to do about it. Plain functions without the document.

import { alike, chosen, inShort } from "./order.js";

export const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

/** A duration in its two largest units. */
export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const i = UNITS.findIndex(([, size]) => seconds >= size);
  const [[unit, size], next] = [UNITS[i], UNITS[i + 1]];
  const rest = next ? `${Math.floor((seconds % size) / next[1])}${next[0]}` : "";
  return `${Math.floor(seconds / size)}${unit}${rest}`;
}

/** A moment, for people. */
export function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

/** A state and its reason in words. */
export function standing(each) {
  const words = each.state.replace("_", " ");
  return each.reason ? `${words} (${each.reason})` : words;
}

function eventsOf(count) {
  return `${whole.format(count)} ${count === 1 ? "event" : "events"}`;
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

/** What waits for its bus, app monitor, project or endpoint, the largest first; one of them the message says. */
function setAside({ set_aside: aside, cure }) {
  if (aside.names < 2) return [];
  const lines = aside.largest.map((each) => {
    const todo = each.cure && each.cure !== cure ? `. What to do: ${each.cure}` : "";
    return `${each.message}: ${eventsOf(each.events)}${todo}`;
  });
  const more = aside.names - aside.largest.length;
  return more > 0 ? [...lines, `and ${whole.format(more)} more`] : lines;
}

function ofTrouble(names, each) {
  const next = each.next_probe_seconds === null ? "" : ` (next try in ${span(each.next_probe_seconds)})`;
  const state = each.reason ? `, ${standing(each)} since ${moment(each.since)}` : "";
  const sentence = `${inShort(names)}${state}: ${each.message}${next}`;
  const parts = each.reason ? [] : setAside(each);
  return { key: `target ${inShort(names)} ${each.reason}`, sentence, cure: each.cure, runbook: each.runbook, parts };
}

/** What is wrong: each a sentence, with what to do about it and where the runbook says more; ``key`` stays the
    same while the trouble does. */
export function sentences(status) {
  const said = [], { storage, cures } = status;
  const targets = chosen(status.targets);
  const { trouble, reason, cure, runbook } = storage;
  if (trouble) said.push({ key: "storage", sentence: `storage (${reason}): ${trouble}`, cure, runbook });
  for (const [names, each] of alike(targets)) said.push(ofTrouble(names, each));
  for (const [name, each] of targets) {
    for (const sentence of unconfirmed(name, each)) said.push({ key: sentence, sentence, ...cures.unconfirmed });
  }
  for (const [name, events] of Object.entries(storage.stranded)) {
    const sentence = `${name}: ${eventsOf(events)} on disk, but no target of this name and kind has a disk queue`;
    said.push({ key: `stranded ${name}`, sentence, ...cures.stranded });
  }
  if (status.clock) said.push({ key: "clock", sentence: `clock: ${status.clock}`, ...cures.clock });
  return said;
}
