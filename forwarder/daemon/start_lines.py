"""One log line for each target at start: where its events go, and what an accepted event survives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from forwarder.config import without_users
from forwarder.daemon.lanes import TargetParts

SURVIVES = {
    "disk": "a kill, a crash and a power cut",
    "memory": "an orderly stop that can deliver, no kill",
}
NOT_YET = "not looked for yet"
"""The source is logged when credentials are found."""


def say_targets(built: Mapping[str, TargetParts], options: Mapping[str, Any]) -> None:
    for name, each in built.items():
        queue = options[name].queue
        structlog.get_logger("daemon").info(
            "target configured",
            target=name,
            kind=options[name].kind,
            region=each.target.region or "none",
            endpoint=endpoint_in_words(options[name]),
            queue=queue,
            survives=SURVIVES[queue],
            credentials=each.target.credentials().source or NOT_YET,
        )


def endpoint_in_words(options: Any) -> str:
    """The operator's own endpoint, or which of AWS's for the region."""
    if options.endpoint_url is not None:
        return without_users(options.endpoint_url)
    kinds = [
        word for word, wanted in (("FIPS", options.use_fips), ("dual stack", options.use_dualstack)) if wanted
    ]
    return f"AWS ({', '.join(kinds)})" if kinds else "AWS"
