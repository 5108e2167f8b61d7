"""``GET /v1/openapi.json``: the document for the targets of this daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from forwarder.config import IngestConfig
from forwarder.ingest.bindings import Route
from forwarder.ingest.dialects import native
from forwarder.ingest.openapi.document import document
from forwarder.ingest.operations.operation import Call, PostOnly, Reply, no_method


class OpenApiDocument(PostOnly):
    """Made when it is first asked for: who does not ask pays nothing."""

    dialect = native.DIALECT
    label = "openapi"
    known = True

    def __init__(self, routes: Sequence[Route[Any]], settings: IngestConfig) -> None:
        self._routes = routes
        self._settings = settings

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        raise no_method("POST", "GET", "HEAD")

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        if method not in ("GET", "HEAD"):
            raise no_method(method, "GET", "HEAD")
        return Reply(200, self._body)

    @cached_property
    def _body(self) -> bytes:
        return msgspec.json.encode(document(self._routes, self._settings))
