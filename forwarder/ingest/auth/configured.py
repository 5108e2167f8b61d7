"""The files that say who may send, as the configuration names them; None for one that is not configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from forwarder.config import IngestConfig
from forwarder.ingest.auth import access_keys, tokens
from forwarder.ingest.auth.access_keys import AccessKeys
from forwarder.ingest.auth.files import SecretFile, read_text
from forwarder.ingest.auth.tls import Tls, make_tls
from forwarder.ingest.auth.tokens import Tokens

T = TypeVar("T")


class Configured(NamedTuple):
    """What is there to be read; nothing has been yet."""

    tokens: SecretFile[Tokens] | None
    access_keys: SecretFile[AccessKeys] | None
    tls: SecretFile[Tls] | None


def configured(config: IngestConfig) -> Configured:
    return Configured(
        _parsed("tokens", config.auth.tokens, tokens.parse),
        _parsed("access_keys", config.auth.access_keys, access_keys.parse),
        _tls(config),
    )


def _parsed(name: str, path: str | None, parse: Callable[[str], T]) -> SecretFile[T] | None:
    if path is None:
        return None
    return SecretFile(name, f"ingest.auth.{name}", [path], lambda: parse(read_text(path)))


def _tls(config: IngestConfig) -> SecretFile[Tls] | None:
    if config.tls is None:
        return None
    paths = [path for path in (config.tls.certificate, config.tls.key, config.tls.client_ca) if path]
    public = [path for path in paths if path != config.tls.key]
    return SecretFile("tls", "ingest.tls", paths, partial(make_tls, config.tls), public)
