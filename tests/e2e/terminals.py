"""A terminal to watch a program in: tmux, with a server and sessions of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.environments import debian_program


class Terminal:
    """One window. ``screen`` is what a person sees now."""

    def __init__(self, socket: Path) -> None:
        self._tmux = [debian_program("tmux", "tmux"), "-S", str(socket), "-f", os.devnull]

    def run(self, command: Sequence[str | Path], columns: int, lines: int) -> None:
        """The program, and after it a line with its exit code."""
        words = shlex.join(map(str, command))
        shown = f"{words}; echo it left with $?; exec cat"
        self._tell("-u", "new-session", "-d", "-x", str(columns), "-y", str(lines), shown)

    def screen(self) -> str:
        return self._tell("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        self._tell("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        self._tell("resize-window", "-x", str(columns), "-y", str(lines))

    def close(self) -> None:
        self._tell("kill-server")

    def _tell(self, *words: str) -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        done = subprocess.run(
            [*self._tmux, *words],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        return done.stdout


@contextlib.contextmanager
def a_terminal(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(folder / "tmux.sock")
    try:
        yield terminal
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            terminal.close()
