"""``forwarder status --watch``: the status again and again, in place on a terminal, else block by block.

Invariants:
- The terminal is left as it was found, whatever ends the watch.
- A daemon that does not answer is said and asked again: it may be starting. What it said last stays below
  that, with its time.
- A key draws again and does not ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import msgspec

from forwarder.client.connecting import Unreachable, can_rewrite, exchange, session_for
from forwarder.client.dashboard import ASCII, BLOCKS, picture
from forwarder.client.viewport import Viewport
from forwarder.exit_codes import EXIT_OK
from forwarder.logs import one_line

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen, and no cursor."""

HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K\r\n", "\x1b[J"
PLAIN_WIDTH = 120


class Seen(NamedTuple):
    """What the daemon said last, at ``at`` (0: never), and the problem of a try after that."""

    status: Mapping[str, Any] = MappingProxyType({})
    history: Mapping[str, Any] = MappingProxyType({})
    at: float = 0.0
    problem: str = ""


async def watch(url: str, every: float) -> int:
    """Until q or Ctrl-C (or the end of who reads it); the exit code."""
    on_terminal = can_rewrite(sys.stdout)
    look, leave, view = asyncio.Event(), asyncio.Event(), Viewport()
    session, base = session_for(url)
    async with session:
        with _listening(look, leave, view), _screen() if on_terminal else contextlib.nullcontext():
            seen, due = Seen(), 0.0
            while not leave.is_set():
                look.clear()
                if time.monotonic() >= due:
                    seen = await _ask_again(session, base, url, seen)
                    due = time.monotonic() + every
                width, height = shutil.get_terminal_size((PLAIN_WIDTH, 24))
                lines = _lines(seen, width, view.order)
                if on_terminal:
                    _draw(view.frame(lines, height - 1), _last_line(every, view.order, width))
                else:
                    _print(lines)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due - time.monotonic())):
                        await look.wait()
    return EXIT_OK


async def _ask_again(session: aiohttp.ClientSession, base: str, url: str, before: Seen) -> Seen:
    try:
        status, history = [await _ask(session, f"{base}/{path}", url) for path in ("status", "history")]
        picture(status, history, PLAIN_WIDTH)
        return Seen(status, history, time.time())
    except Unreachable as error:
        problem = f"{error}; retrying"
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        problem = f"{url} is not the admin listener of a forwarder of this version; retrying"
    return before._replace(problem=problem)


def _lines(seen: Seen, width: int, order: str) -> list[str]:
    steps = BLOCKS if "utf" in (sys.stdout.encoding or "").lower() else ASCII
    lines = textwrap.wrap(one_line(seen.problem), width)
    if seen.problem and seen.at:
        at = time.strftime("%H:%M:%S", time.localtime(seen.at))
        lines += [*textwrap.wrap(f"No answer since {at}; the data below is from that time.", width), ""]
    return [*lines, *picture(seen.status, seen.history, width, steps, order)] if seen.at else lines


def _last_line(every: float, order: str, width: int) -> str:
    now = time.strftime("%H:%M:%S")
    long = f"{now}, every {every:g}s, by {order}; s sorts, arrows and space scroll, q quits"
    return long if len(long) < width else f"{now}, by {order}; q quits"[: width - 1]


async def _ask(session: aiohttp.ClientSession, url: str, place: str) -> dict[str, Any]:
    reply = await exchange(session, "GET", url, place)
    return msgspec.json.decode(reply.body, type=dict[str, Any])


def _draw(lines: list[str], last: str) -> None:
    sys.stdout.write(HOME + "".join(line + END_OF_LINE for line in lines) + last + "\x1b[K" + END_OF_SCREEN)
    sys.stdout.flush()


def _print(lines: list[str]) -> None:
    sys.stdout.write("\n".join([time.strftime("%Y-%m-%dT%H:%M:%S%z"), *lines, "", ""]))
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    sys.stdout.write(ENTER)
    try:
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()


def _has_the_keys() -> bool:
    """Whether keys are for us: a job in the background is stopped when it asks for them."""
    stdin = sys.stdin  # None where it is closed
    return stdin is not None and stdin.isatty() and os.tcgetpgrp(stdin.fileno()) == os.getpgrp()


@contextlib.contextmanager
def _listening(look: asyncio.Event, leave: asyncio.Event, view: Viewport) -> Iterator[None]:
    """Wake up for a key, a signal that ends, and another size of the window."""
    loop = asyncio.get_running_loop()

    def go() -> None:
        leave.set()
        look.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, go)
    loop.add_signal_handler(signal.SIGWINCH, look.set)
    if not _has_the_keys():
        yield
        return
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    tty.setcbreak(stdin)

    def key() -> None:
        pressed = os.read(stdin, 1024)  # all of it: keys may come at once, and one key be several bytes
        if view.press(pressed):
            leave.set()
        look.set()

    loop.add_reader(stdin, key)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
