"""Access keys that clients sign with, from a file of the form of AWS's own ``~/.aws/credentials``.

Invariants:
- No error holds a line, a name of a key or a value of the file; a section's number is told instead.
- A key shows nothing of itself when it is printed.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping

MAX_KEYS = 1_000
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
SECTION = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_FIELDS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class AccessKey:
    """``sender``: its section's name. ``session_token`` must come with every request, if there is one."""

    __slots__ = ("secret", "sender", "session_token")

    def __init__(self, sender: str, secret: str, session_token: str = "") -> None:
        self.sender = sender
        self.secret = secret
        self.session_token = session_token

    def __repr__(self) -> str:
        return f"AccessKey({self.sender!r})"


AccessKeys = Mapping[str, AccessKey]
"""By access key id."""


def parse(text: str) -> AccessKeys:
    """The keys of a file. Raises ValueError with a sentence."""
    parser = configparser.RawConfigParser(
        default_section="", delimiters=("=",), empty_lines_in_values=False, interpolation=None
    )
    try:
        parser.read_string(text)
    except configparser.Error as problem:
        raise ValueError(f"{_place(problem)} is not in the format of an AWS credentials file") from None
    keys: dict[str, AccessKey] = {}
    for number, section in enumerate(parser.sections(), 1):
        key_id, key = _key(number, section, dict(parser[section]))
        if key_id in keys:
            raise ValueError(f"section {number} has the same aws_access_key_id as another section")
        keys[key_id] = key
    if not 0 < len(keys) <= MAX_KEYS:
        raise ValueError(f"it has {len(keys)} access keys; it must have 1 to {MAX_KEYS}")
    return keys


def _key(number: int, section: str, fields: dict[str, str]) -> tuple[str, AccessKey]:
    if not SECTION.fullmatch(section):
        raise ValueError(f"the name of section {number} must be 1 to 64 letters, digits or _.@-")
    if not set(fields) <= set(_FIELDS):
        raise ValueError(f"section {number} must have only {', '.join(_FIELDS)}")
    key_id, secret, token = (fields.get(field, "") for field in _FIELDS)
    if not KEY_ID.fullmatch(key_id):
        raise ValueError(f"section {number} must have an aws_access_key_id of letters, digits, _ and -")
    if not secret or not f"{secret}{token}".isascii() or re.search(r"\s", secret + token):
        raise ValueError(f"section {number} must have an aws_secret_access_key on one line")
    return key_id, AccessKey(section, secret, token)


def _place(problem: configparser.Error) -> str:
    lines = [number for number, _ in getattr(problem, "errors", ())] or [getattr(problem, "lineno", None)]
    return f"line {lines[0]}" if lines[0] else "it"
