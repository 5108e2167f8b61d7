"""What to do about each trouble: one table for the page, the status, the log and the doctor.

Invariants:
- Every reason of a state, every reason why events are set aside, every cause of the storage's trouble and
  every other note of the status has a cure, and each cure has a section in docs/runbook.md (tests compare).
- A cure holds for every target: it has no name, path or word of anybody else in it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from forwarder.states import Reason, State

RUNBOOK = "docs/runbook.md"


class Cure(msgspec.Struct, frozen=True):
    """``text``: what to do, in a sentence or two. ``anchor``: the section of the runbook."""

    text: str
    anchor: str

    @property
    def page(self) -> str:
        return f"{RUNBOOK}#{self.anchor}"


_OF_STATES: Mapping[tuple[State, Reason], str] = {
    (State.HELD, Reason.CREDENTIALS): (
        "Renew the credentials, or fix the source that the message names. If AWS refuses a signature, check "
        "the clock of this host."
    ),
    (State.HELD, Reason.ACCESS): (
        "Allow events:PutEvents, rum:PutRumEvents or evidently:PutProjectEvents for these credentials."
    ),
    (State.HELD, Reason.MISSING): (
        "Create the event bus, app monitor or project, or correct its name in the configuration. Then run "
        "`forwarder flush`."
    ),
    (State.HELD, Reason.STORAGE): (
        "Free disk space, or fix the disk. Delivery then continues without a restart."
    ),
    (State.HELD, Reason.OPERATOR): "Run `forwarder resume` when the target may deliver again.",
    (State.HELD, Reason.CONFIGURATION): (
        "Fix the setting in the message: region, profile, endpoint_url, certificate or app monitor. "
        "A changed setting needs a restart."
    ),
    (State.BACKING_OFF, Reason.THROTTLED): (
        "If the queue keeps growing, ask AWS for a higher quota, or raise batch.max_wait for fuller calls."
    ),
    (State.BACKING_OFF, Reason.UNAVAILABLE): (
        "Wait: the service answers with errors, and the events are sent again. If this lasts, check AWS's "
        "health page and any proxy in between."
    ),
    (State.BACKING_OFF, Reason.UNREACHABLE): (
        "Check the network from this host to the endpoint: DNS, routes, firewall, proxy, VPC endpoint, TLS."
    ),
}

OF_STATES: Mapping[tuple[State, Reason], Cure] = {
    key: Cure(text, "-".join(key).replace("_", "-")) for key, text in _OF_STATES.items()
}

OF_SET_ASIDE: Mapping[str, Cure] = {
    "missing": Cure(
        "Create it, or correct the name at the sender. Then run `forwarder flush`.",
        "forwardereventssetaside",
    ),
    "unknown": Cure(
        "Wait for AWS's answer. If none comes, check network and credentials with `forwarder doctor`.",
        "forwardereventssetaside",
    ),
    "uncallable": Cure(
        "Allow the calls, or install awscrt for global endpoints; or remove the events with "
        "`forwarder queue purge`.",
        "forwardereventssetaside",
    ),
}
"""By the reason why events are set aside; those that are ``released`` are being sent."""

_OF_STORAGE: Mapping[str, str] = {
    "file_system": "Free space on the file system. The daemon then accepts events again, without a restart.",
    "inodes": (
        "Delete files on the file system: it has no free inode. The daemon then accepts events again, "
        "without a restart."
    ),
    "user_quota": "Raise the disk quota of the forwarder's user or project, or free space within it.",
    "max_bytes": "Let the queues drain, purge dead letters, or raise storage.max_bytes.",
    "read_only": (
        "Find out why the file system is read-only (`dmesg`), fix it, and mount it writable again."
    ),
    "io": "Check the disk (`dmesg`, SMART), and replace it if it fails.",
    "damaged": "Keep the `.damaged-` file, which has what could not be read, and check the disk.",
    "locked": "Stop the other program that uses the storage file.",
    "replaced": "Keep cleanup jobs and mounts away from storage.path; look for a `.saved-` file.",
    "other": "Check the log and the disk.",
}

OF_STORAGE: Mapping[str, Cure] = {
    cause: Cure(text, f"storage-{cause.replace('_', '-')}") for cause, text in _OF_STORAGE.items()
}
"""By what keeps the storage from writing."""


class Note(enum.StrEnum):
    """What else the status says that a person should know."""

    UNVERIFIED = "unverified"
    UNCONFIRMED = "unconfirmed"
    STRANDED = "stranded"
    CLOCK = "clock"


OF_NOTES: Mapping[Note, Cure] = {
    Note.UNVERIFIED: Cure(
        "Allow events:DescribeEventBus for these credentials, at an endpoint that supports it. Until then, "
        "make sure that every event bus exists.",
        "note-unverified",
    ),
    Note.UNCONFIRMED: Cure(
        "Create the event bus again if it was deleted by mistake, and send the events of that time again "
        "from their source.",
        "forwardereventsunconfirmed",
    ),
    Note.STRANDED: Cure(
        "Configure a target of this name and kind with `queue: disk` and restart. Or send the events "
        "elsewhere with `forwarder queue dump`, then stop the daemon and run `forwarder queue purge`.",
        "note-stranded",
    ),
    Note.CLOCK: Cure(
        "Look at the clock of this host, and let NTP or chrony keep it. Delivery is not affected.",
        "note-clock",
    ),
}
"""By what is noted, also for targets that are open."""


def cure(state: State, reason: Reason) -> Cure:
    """For a target that is not open."""
    return OF_STATES[state, reason]


def storage_cure(cause: str) -> Cure:
    return OF_STORAGE.get(cause, OF_STORAGE["other"])
