"""The configuration without its secrets, and texts of others (the SDK, AWS) without the secrets in them.

Invariants:
- A secret setting is marked in its type. Its value is never shown; nor are the user and the query of a URL.
- ``redacted`` returns plain text, numbers, lists and mappings, in the words of the file. A kind without
  options is its word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args

import msgspec

from forwarder.addresses import Listens
from forwarder.config.units import Bytes, Duration

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Shorter words are found by chance, and hiding them would tear other words apart."""

Secret = Annotated[str, msgspec.Meta(extra={"secret": True})]
"""The type of a setting whose value is never shown."""

_USER_IN_URL = re.compile(r"(?<=//)[^/\s\"'<>]*@")
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
_TOKEN = re.compile(r"(?i)(?<=x-amz-security-token)(\W{1,4})[^\s\"'<>&,;]+")
_QUERY = re.compile(r"(?<=\?).+")


def redacted(settings: Any) -> Any:
    """A Struct of settings, or any value of one, as it would be written, with ``***`` for secrets."""
    match settings:
        case msgspec.Struct():
            fields = msgspec.structs.fields(settings)
            tag = settings.__struct_config__.tag
            values = {field.encode_name: _field(field, getattr(settings, field.name)) for field in fields}
            if tag is None:
                return values
            return {str(settings.__struct_config__.tag_field): tag, **values} if values else tag
        case Duration() | Bytes():
            return settings.text
        case Listens():
            return settings.setting
        case str():
            return without_queries(without_users(settings))
        case dict():
            return {str(name): redacted(value) for name, value in settings.items()}
        case list() | tuple():
            return [redacted(value) for value in settings]
    return settings


def without_users(text: str) -> str:
    """The text with ``***`` for what stands before the host in its URLs."""
    return _USER_IN_URL.sub(f"{HIDDEN}@", text)


def without_queries(text: str) -> str:
    """A URL with ``***`` for its query; any other text as it is."""
    return _QUERY.sub(HIDDEN, text) if "://" in text else str(text)


def without_secrets(text: str, secrets: Iterable[str | None]) -> str:
    """The text with ``***`` for these, for access keys and session tokens in AWS's form, and users in URLs.

    Not all of them are known by their value: a role is assumed with keys that only the SDK has.
    """
    text = _TOKEN.sub(rf"\1{HIDDEN}", _KEY_ID.sub(HIDDEN, text))
    for secret in secrets:
        if secret and len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return without_users(text)


def _field(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    return HIDDEN if value is not None and is_secret(field.type) else redacted(value)


def is_secret(type_: Any) -> bool:
    """Whether the value of a setting of this type is never shown."""
    metas = getattr(type_, "__metadata__", ())
    own = any((getattr(meta, "extra", None) or {}).get("secret") for meta in metas)
    return own or any(is_secret(part) for part in get_args(type_))
