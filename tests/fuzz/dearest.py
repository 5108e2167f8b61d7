"""Searches for the dearest body of each dialect: what it costs a real daemon in one step, and in memory.

A body is a ``Gene``: where in the dialect's request something grows, what it is made of, and how it grows
(again and again, nested, under different names, over several events). The search begins with some by chance,
keeps the dearest, and changes one thing at a time.

Invariants:
- The judge is the daemon's own process, seen from outside as by ``make abuse``: CPU between two turns of the
  loop, and the peak of its memory.
- The same seed gives the same first bodies; which are kept depends on what they cost.
- No body is larger than ``max_body``. What is over a bound is tried three times, and must be so each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from tests.abuse.bodies import (
    BATCH,
    BINARY,
    CLOUDEVENTS,
    JSON,
    LINES,
    PUT_EVENTS,
    ROOM,
    RUM_CALL,
    STRUCTURED,
    UUID,
    cloud,
)
from tests.abuse.figures import STEP_MS, peak_memory
from tests.abuse.sent import steps_of
from tests.abuse.stage import MIB, MONITOR, ROOT, Daemon, a_stage
from tests.abuse.wire import Request

WIDTH = 0.5
"""The share of the bodies that are made by chance, each place of the dialect in turn, before the climbing."""
VALUES = (
    "[]",
    "{}",
    "1",
    '""',
    "null",
    "-0.1e-9",
    '{"a":1}',
    "[1]",
    '"ab"',
    '{"":[]}',
    '"\\ud83d\\ude00"',
    "[[]]",
)
LETTERS = (
    "a",
    "ab,",
    "é",
    "𝄞",
    "\\u0000",
    "\\\\",
    "\\ud83d\\ude00",
    " ",
    "{",
    "9",
    "%41",
    "a,",
    ".",
    "\\n",
    "/",
)
SIZES = (ROOM, ROOM, ROOM, 1_040_000, 256_000, 65_536, 4096)
MOST = 65_536
"""Events of a request, at most."""
PARTS = (1, 1, 2, 7, 10, 100, 1000, 10_000, MOST, 100_000)
DEPTHS = (0, 0, 1, 2, 50, 900, 998, 1001, 100_000)
ENDS = ("", "", "", '"\\ud800"', "\x00", "}", "1")


@dataclass(frozen=True)
class Gene:
    """One body. ``site``: which of the dialect's places grows. ``parts``: so many events have it each."""

    site: int
    value: str
    letters: str
    depth: int
    in_object: bool
    numbered: bool
    parts: int
    size: int
    packed: bool
    end: str

    def elements(self, size: int) -> str:
        """What stands in an array."""
        unit = self.unit()
        return ",".join([unit] * max(1, size // (len(unit) + 1))) + ("," + self.end if self.end else "")

    def members(self, size: int) -> str:
        """What stands in an object."""
        unit = self.unit()
        number = max(1, size // (len(unit) + 10))
        names = (f"k{n}" for n in range(number)) if self.numbered else iter(["k"] * number)
        return ",".join([f'"{name}":{unit}' for name in names])

    def text(self, size: int) -> str:
        """What stands in a text."""
        return self.letters * max(1, size // len(self.letters.encode()))

    def any_value(self, size: int) -> str:
        """An object of about this size, as a payload must be one."""
        if self.numbered:
            return f"{{{self.members(size)}}}"
        if self.parts % 2 and self.letters != LETTERS[0]:
            return f'{{"a":"{self.text(size)}"}}'
        return f'{{"a":[{self.elements(size)}]}}'

    def unit(self) -> str:
        opening, closing = ('{"":', "}") if self.in_object else ("[", "]")
        depth = min(self.depth, self.size // self.parts // (len(opening) + 1))
        return opening * depth + self.value + closing * depth


Site = Callable[[Gene, int], str]
"""An event (or a call) of about so many bytes, from a gene."""


@dataclass(frozen=True)
class Way:
    """One dialect: the events that can grow, and what they stand in. ``calls``: requests that grow whole."""

    label: str
    path: str
    headers: dict[str, str]
    opening: str
    closing: str
    separator: str
    sites: Sequence[Site]
    calls: Sequence[Site] = ()

    def request(self, gene: Gene) -> Request:
        site = gene.site % (len(self.sites) + len(self.calls))
        if site >= len(self.sites):
            body = self.calls[site - len(self.sites)](gene, gene.size)
        else:
            parts = gene.parts if self.separator else 1
            each = max(0, gene.size // parts - 100)
            event = self.sites[site](gene, each)
            parts = max(1, min(parts, gene.size // (len(event.encode()) + 1)))
            body = self.opening + self.separator.join([event] * parts) + self.closing
        data = body.encode("utf-8", "replace")[:ROOM]
        request = Request(self.path, data, {**self.headers})
        return request.packed(1) if gene.packed else request


def entry(detail: Site, more: Site | None = None) -> Site:
    def site(gene: Gene, size: int) -> str:
        rest = more(gene, size) if more is not None else ""
        content = "{}" if more is not None else detail(gene, size)
        return f'{{"Source":"s","DetailType":"t","Detail":{content}{rest}}}'

    return site


def as_text(gene: Gene, size: int) -> str:
    return json.dumps(gene.any_value(size))


def value(gene: Gene, size: int) -> str:
    return gene.any_value(size)


def empty_text(gene: Gene, size: int) -> str:
    return '"{}"'


def members(before: str) -> Site:
    return lambda gene, size: f"{{{before}{gene.members(size)}}}"


def bare(gene: Gene, size: int) -> str:
    """Not an event at all."""
    return gene.unit()


def more_members(gene: Gene, size: int) -> str:
    return "," + gene.members(size)


def resources(gene: Gene, size: int) -> str:
    return f',"Resources":[{gene.elements(size)}]'


def long(name: str) -> Site:
    return lambda gene, size: f',"{name}":"{gene.text(size)}"'


def rum_event(details: Site) -> Site:
    return lambda gene, size: f'{{"id":"{UUID}","timestamp":1,"type":"t","details":{details(gene, size)}}}'


def native_rum(details: Site) -> Site:
    return lambda gene, size: (
        f'{{"type":"t","details":{details(gene, size)},"UserDetails":{{"sessionId":"{UUID}"}}}}'
    )


def feature(data: Site) -> Site:
    return lambda gene, size: f'{{"timestamp":1,"type":"aws.evidently.custom","data":{data(gene, size)}}}'


def rum_call(gene: Gene, size: int) -> str:
    return (
        f'{{"BatchId":"{UUID}","AppMonitorDetails":{{{gene.members(size)}}},'
        f'"UserDetails":{{{gene.members(9)}}},"RumEvents":[]}}'
    )


def cloud_event(rest: Site) -> Site:
    return lambda gene, size: f"{{{cloud()}{rest(gene, size)}}}"


def data(gene: Gene, size: int) -> str:
    return f',"data":{gene.any_value(size)}'


def data_array(gene: Gene, size: int) -> str:
    return f',"data":[{gene.elements(size)}]'


ENTRIES = [
    entry(value),
    entry(value, more_members),
    entry(value, resources),
    entry(value, long("EventBusName")),
    entry(value, long("TraceHeader")),
    bare,
    members(""),
]
CLOUDS = [
    *(cloud_event(rest) for rest in (data, data_array, more_members, long("resources"), long("subject"))),
    *(cloud_event(rest) for rest in (long("time"), long("dataschema"), long("data_base64"))),
    bare,
    members(""),
]
AWS_ENTRIES = [
    entry(as_text),
    entry(empty_text, more_members),
    entry(empty_text, resources),
    bare,
    members(""),
]
WAYS: tuple[Way, ...] = (
    Way("native, eventbridge", "/v1/targets/orders/events", JSON, "[", "]", ",", ENTRIES),
    Way("native, rum", "/v1/targets/web/events", JSON, "[", "]", ",", [native_rum(value), bare, members("")]),
    Way(
        "native, evidently",
        "/v1/targets/lab/events",
        JSON,
        "[",
        "]",
        ",",
        [feature(value), bare, members("")],
    ),
    Way("native, lines", "/v1/targets/orders/events", LINES, "", "\n", "\n", ENTRIES),
    Way("PutEvents", "/", PUT_EVENTS, '{"Entries":[', "]}", ",", AWS_ENTRIES, [members('"Entries":[],')]),
    Way(
        "PutRumEvents",
        f"/appmonitors/{MONITOR}",
        JSON,
        f'{{{RUM_CALL},"RumEvents":[',
        "]}",
        ",",
        [rum_event(as_text), bare, members("")],
        [rum_call, members(f"{RUM_CALL},")],
    ),
    Way(
        "PutProjectEvents",
        "/events/projects/shop",
        JSON,
        '{"events":[',
        "]}",
        ",",
        [feature(as_text), bare, members("")],
        [members('"events":[],')],
    ),
    Way("CloudEvents, structured", CLOUDEVENTS, STRUCTURED, "", "", "", CLOUDS),
    Way("CloudEvents, batch", CLOUDEVENTS, BATCH, "[", "]", ",", CLOUDS),
    Way("CloudEvents, binary", CLOUDEVENTS, BINARY, "", "", "", [value, bare, members("")]),
)


def by_chance(random: Random) -> Gene:
    return Gene(
        site=random.randrange(24),
        value=random.choice(VALUES),
        letters=random.choice(LETTERS),
        depth=random.choice(DEPTHS),
        in_object=random.random() < 0.5,
        numbered=random.random() < 0.5,
        parts=random.choice(PARTS),
        size=random.choice(SIZES),
        packed=random.random() < 0.7,
        end=random.choice(ENDS),
    )


def changed(random: Random, gene: Gene) -> Gene:
    """One thing of it, or two, as in another; now and then its value grows by itself."""
    if random.random() < 0.2 and len(gene.value) < 200:
        grown = random.choice(
            (f"[{gene.value},{gene.value}]", f'{{"a":{gene.value}}}', f'{{"b":1,"a":{gene.value}}}')
        )
        return replace(gene, value=grown)
    other = by_chance(random)
    names = random.sample(tuple(Gene.__dataclass_fields__), random.choice((1, 1, 2)))
    return replace(gene, **{name: getattr(other, name) for name in names})


@dataclass(frozen=True)
class Cost:
    """What a body cost, beside what it may."""

    gene: Gene
    sent: int
    status: int
    step_ms: float
    memory: float
    memory_bound: float

    @property
    def score(self) -> float:
        return max(self.step_ms / STEP_MS, self.memory / self.memory_bound)

    @property
    def holds(self) -> bool:
        return self.score <= 1

    def row(self, label: str) -> str:
        verdict = "" if self.holds else " **over the bound**"
        return (
            f"| {label} | {self.step_ms:,.0f} ms of {STEP_MS:.0f}{verdict} | {self.memory:,.0f} MiB of "
            f"{self.memory_bound:,.0f} | {self.sent:,} | {self.status} | {self.gene} |"
        )


def cost_of(daemon: Daemon, way: Way, gene: Gene) -> Cost:
    request = way.request(gene)
    daemon.drain()
    daemon.reset()
    spent, answer = steps_of(daemon, request)
    memory = peak_memory(daemon)
    assert daemon.alive, f"the daemon died of {way.label}, {gene}"
    return Cost(gene, len(request.body), answer.status, spent, memory.value, memory.bound or 1.0)


def climb(daemon: Daemon, way: Way, random: Random, steps: int) -> Iterator[Cost]:
    """Every body that was dearer than all before it."""
    best: Cost | None = None
    for n in range(steps):
        if best is None or n < steps * WIDTH:
            gene = replace(by_chance(random), site=n, size=ROOM, parts=random.choice((1, MOST)), end="")
        else:
            gene = changed(random, best.gene)
        cost = cost_of(daemon, way, gene)
        if best is None or cost.score > best.score:
            best = cost
            yield cost


def search(seed: int, steps: int, tree: Path = ROOT, words: Sequence[str] = ()) -> bool:
    """The dearest body of every dialect; whether all of them are within the bounds."""
    print(f"\ndearest of {steps} bodies in each dialect, up to {ROOM // MIB + 1} MiB")
    print("| dialect | CPU in one step | memory | bytes sent | status | body |\n|---|---|---|---|---|---|")
    good = True
    with a_stage(tree=tree) as daemon:
        for way in WAYS:
            if words and not any(word in way.label for word in words):
                continue
            *_, dearest = climb(daemon, way, Random(f"{seed} {way.label}"), steps)
            print(dearest.row(way.label), flush=True)
            good = good and dearest.holds
    return good
