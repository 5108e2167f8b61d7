"""What a person on call asks first: what would a kill lose, and how is each target. Read-only and plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder import __version__
from forwarder.cures import OF_NOTES, Cure, Note, cure, storage_cure
from forwarder.daemon.asides import SetAside
from forwarder.daemon.lanes import Shared, TargetParts
from forwarder.metrics import versions
from forwarder.states import State, in_words
from forwarder.storage import StorageError
from forwarder.targets.names import display_name
from forwarder.targets.unconfirmed import Unconfirmed


class Status:
    """Describes a running daemon; ``shared`` and ``built`` are its own, ``stranded`` was found at start."""

    def __init__(self, shared: Shared, built: Mapping[str, TargetParts]) -> None:
        self._shared = shared
        self._built = built
        self.stranded: Mapping[str, int] = {}
        self._started_at = shared.clock.monotonic()

    def __call__(self) -> dict[str, Any]:
        shared = self._shared
        kept = shared.letters.view()
        letters = kept.values()
        in_memory = [each.lane.queue for each in self._built.values() if not each.lane.queue.durable]
        return {
            "only_in_memory": sum(map(len, in_memory)),
            "version": __version__,
            "versions": versions(),
            "uptime_seconds": round(shared.clock.monotonic() - self._started_at, 1),
            "draining": shared.metrics.process.draining,
            "clock": self._clock_sentence(),
            "targets": {
                name: self._target(name, each, kept.get(name, (0, 0))) for name, each in self._built.items()
            },
            "cures": {note: _cure(OF_NOTES[note]) for note in (Note.CLOCK, Note.STRANDED, Note.UNCONFIRMED)},
            "storage": {
                "path": str(shared.config.storage.directory()),
                "dead_letters_events": sum(events for events, _ in letters),
                "dead_letters_bytes": sum(size for _, size in letters),
                **_trouble(shared.storage.trouble),
                "stranded": dict(self.stranded),
            },
        }

    def _clock_sentence(self) -> str:
        waiting = [name for name, each in self._built.items() if not each.lane.queue.knows_ages]
        return self._shared.clock_watch.sentence(waiting)

    def line(self) -> str:
        """What waits, and who is in trouble. Only names, as a service manager shows it to anybody."""
        waiting = sum(len(each.lane.queue) for each in self._built.values())
        return "; ".join((f"events waiting: {waiting}", *self.troubles()))

    def troubles(self) -> list[str]:
        """Who is in trouble, as ``line`` says it."""
        views = {name: each.lane.gate.view() for name, each in self._built.items()}
        parts = []
        for state in (State.HELD, State.BACKING_OFF):
            if names := [f"{name} ({view.reason})" for name, view in views.items() if view.state is state]:
                parts.append(f"{in_words(state)}: {', '.join(names)}")
        if trouble := self._shared.storage.trouble:
            parts.append(f"storage: {trouble.label}")
        return parts

    def _target(self, name: str, built: TargetParts, letters: tuple[int, int]) -> dict[str, Any]:
        lane, metrics = built.lane, self._shared.metrics
        aside, note = built.set_aside, built.target.names.note()
        queue, gate = lane.queue.view(), lane.gate.view()
        rates, ledger = metrics.rates(name), metrics.ledger(name)
        credentials = built.target.credentials()
        age = 0.0 if queue.oldest_at is None else self._shared.clock.monotonic() - queue.oldest_at
        return {
            "kind": self._shared.config.targets[name].kind,
            "region": built.target.region,
            "transport": built.target.transport,
            "state": gate.state,
            "reason": gate.reason,
            "since": gate.since_wall,
            **_cure(
                _cure_of_notes(note, aside) if gate.state is State.OPEN else cure(gate.state, gate.reason)
            ),
            "message": gate.message or "; ".join(filter(None, (note, aside.sentence()))),
            "next_probe_seconds": gate.next_probe_in,
            "waiting": queue.waiting_events,
            "in_flight": queue.in_flight_events,
            "oldest_age_seconds": round(age, 3),
            "queue": self._shared.config.targets[name].queue.kind,
            "set_aside": aside.described(),
            "waiting_bytes": queue.waiting_bytes,
            "capacity_events": queue.capacity_events,
            "capacity_bytes": queue.capacity_bytes,
            **{word: ledger[word] for word in ("accepted", "delivered", "dead_lettered", "dropped")},
            "unconfirmed": ledger["unconfirmed"],
            "unverified": built.target.names.unverified,
            "unconfirmed_buses": [_unconfirmed(each) for each in built.target.names.unconfirmed_buses()],
            "retried": sum(lane.metrics.retried.values()),
            "dead_letters": {"events": letters[0], "bytes": letters[1]},
            "reasons": {
                "dead_lettered": _not_zero(lane.metrics.dead_lettered),
                "dropped": _not_zero(lane.metrics.dropped),
                "retried": _not_zero(lane.metrics.retried),
                "refused": _not_zero(lane.metrics.refused),
                "delivered": _not_zero(
                    {"unconfirmed": ledger["unconfirmed"], "unverified": built.target.names.unverified}
                ),
            },
            "credentials_end": credentials.ends_at,
            "credentials_source": credentials.source,
            "rates": {
                "received_per_second": rates.received_per_second,
                "delivered_per_second": rates.delivered_per_second,
            },
        }


def _cure_of_notes(note: str, aside: SetAside) -> Cure | None:
    """For the message of a target that is open; events that wait come before those that might be lost."""
    return aside.cure() or (OF_NOTES[Note.UNVERIFIED] if note else None)


def _cure(found: Cure | None) -> dict[str, str]:
    return {"cure": found.text if found else "", "runbook": found.page if found else ""}


def _trouble(problem: StorageError | None) -> dict[str, str]:
    """What keeps the storage from writing; all of it "" when nothing does."""
    if problem is None:
        return {"trouble": "", "reason": "", **_cure(None)}
    return {"trouble": str(problem), "reason": problem.cause, **_cure(storage_cure(problem.cause))}


def _unconfirmed(each: Unconfirmed) -> dict[str, Any]:
    return {
        "name": display_name(each.name),
        "events": each.events,
        "at_least": not each.exact,
        "since": each.since,
        "until": each.until,
    }


def _not_zero(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
