"""Asks a running daemon for its status, and shows it to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from forwarder.client.connecting import Unreachable, exchange, say, session_for
from forwarder.client.order import alike, in_short
from forwarder.exit_codes import EXIT_OK, EXIT_UNAVAILABLE
from forwarder.logs import moment, one_line
from forwarder.nearest import plural
from forwarder.states import in_words
from forwarder.urls import STATUS


async def status(url: str, as_json: bool) -> int:
    """Print a running daemon's status; the exit code."""
    session, base = session_for(url)
    try:
        async with session:
            reply = await exchange(session, "GET", f"{base}{STATUS}", url)
        if reply.status != 200:
            raise Unreachable(f"{url} is not the admin listener of a forwarder: it answered {reply.status}")
        report = msgspec.json.decode(reply.body, type=dict[str, Any])
        text = msgspec.json.format(reply.body, indent=2).decode() if as_json else render_status(report)
    except Unreachable as problem:
        say(str(problem))
        return EXIT_UNAVAILABLE
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        say(f"{url} is not the admin listener of a forwarder of this version")
        return EXIT_UNAVAILABLE
    print(text)
    return EXIT_OK


def render_status(report: dict[str, Any]) -> str:
    """The status as a table; what a kill would lose stands first."""
    notes = [*notes_of(report), *credentials_of(report)]
    lines = [*head_of(report), "", *table_of(report), "", *notes, tail_of(report)]
    return "\n".join(lines)


def head_of(report: dict[str, Any]) -> list[str]:
    """What a kill would lose, and what runs since when."""
    stopping = ", stopping" if report["draining"] else ""
    return [
        f"would be lost if killed now: {plural(report['only_in_memory'], 'event')}",
        f"version {report['version']}, up {span(report['uptime_seconds'])}{stopping}",
    ]


def table_of(report: dict[str, Any]) -> list[str]:
    heads = (
        "TARGET",
        "KIND",
        "STATE",
        "REASON",
        "WAITING",
        "IN FLIGHT",
        "OLDEST",
        "IN/S",
        "OUT/S",
        "DELIVERED",
        "DEAD",
    )
    return as_table([heads, *(_row(name, target) for name, target in report["targets"].items())])


def notes_of(report: dict[str, Any]) -> list[str]:
    """A sentence for each thing that is wrong, and one for targets that have the same trouble."""
    return [*_notes_of_targets(report), *_notes_of_storage(report)]


def _notes_of_targets(report: dict[str, Any]) -> Iterator[str]:
    has_unconfirmed = False
    for names, target in alike(report["targets"]):
        if target["message"]:
            named = in_short(names)
            yield one_line(f"{named}: {_standing(target)}{target['message']}{_next_try(target)}")
            yield from cure_of(target)
        for name in names:
            yield from set_aside_of(name, target)
            unconfirmed = unconfirmed_of(name, target)
            has_unconfirmed |= bool(unconfirmed)
            yield from unconfirmed
    if has_unconfirmed:
        yield from _noted_cure(report, "unconfirmed")


def _notes_of_storage(report: dict[str, Any]) -> Iterator[str]:
    storage = report["storage"]
    for name, events in storage["stranded"].items():
        yield f"{name}: {_stranded(events)}"
    if storage["stranded"]:
        yield from _noted_cure(report, "stranded")
    if clock := report.get("clock"):
        yield one_line(f"clock: {clock}")
        yield from _noted_cure(report, "clock")
    if storage["trouble"]:
        yield one_line(f"storage: {storage['trouble']}")
        yield from cure_of(storage)


def _noted_cure(report: dict[str, Any], note: str) -> list[str]:
    return cure_of(report.get("cures", {}).get(note, {}))


def _stranded(events: int) -> str:
    return f"{plural(events, 'event')} on disk, but no target of this name and kind has a disk queue"


def _standing(target: dict[str, Any]) -> str:
    """The state of a target that is not open, for a sentence."""
    reason = target.get("reason")
    return f"{in_words(target['state'], reason)} since {moment(target['since'])}: " if reason else ""


def _next_try(target: dict[str, Any]) -> str:
    probe = target["next_probe_seconds"]
    return f" (next try in {span(probe)})" if probe is not None else ""


def cure_of(troubled: dict[str, Any]) -> list[str]:
    """What to do about it, and where the runbook says more."""
    return [f"  cure: {troubled['cure']} ({troubled['runbook']})"] if troubled.get("cure") else []


def credentials_of(report: dict[str, Any]) -> list[str]:
    """Where each target's credentials came from, once it has some."""
    lines = []
    for name, target in report["targets"].items():
        if source := target.get("credentials_source"):
            end = target["credentials_end"]
            until = "" if end is None else f", until {datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ}"
            lines.append(f"{name}: credentials from {source}{until}")
    return lines


def set_aside_of(name: str, target: dict[str, Any]) -> list[str]:
    """What waits for its bus, app monitor, project or endpoint, the largest first."""
    aside = target.get("set_aside") or {"names": 0}
    if aside["names"] < 2:  # the target's message says it
        return []
    reasons = ", ".join(f"{count} {reason}" for reason, count in aside["reasons"].items())
    lines = [f"{name}: {plural(aside['events'], 'event')} of {aside['names']} names set aside ({reasons})"]
    said = {target.get("cure")}
    for each in aside["largest"]:
        lines.append(one_line(f"  {each['message']}: {plural(each['events'], 'event')}"))
        if (cure := each.get("cure")) and cure not in said:
            said.add(cure)
            lines.append(f"    cure: {cure}")
    if aside["names"] > len(aside["largest"]):
        lines.append(f"  and {plural(aside['names'] - len(aside['largest']), 'more name')}")
    return lines


def unconfirmed_of(name: str, target: dict[str, Any]) -> list[str]:
    """Deliveries that nobody can confirm, bus by bus, the latest first."""
    lines = []
    for each in target.get("unconfirmed_buses") or ():
        least = "at least " if each["at_least"] else ""
        events = f"{plural(each['events'], 'delivered event')} {'is' if each['events'] == 1 else 'are'}"
        when = f"between {moment(each['since'])} and {moment(each['until'])}"
        cause = f"event bus {each['name']} was deleted {when}"
        lines.append(one_line(f"{name}: {least}{events} unconfirmed: {cause}"))
    return lines


def tail_of(report: dict[str, Any]) -> str:
    storage = report["storage"]
    return (
        f"dead letters: {plural(storage['dead_letters_events'], 'event')}, "
        f"{plural(storage['dead_letters_bytes'], 'byte')} in {storage['path']}"
    )


def as_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, with their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _row(name: str, target: dict[str, Any]) -> tuple[str, ...]:
    rates = target["rates"]
    oldest = target["oldest_age_seconds"]
    return (
        name,
        target["kind"],
        in_words(target["state"]),
        target.get("reason") or "-",
        str(target["waiting"]),
        str(target["in_flight"]),
        span(oldest) if oldest else "-",
        f"{rates['received_per_second']:.0f}",
        f"{rates['delivered_per_second']:.0f}",
        str(target["delivered"]),
        str(target["dead_lettered"]),
    )


def span(seconds: float) -> str:
    """A duration for people, in its two largest units."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{smaller}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
