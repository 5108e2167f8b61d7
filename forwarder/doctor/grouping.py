"""One cause said once: findings that differ only in their target become one, which counts the targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from forwarder.doctor.findings import Finding
from forwarder.nearest import SHOWN, listed


def grouped(findings: Iterable[Finding], targets: Sequence[str]) -> list[Finding]:
    """The findings in their order, each in the place of the first of its group."""
    groups: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
    known = set(targets)
    for each in findings:
        target, about = _split(each.about, known)
        groups.setdefault((each.level, about, each.sentence, each.remedy), []).append((target, each))
    return [_joined(key[1], members) for key, members in groups.items()]


def _split(about: str, targets: set[str]) -> tuple[str, str]:
    """The target that a finding is about, and the rest; ("", all of it) for none."""
    name, colon, rest = about.partition(": ")
    if colon and name in targets:
        return name, rest
    head, _, rest = about.removeprefix("targets.").partition(".")
    if about.startswith("targets.") and head in targets:
        return head, f"targets.*.{rest}"
    return "", about


def _joined(about: str, members: list[tuple[str, Finding]]) -> Finding:
    names = list(dict.fromkeys(target for target, _ in members if target))
    first = members[0][1]
    if len(names) < 2:
        return first
    sentence = f"{first.sentence.rstrip('.')} ({len(names)} targets: {listed(names, SHOWN)})"
    return msgspec.structs.replace(first, about=about, sentence=sentence, targets=tuple(names))
