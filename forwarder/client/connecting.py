"""What all that talks to a daemon shares: a session, the one error, exit codes, and lines on stderr."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=60.0, connect=5.0)

EXIT_OK, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 69


class Unreachable(Exception):
    """The daemon gave no answer that could be understood."""


def session_for(url: str) -> tuple[aiohttp.ClientSession, str]:
    """A session and the base URL, for ``http://host:port``, ``host:port`` or ``unix:/path``."""
    if url.startswith("unix:"):
        connector = aiohttp.UnixConnector(path=url.removeprefix("unix:"))
        return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT), "http://localhost"
    base = url if "://" in url else f"http://{url}"
    return aiohttp.ClientSession(timeout=TIMEOUT), base.rstrip("/")


def can_rewrite(stream: TextIO) -> bool:
    """Whether a line of the stream can be written again in place: a terminal that is not ``dumb``."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """A line on stderr, in place of the progress on a terminal."""
    start = "\r\x1b[K" if can_rewrite(sys.stderr) else ""
    sys.stderr.write(f"{start}{text}\n")
