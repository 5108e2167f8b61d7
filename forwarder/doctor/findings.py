"""What a doctor finds: a level, what it is about, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from forwarder.logs import one_line
from forwarder.nearest import plural

Level = Literal["ok", "warn", "FAIL"]


class Finding(msgspec.Struct, frozen=True):
    """``about``: a part of the configuration, or a target and a part of its way to AWS. ``targets``: whom it
    is about, where that is more than one.
    """

    level: Level
    about: str
    sentence: str
    remedy: str = ""
    targets: tuple[str, ...] = ()


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.level != "FAIL" for finding in findings)


def format_findings(findings: Sequence[Finding]) -> str:
    """For people: a line each, and the sum."""
    lines = [one_line(f"{each.level:<4}  {each.about}: {_in_words(each)}") for each in findings]
    passed, warned, failed = (
        sum(each.level == level for each in findings) for level in ("ok", "warn", "FAIL")
    )
    checks, warnings = plural(len(findings), "check"), plural(warned, "warning")
    return "\n".join([*lines, f"{checks}: {passed} passed, {warnings}, {failed} failed"])


def _in_words(finding: Finding) -> str:
    sentence = finding.sentence.rstrip(".")
    return f"{sentence}. {finding.remedy}" if finding.remedy else sentence
