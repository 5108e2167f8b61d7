"""``forwarder status --watch``: the status again and again, in place on a terminal, else block by block.

Invariants:
- The terminal is left as it was found, whatever ends the watch.
- A daemon that does not answer is said and asked again: it may be starting.
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
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec

from forwarder.client.connecting import EXIT_OK, session_for
from forwarder.client.dashboard import ASCII, BLOCKS, fit, picture
from forwarder.logs import one_line

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen, and no cursor."""

HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K\r\n", "\x1b[J"
PATIENCE = aiohttp.ClientTimeout(total=5.0)
PLAIN_WIDTH = 120


async def watch(url: str, every: float) -> int:
    """Until q or Ctrl-C (or the end of who reads it); the exit code."""
    on_terminal = sys.stdout.isatty()
    look, leave = asyncio.Event(), asyncio.Event()
    session, base = session_for(url)
    async with session:
        with _listening(look, leave), _screen() if on_terminal else contextlib.nullcontext():
            while not leave.is_set():
                look.clear()
                width, height = shutil.get_terminal_size((PLAIN_WIDTH, 24))
                lines = await _lines(session, base, url, width)
                _draw(fit(lines, height - 1), every) if on_terminal else _print(lines)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await look.wait()
    return EXIT_OK


async def _lines(session: aiohttp.ClientSession, base: str, url: str, width: int) -> list[str]:
    steps = BLOCKS if "utf" in (sys.stdout.encoding or "").lower() else ASCII
    try:
        status, history = [await _ask(session, f"{base}/{path}") for path in ("status", "history")]
        return picture(status, history, width, steps)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        problem = f"no daemon at {url}, asking again: {error or 'no answer'}"
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        problem = f"{url} is not the admin listener of a forwarder of this version; asking again"
    return textwrap.wrap(one_line(problem), width)


async def _ask(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, timeout=PATIENCE) as response:
        return msgspec.json.decode(await response.read(), type=dict[str, Any])


def _draw(lines: list[str], every: float) -> None:
    last = f"{time.strftime('%H:%M:%S')}, every {every:g}s; q leaves"
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
    return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


@contextlib.contextmanager
def _listening(look: asyncio.Event, leave: asyncio.Event) -> Iterator[None]:
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
        if not pressed or b"q" in pressed.lower():
            go()

    loop.add_reader(stdin, key)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
