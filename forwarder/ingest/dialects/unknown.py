"""The answer to whoever shows no dialect: an error in the shapes of all at once."""

from __future__ import annotations

import msgspec

from forwarder.ingest.errors import BadRequest, Dialect


def _error(problem: BadRequest) -> bytes:
    both = {
        "__type": problem.code,
        "message": problem.message,
        "error": {"code": problem.code, "message": problem.message},
    }
    return msgspec.json.encode(both)


DIALECT = Dialect("application/json", _error, aws=True)
