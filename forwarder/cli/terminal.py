"""The terminal: text of unknown origin made safe for it, any encoding, and errors in arguments.

Invariants:
- No text raises an error because of the terminal's encoding: what it lacks is written as an escape.
- Output that nobody reads any more ends a command without a word.
- Only what goes to a terminal changes; a pipe or a file gets every byte as it is.
- JSON stays the same JSON: a character that could move the cursor, recolour, retitle, or reorder what a
  person reads is written as its escape.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from typing import NoReturn

from forwarder.exit_codes import EXIT_IO
from forwarder.nearest import did_you_mean

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""All controls (C0, C1) but tab and line feed, directional marks, and characters that are not seen."""


def json_for_terminal(text: str) -> str:
    """JSON text with every such character as ``\\uXXXX``. They occur only inside of its strings."""
    return _CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], text)


def for_terminal(line: bytes) -> bytes:
    """The same for lines of JSON in bytes."""
    return json_for_terminal(line.decode("utf-8", "replace")).encode()


def prepare() -> None:
    """Let both streams take any text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def finish(code: int) -> int:
    """Write what is left; the exit code, another one where the output is lost."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
    except OSError as error:
        lost = lost_output(error)
        return code or lost
    return code


def is_of_output(error: OSError) -> bool:
    """Whether it comes from a stream: errors of files name theirs, and those of the storage are its own."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def lost_output(error: OSError) -> int:
    """Say that the output cannot be written; the exit code."""
    _forget_output()
    print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
    return EXIT_IO


def _forget_output() -> None:
    """Nothing more is written, so that the interpreter's own last flush fails at nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """Suggests the nearest word for one that is not known."""

    def error(self, message: str) -> NoReturn:
        if (invalid := _INVALID.search(message)) is not None:
            choices = [word.strip(" '\"") for word in invalid[2].split(",")]
            message += did_you_mean(invalid[1], choices)
        elif message.startswith("unrecognized arguments: "):
            given = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
            message += f".{did_you_mean(given, _options(self))}"
        super().error(message.removesuffix("."))


_INVALID = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)$")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """The options of a parser and of all commands below it."""
    found: list[str] = []
    for action in parser._actions:
        found += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found += _options(below)
    return found
