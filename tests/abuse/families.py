"""The kinds of dear bodies: one row of the table in ``docs/security.md`` each.

Invariants:
- An input that was found by chance or by a reader belongs to a family, or makes a new one: kinds are fixed,
  not inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.abuse.bodies import (
    BATCH,
    CLOUD,
    CLOUDEVENTS,
    Named,
    attributes,
    carried,
    deep_waves,
    ends,
    halves,
    honest,
    line_ends,
    long_attributes,
    many_events,
    many_members,
    nested,
    numbered,
    odd_arrays,
    packed,
    repeated,
    resources,
)
from tests.abuse.wire import Request


@dataclass(frozen=True)
class Family:
    """Inputs of one kind. ``plain``: also sent as they are, not gzipped."""

    name: str
    principles: str
    inputs: Callable[[], Iterable[Named]]
    is_packed: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(
        "one content: `[[],[],...]`", "1, 2", lambda: carried(lambda n: repeated("[]", n, '{"a":[', "]}"))
    ),
    Family(
        "one content: `[{},{},...]`", "1, 2", lambda: carried(lambda n: repeated("{}", n, '{"a":[', "]}"))
    ),
    Family("one content: an array, and not an object", "1, 2", lambda: carried(lambda n: repeated("[]", n))),
    Family(
        "one content: deep nesting",
        "1, 2",
        lambda: (
            *carried(lambda n: nested(n, "[", "]")),
            *carried(lambda n: nested(n, '{"":', "}"), escaped=True),
            *carried(lambda n: repeated(nested(0, "[", "]", depth=990), n, '{"a":[', "]}")),
        ),
    ),
    Family("one content: many keys", "1, 2", lambda: carried(lambda n: numbered(n), escaped=True)),
    Family("one content: numbers", "1, 2", lambda: carried(lambda n: repeated("1", n, '{"a":[', "]}"))),
    Family("one content: one long number", "1, 2", lambda: carried(lambda n: f'{{"a":{"9" * n}}}')),
    Family("one content: one long text", "1, 2", lambda: carried(lambda n: f'{{"a":"{"x" * n}"}}')),
    Family(
        "one content: escapes",
        "1, 2",
        lambda: (
            *carried(lambda n: '{"a":"' + "\\u0000" * (n // 6) + '"}', escaped=True),
            *carried(lambda n: '{"a":"' + "\\\\" * (n // 4) + '"}', escaped=True),
            *carried(lambda n: '{"a":"' + "\\ud83d\\ude00" * (n // 14) + '"}', escaped=True),
        ),
    ),
    Family(
        "one content: letters of two to four bytes",
        "1, 2",
        lambda: carried(lambda n: '{"a":"' + "é𝄞" * (n // 14) + '"}'),
    ),
    Family("one content: blanks", "1, 2", lambda: carried(lambda n: "{" + " " * n + "}")),
    Family(
        "one content: half a surrogate at the end",
        "1, 2",
        lambda: carried(lambda n: '{"a":"' + "x" * n + '\\ud800"}', escaped=True),
    ),
    Family("one content: half a surrogate behind escapes", "1, 2", halves),
    Family("one content: up and down below the deepest level", "1, 2", deep_waves),
    Family("many events: `{}`", "1, 2", lambda: many_events("{}")),
    Family(
        "many events: 65,536 and 65,537 of `{}`",
        "1, 2",
        lambda: (*many_events("{}", 65_536), *many_events("{}", 65_537)),
    ),
    Family(
        "many events: 130,000 small CloudEvents, 95,000 RUM events",
        "1, 2",
        lambda: (
            *many_events('{"id":"1"}', 95_000),
            (
                "batch of 130,000",
                Request(CLOUDEVENTS, repeated(f'{{{CLOUD},"id":"1"}}', 130_000 * 60).encode(), BATCH),
            ),
            *many_events('{"specversion":"1.0"}', 130_000),
        ),
    ),
    Family("many events: values that are not events", "1, 2", odd_arrays),
    Family("many members of one event", "1, 2", many_members),
    Family("many attributes of a CloudEvent", "1, 2", attributes),
    Family("one long attribute of a CloudEvent", "1, 2", long_attributes),
    Family("many resources", "1, 2", resources),
    Family("many lines", "1, 2", line_ends),
    Family("a body that is bad at its very end", "1, 2", ends),
    Family("gzip members and bombs", "1, 2", packed, is_packed=True),
    Family("honest requests of the largest size", "1, 2", honest),
)
"""Every family; the table in ``docs/security.md`` has one row for each."""
