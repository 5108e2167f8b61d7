"""Files that say who may send: read at start, and again when they change.

Invariants:
- What is in force was read whole and found good; a bad file changes nothing, and is said once.
- Files are read on another thread, and what they said comes into force on the loop's.
- Nothing that a file holds is in an error or in the log.
- A file that others can write is refused: whoever writes it decides who may send. One that others can read is
  used, with a warning, since Kubernetes mounts Secrets so.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from forwarder.logs import limited
from forwarder.metrics import SenderMetrics

MAX_FILE_BYTES = 1 << 20

T = TypeVar("T")
Stamp = tuple[tuple[int, ...], ...]


class SecretFileError(Exception):
    """A file cannot be used; the message names the setting, the file and what is wrong."""


class Reading(NamedTuple):
    """What a look at the files found: a new value, or what is wrong with them; and perhaps a ``warning``."""

    stamp: Stamp
    value: Any
    problem: str
    warning: str = ""


class SecretFile(Generic[T]):
    """What some files say together. ``name``: one of metrics' SECRET_FILES; ``setting``: where it is named.

    ``make`` reads and judges them; what it raises as ValueError or OSError is a sentence. ``public``: those
    of the paths that anybody may read.
    """

    def __init__(
        self, name: str, setting: str, paths: Sequence[str], make: Callable[[], T], public: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.setting = setting
        self.paths = [Path(path) for path in paths]
        self._make = make
        self._public = frozenset(map(Path, public))
        self._stamp: Stamp = ()
        self._problem = ""
        self.value: T

    def look(self, *, anyway: bool = False) -> Reading | None:
        """What the files say now; None when they are as they were. May be called on any thread."""
        stamp = tuple(_stamp(path) for path in self.paths)
        if stamp == self._stamp and not anyway:
            return None
        try:
            warning = self._check_modes()
            return Reading(stamp, self._make(), "", warning)
        except OSError as problem:
            return Reading(stamp, None, self._sentence(problem.strerror or str(problem), problem.filename))
        except Exception as problem:  # whatever a file holds, it ends no daemon that runs
            return Reading(stamp, None, self._sentence(str(problem)))

    def _check_modes(self) -> str:
        """A sentence about the first file that others can read, "" for none.

        Raises ValueError when others can write one, OSError when one cannot be looked at.
        """
        warning = ""
        for path in self.paths:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
                raise ValueError("it is not a regular file")  # reading a pipe could take for ever
            mode = stat.S_IMODE(about.st_mode)
            if mode & stat.S_IWOTH:
                message = f"other users can write to it (mode {mode:04o}); use chmod o-w"
                raise ValueError(message if path == self.paths[0] else f"{path}: {message}")
            if mode & stat.S_IROTH and path not in self._public and not warning:
                warning = f"{self.setting}: {path}: other users can read it (mode {mode:04o}); use chmod o-r"
        return warning

    def take(self, reading: Reading) -> bool:
        """Put a reading into force if it is good; whether there is something new to say."""
        news = not reading.problem or reading.problem != self._problem
        self._stamp, self._problem = reading.stamp, reading.problem
        if not reading.problem:
            self.value = reading.value
        return news

    def _sentence(self, problem: str, path: str | None = None) -> str:
        return f"{self.setting}: {path or self.paths[0]}: {problem}"


def read_text(path: str) -> str:
    """A small text file. Raises OSError or ValueError with a sentence."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


class SecretFiles:
    """All of them: ``open`` at start, ``look`` now and then."""

    def __init__(self, files: Sequence[SecretFile[Any]], metrics: SenderMetrics) -> None:
        self._files = files
        self._metrics = metrics
        self._log = structlog.get_logger("ingest")

    def __bool__(self) -> bool:
        return bool(self._files)

    async def open(self) -> None:
        """Read all for the first time. Raises SecretFileError."""
        for file in self._files:
            reading = await asyncio.to_thread(file.look, anyway=True)
            assert reading is not None
            if reading.problem:
                raise SecretFileError(reading.problem)
            if reading.warning:
                self._log.warning("secrets file is readable by others", reason=reading.warning)
            self._take(file, reading)

    async def look(self, *, anyway: bool = False) -> dict[str, str]:
        """Read what changed, or all of it ``anyway``; what became of each that was read."""
        told = {}
        for file in self._files:
            reading = await asyncio.to_thread(file.look, anyway=anyway)
            if reading is None:
                continue
            told[file.name] = "bad" if reading.problem else "good"
            if self._take(file, reading) and reading.problem:
                self._log.error(
                    "invalid secrets file ignored; keeping the last valid version", reason=reading.problem
                )
            elif not reading.problem and not anyway:
                self._log.info("secrets file reloaded", file=file.name)
            if reading.warning:
                limited(self._log, f"mode of {file.name}").warning(
                    "secrets file is readable by others", reason=reading.warning
                )
        return told

    def _take(self, file: SecretFile[Any], reading: Reading) -> bool:
        self._metrics.read(file.name, ok=not reading.problem)
        return file.take(reading)
