"""A server that runs pytest in forks of itself, so that no run imports the libraries again.

Each line of its standard input is a request: the arguments for pytest, a file for the output, and the seconds
that the run may take. The answer is one line: the exit code of pytest, or ``null`` when the run was killed
after these seconds. ``Runs`` starts such a server and asks it.

Invariants:
- The server imports libraries only. The forwarder and the tests are imported by each run anew, from the
  server's working directory.
- Nothing that a run started is left when its answer comes: a run is a process group, and is killed as one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

LIBRARIES = (
    "aiobotocore.session",
    "aiohttp.web",
    "asyncio",
    "boto3",
    "botocore.auth",
    "cryptography.x509",
    "jsonschema",
    "msgspec",
    "prometheus_client",
    "structlog",
    "uvloop",
    "yaml",
)


class Runs:
    """A server in a folder. One run at a time."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        with self._server:
            pass

    def run(self, arguments: Sequence[str], output: Path, seconds: float) -> int | None:
        """pytest's exit code, or None when it had not ended after so many seconds."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([arguments, str(output), seconds]) + "\n")
        self._server.stdin.flush()
        code: int | None = json.loads(self._server.stdout.readline())
        return code


def serve() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    plugins = entry_points(group="pytest11")
    for plugin in plugins:
        plugin.load()
    for line in sys.stdin:
        arguments, output, seconds = json.loads(line)
        print(json.dumps(_in_a_fork(arguments, output, seconds)), flush=True)


def _in_a_fork(arguments: list[str], output: str, seconds: float) -> int | None:
    child = os.fork()
    if not child:
        os.setsid()
        _pytest(arguments, output)
    too_long = threading.Event()

    def end() -> None:
        too_long.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    timer.join()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return None if too_long.is_set() else os.waitstatus_to_exitcode(status)


def _pytest(arguments: list[str], output: str) -> None:
    """Run pytest and end this process, without a word from the server's own exit handlers."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(1, 2)
        import pytest

        code = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose modules have names of their own
    serve()
