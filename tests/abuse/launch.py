"""The daemon as it is, in this process, with an instrument that watches its event loop.

    python -P launch.py --config FILE --instrument SOCKET

Invariants:
- No code of the forwarder is changed: only the loop that ``asyncio.Runner`` gets from uvloop has one timer
  more. The instrument is a stranger: this file imports nothing of the tests.
- A step is the CPU time of the loop's own thread between two turns of the loop, so a busy machine does not
  lengthen it. Turns shorter than ``TICK_SECONDS`` count together: a step reads at most that much too long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import uvloop

TICK_SECONDS = 0.001
EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Instrument:
    """Counts the steps of one loop since the last reset; tells them on a unix socket.

    One line a question: ``reset`` forgets, ``steps`` answers them as JSON.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._pause_began = self._pauses = 0.0
        self._loop_thread = 0
        self.forget()

    def forget(self) -> None:
        self.most = self.gc_of_most = 0.0
        self.steps = 0
        self.over = dict.fromkeys(EDGES_MS, 0)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._loop_thread = threading.get_ident()
        gc.callbacks.append(self._collecting)
        self._last = time.thread_time()
        self._tick()

    def _tick(self) -> None:
        now = time.thread_time()
        step = now - self._last
        self._last = now
        self.steps += 1
        if step > self.most:
            self.most, self.gc_of_most = step, self._pauses
        if step > TICK_SECONDS:
            for edge in EDGES_MS:
                if step * 1000 < edge:
                    break
                self.over[edge] += 1
        self._pauses = 0.0
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._loop_thread:
            return
        if phase == "start":
            self._pause_began = time.thread_time()
        else:
            self._pauses += time.thread_time() - self._pause_began

    def serve(self, path: str) -> None:
        """Answer questions, from a thread of its own."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        threading.Thread(target=self._answer_all, args=(listener,), daemon=True).start()

    def _answer_all(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                question = connection.recv(64).strip()
                connection.sendall(json.dumps(self._answer(question)).encode())

    def _answer(self, question: bytes) -> dict[str, Any]:
        said = {"most": self.most, "gc": self.gc_of_most, "steps": self.steps, "over": self.over}
        if question == b"reset":
            self.forget()
        return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--instrument", required=True)
    options = parser.parse_args()
    instrument = Instrument()
    make = uvloop.new_event_loop

    def new_event_loop() -> uvloop.Loop:
        loop = make()
        instrument.watch(loop)
        return loop

    uvloop.new_event_loop = new_event_loop
    instrument.serve(options.instrument)
    from forwarder.daemon import main as run  # as late as in the command itself

    return run(options.config)


if __name__ == "__main__":
    sys.exit(main())
