"""The log lines at start: where events go, what an accepted event survives, and which sockets are inherited.

Invariants:
- Up to EACH targets have a line each. More are told together: a line for each set of equal settings, with the
  number of its targets and the names of the first.
- No line has a credential, nor the user of a URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from forwarder.config import Config, without_users
from forwarder.daemon.lanes import TargetParts
from forwarder.nearest import SHOWN, listed

NOT_YET = "not looked up yet"
"""The source is logged when credentials are found."""

EACH = 20
LINES = 20
"""So many lines about sets of targets at most; the last one counts the targets of all other sets."""


def say_targets(built: Mapping[str, TargetParts], options: Mapping[str, Any]) -> None:
    log = structlog.get_logger("daemon")
    facts = {name: _facts(each, options[name]) for name, each in built.items()}
    if len(facts) <= EACH:
        for name, fields in facts.items():
            log.info("target configured", target=name, **fields)
        return
    alike = sorted(_alike(facts), key=len, reverse=True)
    shown = alike if len(alike) <= LINES else alike[: LINES - 1]
    for names in shown:
        log.info("targets configured", count=len(names), targets=listed(names, SHOWN), **facts[names[0]])
    rest = [name for names in alike[len(shown) :] for name in names]
    if rest:
        log.info("targets configured", count=len(rest), targets=listed(rest, SHOWN), settings="various")


def say_memory_only(names: Sequence[str]) -> None:
    """``names``: the targets whose queue is not durable."""
    if names:
        log = structlog.get_logger("daemon")
        log.warning("events are queued in memory only: a kill loses what has not been sent", targets=names)


def say_inherited(names: Iterable[str], config: Config, addresses: Mapping[str, str]) -> None:
    """The inherited socket is used, whatever the configuration says; a difference is a warning."""
    log = structlog.get_logger("daemon")
    for name in names:
        configured = getattr(config, name).listen.text
        say = log.info if configured == addresses[name] else log.warning
        say(f"{name}.listen: on an inherited socket", configured=configured, used=addresses[name])


def _facts(built: TargetParts, options: Any) -> dict[str, str]:
    return {
        "kind": options.kind,
        "region": built.target.region or "none",
        "endpoint": endpoint_in_words(options),
        "queue": options.queue.kind,
        "survives": options.queue.survives,
        "credentials": built.target.credentials().source or NOT_YET,
    }


def _alike(facts: Mapping[str, dict[str, str]]) -> list[list[str]]:
    """Names of targets with equal facts together."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for name, fields in facts.items():
        sets.setdefault(tuple(fields.values()), []).append(name)
    return list(sets.values())


def endpoint_in_words(options: Any) -> str:
    """The operator's own endpoint, or which of AWS's for the region."""
    if options.endpoint_url is not None:
        return without_users(options.endpoint_url)
    kinds = [
        word for word, wanted in (("FIPS", options.use_fips), ("dual stack", options.use_dualstack)) if wanted
    ]
    return f"AWS ({', '.join(kinds)})" if kinds else "AWS"
