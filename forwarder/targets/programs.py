"""Starts credential programs for the SDK, each below a guard (``program``) that ends what is left of it.

Invariants:
- A program ends within SECONDS, with what it started, also when the search is cancelled or the daemon killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

SECONDS = 30.0
_GUARD = Path(__file__).with_name("program.py")


async def start_program(*command: str, stdout: int, stderr: int) -> Program:
    """As ``asyncio.create_subprocess_exec``, as far as the SDK uses it."""
    lifeline, ours = os.pipe()
    try:
        guard = subprocess.Popen(  # noqa: ASYNC220  (this loop does nothing else)
            [sys.executable, "-I", "-S", str(_GUARD), str(lifeline), str(SECONDS), *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(lifeline,),
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(lifeline)
    return Program(guard, ours)


class Program:
    """A program that runs. ``ours``: our end of the pipe whose closing ends it."""

    def __init__(self, guard: subprocess.Popen[bytes], ours: int) -> None:
        self._guard = guard
        self._ours = ours

    @property
    def returncode(self) -> int | None:
        return self._guard.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it wrote, once it has ended. A cancellation ends it."""
        reading = asyncio.get_running_loop().run_in_executor(None, self._guard.communicate)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            self._release()
            with contextlib.suppress(Exception):
                await reading  # some milliseconds: the guard ends what it runs, and itself
            raise
        finally:
            self._release()

    def _release(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
