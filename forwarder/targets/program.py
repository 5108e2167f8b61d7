"""Runs one credential program in a process group of its own, and ends the whole group afterwards.

It is a script: ``python -I -S program.py LIFELINE SECONDS COMMAND...`` writes what the program wrote, and
exits as it exited. It imports nothing but the standard library, so that starting it costs some milliseconds.

Invariants:
- Nothing that the program started is left when it ended, took too long, wrote too much, or when LIFELINE, a
  pipe from the daemon, is closed. So a killed daemon leaves no program behind either. On Linux this includes
  processes that left the group.
- What cannot be killed (it runs as another user, or hangs in the kernel) is not waited for.
- The program reads nothing: its standard input is empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO

MAX_OUTPUT = 64 << 10
MAX_ERRORS = 4 << 10
NOT_RUN, TOO_LONG, TOO_MUCH, ABANDONED = 127, 124, 125, 126
END_SECONDS = 1.0
"""How long to wait for what was killed."""
PR_SET_CHILD_SUBREAPER = 36
"""Linux, prctl(2): processes whose parents ended become children of this one."""
EXIT_LOOK_SECONDS = 0.05
"""How often to look whether the program ended while others keep its output open."""


def main(lifeline: int, seconds: float, command: list[str]) -> int:
    """Run the command; the exit code."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return _fail(NOT_RUN, f"it cannot be started: {error}")
    output, errors = bytearray(), bytearray()
    try:
        failure = _read(process, lifeline, seconds, output, errors)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is still the group's
    try:
        code = process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        return _fail(TOO_LONG, "it could not be killed and is still running")
    _kill_children()
    os.write(
        2, errors.decode(errors="replace").encode()
    )  # the SDK reads it as UTF-8, and may be cut inside one
    if failure:
        return failure
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(output)
        sys.stdout.buffer.flush()
    if code < 0:
        return _fail(128 - code, f"it was killed by signal {-code}")
    return code


def _kill_children() -> None:
    """Kill what the program left behind in other groups: each becomes our child when its parent ends."""
    ends_at = time.monotonic() + END_SECONDS
    while time.monotonic() < ends_at and (children := _children()):
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


def _read(
    process: subprocess.Popen[bytes], lifeline: int, seconds: float, output: bytearray, errors: bytearray
) -> int:
    """Collect what the program writes until it ends; else the exit code for why it has to be ended."""
    ends_at = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(lifeline, selectors.EVENT_READ)
        for stream, kept, most in (
            (process.stdout, output, MAX_OUTPUT),
            (process.stderr, errors, MAX_ERRORS),
        ):
            selector.register(_fd(stream), selectors.EVENT_READ, (kept, most))
        while not _ended(process):
            if time.monotonic() > ends_at:
                return _fail(TOO_LONG, f"it did not end within {seconds:g} seconds and was killed")
            for key, _ in selector.select(EXIT_LOOK_SECONDS):
                if key.data is None:
                    return ABANDONED
                _collect(selector, key, *key.data)
            if len(output) > MAX_OUTPUT:
                return _fail(TOO_MUCH, f"it wrote more than {MAX_OUTPUT} bytes and was killed")
        _collect_rest(selector)
    return 0


def _collect(
    selector: selectors.BaseSelector, key: selectors.SelectorKey, kept: bytearray, most: int
) -> None:
    part = os.read(key.fd, 1 << 16)
    kept += part[: max(0, most + 1 - len(kept))]
    if not part:
        selector.unregister(key.fd)


def _collect_rest(selector: selectors.BaseSelector) -> None:
    """What the program had written when it ended; others that hold its output open are not waited for."""
    while ready := [key for key, _ in selector.select(0) if key.data is not None]:
        for key in ready:
            _collect(selector, key, *key.data)
            if len(key.data[0]) > key.data[1]:
                selector.unregister(key.fd)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _fd(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return stream.fileno()


def _fail(code: int, sentence: str) -> int:
    os.write(2, sentence.encode(errors="replace") + b"\n")
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
