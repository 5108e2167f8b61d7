"""Bearer tokens: made here once, and known by their hashes.

A token is 256 random bits, so its plain SHA-256 tells nobody what it is; no slow hash is needed.

Invariants:
- The file holds no token, and no error holds a line of the file.
- Comparing takes as long for a token that is nearly right as for one that is not, whichever it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest

from forwarder.ingest.auth.errors import AuthError

PREFIX = "fwd_"
"""So that whoever searches for secrets that got lost finds these too."""

MAX_TOKENS = 1_000
NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_LINE = re.compile(rf"({NAME.pattern})[ \t]+([0-9a-f]{{64}})")


def make(name: str) -> tuple[str, str]:
    """A new token, and the line of the file that lets it in under this name."""
    token = PREFIX + secrets.token_urlsafe(32)
    return token, f"{name} {sha256(token.encode()).hexdigest()}"


class Tokens:
    """The tokens that are let in: several, so that a new one can be in use before the old one goes."""

    __slots__ = ("_hashes",)

    def __init__(self, hashes: Sequence[tuple[str, bytes]]) -> None:
        self._hashes = hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def sender(self, token: str) -> str:
        """The name of whoever has this token."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = ""
        for name, known in self._hashes:
            if compare_digest(digest, known):
                found = name
        if not found:
            raise AuthError("unknown", "The bearer token is unknown to this listener.")
        return found


def parse(text: str) -> Tokens:
    """The tokens of a file. Raises ValueError with a sentence."""
    hashes = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"line {number} must be a name and the SHA-256 of a token; `forwarder token NAME` prints "
                "such a line"
            )
        hashes.append((match[1], bytes.fromhex(match[2])))
    if not hashes:
        raise ValueError("it has no token; `forwarder token NAME` prints one")
    if len(hashes) > MAX_TOKENS:
        raise ValueError(f"it has {len(hashes)} tokens; it must have at most {MAX_TOKENS}")
    return Tokens(hashes)
