"""The files that say who may send: the daemon does not start with one that it cannot use.

Invariants:
- Nothing that a file holds is in what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from forwarder.config import IngestConfig
from forwarder.doctor.findings import Finding
from forwarder.ingest.auth import access_keys, tokens
from forwarder.ingest.auth.files import SecretFile, read_text
from forwarder.ingest.auth.tls import make_tls


def examine(config: IngestConfig) -> Iterator[Finding]:
    """A finding for each of them that is configured."""
    for name, path, parse in (
        ("tokens", config.auth.tokens, tokens.parse),
        ("access_keys", config.auth.access_keys, access_keys.parse),
    ):
        if path is not None:
            yield _judged(name, f"ingest.auth.{name}", path, partial(_parsed, path, parse))
    if config.tls is not None:
        yield _judged("tls", "ingest.tls", config.tls.certificate, partial(make_tls, config.tls))


def _parsed(path: str, parse: Callable[[str], Any]) -> Any:
    return parse(read_text(path))


def _judged(name: str, setting: str, path: str, make: Callable[[], Any]) -> Finding:
    reading = SecretFile(name, setting, [path], make).look(anyway=True)
    if reading is None or not reading.problem:
        return Finding("ok", setting, f"{path} can be used")
    problem = reading.problem.removeprefix(f"{setting}: ")
    remedy = "Correct it, and let the daemon's user read it: no daemon starts without it."
    return Finding("FAIL", setting, problem, remedy)
