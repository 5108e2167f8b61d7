"""The files that say who may send: the daemon does not start with one that it cannot use.

Invariants:
- Nothing that a file holds is in what is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forwarder.config import IngestConfig
from forwarder.doctor.findings import Finding
from forwarder.ingest.auth.configured import configured
from forwarder.ingest.auth.files import SecretFile


def examine(config: IngestConfig) -> Iterator[Finding]:
    """A finding for each of them that is configured."""
    return (_judged(file) for file in configured(config) if file is not None)


def _judged(file: SecretFile[Any]) -> Finding:
    reading = file.look(anyway=True)
    if reading is not None and reading.warning:
        warning = reading.warning.removeprefix(f"{file.setting}: ")
        remedy = "Make it readable only by the daemon's user, unless it is a Kubernetes Secret."
        return Finding("warn", file.setting, warning, remedy)
    if reading is None or not reading.problem:
        return Finding("ok", file.setting, f"{file.paths[0]} can be used")
    problem = reading.problem.removeprefix(f"{file.setting}: ")
    remedy = "Correct it, and let the daemon's user read it: no daemon starts without it."
    return Finding("FAIL", file.setting, problem, remedy)
