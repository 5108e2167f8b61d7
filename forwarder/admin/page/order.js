// Which targets come first, which are shown, and one sentence for targets that have the same trouble.
// Plain functions without the document.

export const NAMED_AT_MOST = 3;

/** 0 for a target that needs a person; the larger, the less. */
export function urgency(target) {
  if (target.state === "held") return target.reason === "operator" ? 3 : 0;
  if (target.state === "backing_off") return 1;
  return target.message ? 2 : 4;
}

export const ORDERS = {
  trouble: urgency,
  name: () => 0,
  waiting: (target) => -target.waiting,
  oldest: (target) => -target.oldest_age_seconds,
  "in/s": (target) => -target.rates.received_per_second,
  "out/s": (target) => -target.rates.delivered_per_second,
  dead: (target) => -target.dead_lettered,
};

/** [name, target] of those that have the text in their name, state, reason, kind or region, in one of ORDERS. */
export function chosen(targets, text = "", order = "trouble") {
  const key = ORDERS[order], wanted = text.trim().toLowerCase();
  const has = ([name, { state, reason, kind, region }]) =>
    [name, state.replace("_", " "), reason, kind, region].some((word) => word.toLowerCase().includes(wanted));
  const compare = ([name, one], [other, two]) => key(one) - key(two) || (name < other ? -1 : 1);
  return Object.entries(targets).filter(has).sort(compare);
}

/** [names, target]: those with the same state, reason and message together, since when it was so for any. An open
    target with names that are set aside has its own sentence. */
export function alike(entries) {
  const groups = new Map();
  for (const [name, each] of entries) {
    if (!each.message) continue;
    const own = !each.reason && each.set_aside.names;
    const trouble = own ? name : JSON.stringify([each.state, each.reason, each.message]);
    const group = groups.get(trouble);
    if (!group) {
      groups.set(trouble, [[name], { ...each }]);
      continue;
    }
    group[0].push(name);
    group[1].since = Math.min(group[1].since, each.since);
    if (each.next_probe_seconds !== null) {
      group[1].next_probe_seconds = Math.min(group[1].next_probe_seconds ?? Infinity, each.next_probe_seconds);
    }
  }
  return [...groups.values()];
}

/** The names, or the first ones and how many more. */
export function inShort(names) {
  if (names.length <= NAMED_AT_MOST + 1) return names.join(", ");
  return `${names.slice(0, NAMED_AT_MOST).join(", ")} and ${names.length - NAMED_AT_MOST} more targets`;
}
