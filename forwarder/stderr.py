"""Standard error that nobody waits for: a bounded queue of lines, and one thread that writes them.

Whoever reads stderr may stop: a full pipe, a terminal after Ctrl-S, a journal that hangs, a full disk.

Invariants:
- A write to ``Lines`` neither blocks nor raises. Only the writer's thread waits for the reader.
- Lines are written whole and in order. Beyond MAX_LINES or MAX_BYTES the oldest that wait are dropped, so the
  reader gets how a standstill began and how it ended. In their place a line says how many are missing.
- The descriptor keeps its flags, because other processes may share it.
- ``flush`` takes no longer than it is told to, so the end of the process never hangs.
"""

from __future__ import annotations

import faulthandler
import io
import os
import re
import select
import signal
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

MAX_LINES = 10_000
MAX_BYTES = 1 << 20
"""Of lines that wait to be written."""

LAST_SECONDS = 2.0
"""How long the end of the process waits for the last lines to be written."""

STANDARD_ERROR = 2
JOURNAL = "/run/systemd/journal/stdout"

PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""By level, as syslog(3) numbers them and sd-daemon(3) writes them before a line."""

_PREFIXED = re.compile("<[0-7]>")

Note = Callable[[int, str], str]
"""What to write in place of so many lines; with the reason where the descriptor gave one, else ""."""


def descriptor() -> int | None:
    """Of ``sys.stderr``; None where it has none."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def is_journal(number: int | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stderr is a stream of systemd's journal, and not redirected since systemd opened it."""
    number = descriptor() if number is None else number
    if number is None or not (stream := environ.get("JOURNAL_STREAM")):
        return False
    try:
        about = os.fstat(number)
    except OSError:
        return False
    return stream == f"{about.st_dev}:{about.st_ino}"


def prefixed(text: str, level: str) -> str:
    """Each line of the text with the priority that the journal reads; lines that have one keep it."""
    mark = f"<{PRIORITIES[level]}>"
    return "\n".join(line if _PREFIXED.match(line) else mark + line for line in text.split("\n"))


class Writer:
    """Writes lines to a descriptor, each of them whole, from a thread of its own."""

    def __init__(
        self, number: int, note: Note, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._number = number
        self._note = note
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._missing = 0
        self._reason = ""
        self._writing = self._in_line = False
        self._changed = threading.Condition()  # its lock lets the collector's callbacks in a put log as well
        self.dropped = 0
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Have this line written, its line break included."""
        with self._changed:
            if len(line) > self._max_bytes:
                self._drop("")
                return
            self._lines.append(line)
            self._bytes += len(line)
            while len(self._lines) > self._max_lines or self._bytes > self._max_bytes:
                self._bytes -= len(self._lines.popleft())
                self._drop("")
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait so long at most until all is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._lines or self._writing), seconds)

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._missing += 1
        self._reason = reason or self._reason

    def _run(self) -> None:
        # A process in the background of a terminal with `stty tostop` would be stopped by the first line.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while True:
            line = self._next()
            missing, reason = self._missing, self._reason
            problem = self._write(f"{self._note(missing, reason)}\n".encode()) if missing else ""
            with self._changed:
                if missing and not problem:
                    self._missing -= missing
                    self._reason = self._reason if self._missing else ""
            if problem := problem or self._write(line):
                with self._changed:
                    self._drop(problem)

    def _next(self) -> bytes:
        """The line to write next; the one before is written, or counted as dropped."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            while not self._lines:
                self._changed.wait()
            line = self._lines.popleft()
            self._bytes -= len(line)
            self._writing = True
            return line

    def _write(self, line: bytes) -> str:
        data = b"\n" + line if self._in_line else line
        try:
            while data:
                data = data[self._write_some(data) :]
                self._in_line = bool(data)
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
        return ""

    def _write_some(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # another process that shares it made it non-blocking
                waiting = select.poll()
                waiting.register(self._number, select.POLLOUT)
                waiting.poll()


class Lines(io.TextIOBase):
    """A text stream in place of ``sys.stderr``: hands whole lines to a Writer.

    ``journal``: each line gets a priority; ``warning`` where it brings none, as what libraries write by
    themselves is no good news.
    """

    def __init__(self, writer: Writer, number: int, *, journal: bool = False) -> None:
        self._writer = writer
        self._number = number
        self._journal = journal
        self._begun = ""
        self._lock = threading.RLock()

    encoding = "utf-8"
    errors = "backslashreplace"

    def write(self, text: str, /) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            if len(self._begun) > MAX_BYTES:
                lines, self._begun = [*lines, self._begun], ""
        if lines:
            whole = "\n".join(lines)
            whole = prefixed(whole, "warning") if self._journal else whole
            self._writer.put(f"{whole}\n".encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def end(self) -> None:
        """Hand over what has no line break yet."""
        if self._begun:
            self.write("\n")


def end_crashes() -> None:
    """Have faulthandler, if it is enabled, wait for nobody: a process that crashed would hang until somebody
    reads what it writes. For the process that keeps it so until it ends."""
    number = descriptor()
    if faulthandler.is_enabled() and number is not None and (own := never_blocking(number)) is not None:
        faulthandler.enable(own)


def never_blocking(number: int) -> int | None:
    """A descriptor for the same reader to which a write never blocks; None where there is no such one.

    It is another open file, so the flags of the one that other processes share stay as they are.
    """
    try:
        if is_journal(number):
            return _journal_stream()
        if stat.S_ISFIFO(mode := os.fstat(number).st_mode) or stat.S_ISCHR(mode):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        pass  # of a pipe whose reader left, or that another user made; or there is no journal
    return None


def _journal_stream() -> int:
    """A stream as of sd_journal_stream_fd(3). Each of its lines is critical, so it needs no prefix."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(JOURNAL)
        # identifier, unit (the journal knows it), priority; no prefixes; nothing to syslog, kmsg, console
        header = ("forwarder", "", PRIORITIES["critical"], 0, 0, 0, 0)
        stream.sendall("".join(f"{each}\n" for each in header).encode())
        stream.setblocking(False)
        return stream.detach()


_current: Writer | None = None


def dropped() -> int:
    """Lines that were not written, since the start of the process."""
    return 0 if _current is None else _current.dropped


@contextmanager
def handed_off(note: Note) -> Iterator[None]:
    """Within the block ``sys.stderr`` is a ``Lines``; its end waits for the reader LAST_SECONDS at most.

    What is not written by then stays in the queue, and so does what is written after the block, since the
    descriptor would block whoever writes to it.
    """
    global _current
    before, number = sys.stderr, descriptor()
    if number is None:  # written to memory, or there is none
        with _nowhere() if before is None else nullcontext():
            yield
        return
    before.flush()
    _current = Writer(number, note)
    sys.stderr = lines = Lines(_current, number, journal=is_journal(number))
    try:
        yield
    finally:
        lines.end()
        if _current.flush(LAST_SECONDS):
            sys.stderr = before


@contextmanager
def _nowhere() -> Iterator[None]:
    """For a process without a stderr: else the next file it opens would be taken for that, and written to."""
    before = sys.stderr
    while (number := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(number, True)
    os.close(number)
    with open(os.devnull, "w") as sys.stderr:
        yield
    sys.stderr = before


def say(text: str, level: str = "error") -> None:
    """Write this to stderr as it is; with its priority where the journal reads it."""
    print(prefixed(text, level) if is_journal() else text, file=sys.stderr)
