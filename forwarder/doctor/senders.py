"""The files and paths that settings name: the daemon does not start with one that it cannot use.

Invariants:
- Nothing that a file holds is in what is told.
- What is found is what ``check`` and ``run`` find.
"""

from __future__ import annotations

from collections.abc import Iterator

from forwarder.config import Config
from forwarder.doctor.findings import Finding
from forwarder.doctor.storage import ABOUT
from forwarder.ingest.auth.configured import configured
from forwarder.validation import in_files, readable_by_others


def examine(config: Config) -> Iterator[Finding]:
    """A finding for each of them that is configured, and more for one with several problems."""
    problems = [
        each for each in in_files(config) if each.path != ABOUT
    ]  # of that, ``storage`` knows the cure
    for problem in problems:
        remedy = (
            "Correct it, and make it readable by the daemon's user: the daemon does not start without it."
        )
        yield Finding("FAIL", problem.path, problem.message, remedy)
    doubts = {each.path: each.message for each in readable_by_others(config.ingest)}
    for file in configured(config.ingest):
        if file is None or any(f"{problem.path}.".startswith(f"{file.setting}.") for problem in problems):
            continue
        if warning := doubts.get(file.setting):
            remedy = "Make it readable only by the daemon's user, unless it is a Kubernetes Secret."
            yield Finding("warn", file.setting, warning, remedy)
        else:
            yield Finding("ok", file.setting, f"{file.paths[0]} can be used")
