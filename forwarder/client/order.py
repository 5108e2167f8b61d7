"""The order in which targets are shown, and one sentence for targets that have the same trouble.

Invariants:
- By default those that need a person come first.
- Every order ends in the name, so that rows do not change places without a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Target = Mapping[str, Any]

TROUBLE = "trouble"
NAMED_AT_MOST = 3
"""Targets with the same trouble that a sentence names."""


def urgency(target: Target) -> int:
    """0 for a target that needs a person; the larger, the less."""
    if target["state"] == "held":
        return 3 if target.get("reason") == "operator" else 0
    if target["state"] == "backing_off":
        return 1
    return 2 if target["message"] else 4


ORDERS: Mapping[str, Callable[[Target], float]] = {
    TROUBLE: urgency,
    "name": lambda target: 0,
    "waiting": lambda target: -target["waiting"],
    "oldest": lambda target: -target["oldest_age_seconds"],
    "in/s": lambda target: -target["rates"]["received_per_second"],
    "out/s": lambda target: -target["rates"]["delivered_per_second"],
    "dead": lambda target: -target["dead_lettered"],
}


def ordered(targets: Mapping[str, Any], order: str = TROUBLE) -> dict[str, Any]:
    """The same targets in one of ORDERS."""
    key = ORDERS[order]
    return dict(sorted(targets.items(), key=lambda named: (key(named[1]), named[0])))


def alike(targets: Mapping[str, Any]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Targets with the same state, reason and message together: their names, and the values of the first one.

    ``since`` and the next try are the earliest of all of them.
    """
    groups: dict[object, tuple[list[str], dict[str, Any]]] = {}
    for name, target in targets.items():
        names, first = groups.setdefault(_trouble_of(name, target), ([], dict(target)))
        names.append(name)
        for key in ("since", "next_probe_seconds"):
            known = [each[key] for each in (first, target) if each.get(key) is not None]
            if known:
                first[key] = min(known)
    yield from groups.values()


def _trouble_of(name: str, target: Target) -> object:
    aside = target.get("set_aside") or {"names": 0}
    if not target["message"] or aside["names"] or target.get("unconfirmed_buses"):
        return name  # it has sentences of its own, or none
    return target["state"], target.get("reason"), target["message"]


def in_short(names: list[str]) -> str:
    """The names, or the first ones and how many more."""
    if len(names) <= NAMED_AT_MOST + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED_AT_MOST])} and {len(names) - NAMED_AT_MOST} more targets"
