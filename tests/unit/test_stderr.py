"""Standard error that nobody reads: what is written, what is dropped, and that nobody waits for it.

Invariants:
- The reader is the test: a pipe that is full until it is read, a file on a full disk, or nobody at all.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from forwarder import logs, stderr

LAST = 10.0
"""Seconds until a test takes the writer's thread for hung."""


class Reader:
    """One end of a pipe; ``number`` is the other."""

    def __init__(self) -> None:
        self._end, self.number = os.pipe()

    def fill(self) -> int:
        """Leave no room in the pipe; how many bytes are in it."""
        os.set_blocking(self.number, False)
        filled = 0
        for size in (1 << 16, 1):
            try:
                while True:
                    filled += os.write(self.number, b"." * size)
            except BlockingIOError:
                continue
        os.set_blocking(self.number, True)
        return filled

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([self._end], [], [], LAST)[0], "nothing more is written"
            data += os.read(self._end, size - len(data))
        return data

    def line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            data += self.read(1)
        return data.decode().rstrip("\n")

    def leave(self) -> None:
        os.close(self._end)
        self._end = -1

    def close(self) -> None:
        for number in (self._end, self.number):
            if number >= 0:
                os.close(number)


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    if made._end >= 0:
        made.leave()  # so that a thread that still writes ends


def a_writer(number: int, **bounds: int) -> stderr.Writer:
    return stderr.Writer(number, lambda missing, reason: f"{missing} missing {reason}".strip(), **bounds)


def test_lines_are_written_whole_and_in_order(reader: Reader) -> None:
    writer = a_writer(reader.number)
    for number in range(100):
        writer.put(f"line {number}\n".encode())
    assert [reader.line() for _ in range(100)] == [f"line {number}" for number in range(100)]
    assert writer.dropped == 0


def test_a_full_pipe_blocks_nobody_and_drops_the_oldest_that_wait(reader: Reader) -> None:
    filled = reader.fill()
    writer = a_writer(reader.number, max_lines=3)
    writer.put(b"first\n")
    assert not writer.flush(0.05), "the thread has it in hand, and hangs"
    for number in range(10):
        writer.put(f"line {number}\n".encode())
    assert writer.dropped == 7
    reader.read(filled)
    said = [reader.line() for _ in range(5)]
    assert said == ["first", "7 missing", "line 7", "line 8", "line 9"]
    assert writer.flush(LAST)
    writer.put(b"on\n")
    assert reader.line() == "on", "the note is written once"


def test_the_bytes_that_wait_are_bounded(reader: Reader) -> None:
    filled = reader.fill()
    writer = a_writer(reader.number, max_bytes=100)
    writer.put(b"first\n")
    writer.flush(0.05)
    for letter in (b"a", b"b", b"c"):
        writer.put(letter * 49 + b"\n")
    writer.put(b"d" * 100 + b"\n")  # alone more than may wait: it costs no other line
    reader.read(filled)
    assert [reader.line()[:9] for _ in range(4)] == ["first", "2 missing", "b" * 9, "c" * 9]


def test_the_descriptor_stays_as_it_is_for_other_processes(reader: Reader) -> None:
    writer = a_writer(reader.number)
    writer.put(b"line\n")
    assert writer.flush(LAST)
    assert os.get_blocking(reader.number)


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(reader: Reader) -> None:
    filled = reader.fill()
    os.set_blocking(reader.number, False)
    writer = a_writer(reader.number)
    writer.put(b"line\n")
    assert not writer.flush(0.05)
    reader.read(filled)
    assert reader.line() == "line"
    assert writer.dropped == 0


def test_a_reader_that_left_costs_the_lines_and_nothing_else(reader: Reader) -> None:
    reader.leave()
    writer = a_writer(reader.number)
    for number in range(3):
        writer.put(f"line {number}\n".encode())
    assert writer.flush(LAST)
    assert writer.dropped == 3


def test_lines_of_a_full_disk_are_counted_and_the_next_begins_a_line(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of a line, then nothing, then all."""
    room = [4, 0, 0, 1000, 1000, 1000]
    write = os.write

    def full(number: int, data: bytes) -> int:
        if not (most := room.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(number, data[:most])

    monkeypatch.setattr(os, "write", full)
    writer = a_writer(reader.number)
    for line in (b"half a line\n", b"nothing\n", b"all\n"):
        writer.put(line)
        assert writer.flush(LAST)
    assert writer.dropped == 2
    said = [reader.line() for _ in range(3)]
    assert said == ["half", "2 missing No space left on device", "all"]


def test_a_flush_ends_while_nobody_reads(reader: Reader) -> None:
    reader.fill()
    writer = a_writer(reader.number)
    writer.put(b"line\n")
    assert writer.flush(0.01) is False


def test_a_line_that_is_logged_while_another_is_handed_over_blocks_nobody(reader: Reader) -> None:
    """As the garbage collector does it: asyncio logs what is destroyed, whatever runs at that moment."""
    writer = a_writer(reader.number)
    with writer._changed:
        writer.put(b"within\n")
    assert reader.line() == "within"


# --- the stream, and what goes through it


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@contextmanager
def logging_to(reader: Reader) -> Iterator[None]:
    """In the test itself, since pytest has hooks of its own for each of its phases."""
    before = sys.stderr
    with open(reader.number, "w", closefd=False) as sys.stderr, logs.handed_off():
        logs.configure(format="json")
        yield
    sys.stderr = before


def said(reader: Reader) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(reader.line())
    return line


def test_whoever_writes_to_stderr_waits_for_nobody(reader: Reader) -> None:
    with logging_to(reader):
        filled = reader.fill()
        structlog.get_logger("ours").warning("logged", target="orders")
        logging.getLogger("aiohttp.access").warning("a library's")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)
        print("printed", 1, file=sys.stderr)
        reader.read(filled)
        assert said(reader)["message"] == "logged"
        assert said(reader)["message"] == "a library's"
        assert "UserWarning: old" in said(reader)["message"]
        assert reader.line() == "printed 1"


def test_what_python_prints_of_an_exception_is_a_log_line(reader: Reader) -> None:
    with logging_to(reader):

        def fail() -> None:
            raise ValueError("in a thread")

        class Careless:
            def __del__(self) -> None:
                raise ValueError("in the collector")

        thread = threading.Thread(target=fail, name="careless")
        thread.start()
        thread.join()
        line = said(reader)
        assert (line["level"], line["thread"]) == ("error", "careless")
        assert "ValueError: in a thread" in line["exception"]
        del (careless := [Careless()])[:]
        line = said(reader)
        assert line["level"] == "error"
        assert "ValueError: in the collector" in line["exception"]
        assert careless == []


def test_a_traceback_that_a_library_prints_stays_whole(reader: Reader) -> None:
    with logging_to(reader):
        try:
            raise ValueError("printed")
        except ValueError:
            traceback.print_exc()
        lines: list[str] = []
        while not lines or lines[-1] != "ValueError: printed":
            lines.append(reader.line())
        assert lines[0] == "Traceback (most recent call last):"


def test_dropped_lines_are_counted_and_said_in_the_format_of_the_log(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logging_to(reader):
        see_dropped_lines(reader, monkeypatch)


def see_dropped_lines(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = reader.fill()
    assert stderr._current is not None
    monkeypatch.setattr(stderr._current, "_max_lines", 1)
    log = structlog.get_logger()
    log.info("first")
    assert not stderr._current.flush(0.05)
    for number in range(5):
        log.info("more", number=number)
    assert logs.dropped_lines() == 4
    reader.read(filled)
    assert said(reader)["message"] == "first"
    line = said(reader)
    assert (line["level"], line["message"], line["lines"]) == ("warning", "log lines dropped", 4)
    assert said(reader)["number"] == 4


# --- the journal

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Of a stream as systemd opens it for a service; the first end is the journal's."""
    journal, service = socket.socketpair()
    with journal, service:
        about = os.fstat(service.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        journal.settimeout(LAST)
        yield journal, service


@contextmanager
def stderr_is(service: socket.socket) -> Iterator[None]:
    before = sys.stderr
    with open(service.fileno(), "w", closefd=False) as sys.stderr:
        yield
    sys.stderr = before


def lines_in(journal: socket.socket, count: int) -> list[str]:
    with journal.makefile(newline="\n") as file:
        return [file.readline().rstrip("\n") for _ in range(count)]


def test_lines_for_the_journal_carry_their_priority_and_are_json_behind_it(ends: Ends) -> None:
    with stderr_is(ends[1]), logs.handed_off():
        logs.configure("debug")
        log = structlog.get_logger()
        for write in (log.debug, log.info, log.warning, log.error, log.critical):
            write("line")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("broken")
        logging.getLogger("asyncio").error("a library's")
        print("printed\n<6>twice", file=sys.stderr)
    said = lines_in(ends[0], 9)
    assert [line[:3] for line in said] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>", "<3>", "<4>", "<6>"]
    assert [json.loads(line[3:])["message"] for line in said[:7]] == ["line"] * 5 + ["broken", "a library's"]
    assert said[7:] == ["<4>printed", "<6>twice"]


def test_each_line_of_a_text_carries_its_priority(ends: Ends) -> None:
    with stderr_is(ends[1]), logs.handed_off():
        logs.configure(format="console")
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("unexpected")
        stderr.say("one\ntwo")
    said = lines_in(ends[0], 5)
    assert {line[:3] for line in said} == {"<3>"}
    assert "unexpected" in said[0]


def test_a_note_of_dropped_lines_is_a_warning_of_the_journal_too(ends: Ends) -> None:
    with stderr_is(ends[1]), logs.handed_off():
        logs.configure()
        assert logs._missing(3, "").startswith('<4>{"timestamp":')


def test_what_is_not_the_journal_gets_no_priorities(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A redirection, or a child of a service, inherits the variable."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    with logging_to(reader):
        structlog.get_logger().error("line")
        assert reader.line().startswith("{")
    stderr.say("line")
    assert capsys.readouterr().err == "line\n"


def test_a_crash_is_told_to_the_journal_as_critical_by_a_stream_that_never_blocks(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sd_journal_stream_fd(3) opens one."""
    monkeypatch.setattr(stderr, "JOURNAL", str(tmp_path / "stdout"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(stderr.JOURNAL)
        listener.listen()
        number = stderr.never_blocking(ends[1].fileno())
        assert number is not None
        with listener.accept()[0] as stream, open(number, "wb", closefd=True):
            assert stream.recv(100) == b"forwarder\n\n2\n0\n0\n0\n0\n"
            assert not os.get_blocking(number)


def test_a_crash_does_not_wait_for_who_reads_a_pipe(reader: Reader) -> None:
    crash = f"""
import os
from forwarder import stderr
os.dup2({reader.number}, 2)
stderr.end_crashes()
os.abort()
"""
    reader.fill()
    environ = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-c", crash]
    process = subprocess.run(command, pass_fds=[reader.number], env=environ, timeout=LAST, check=False)
    assert process.returncode == -signal.SIGABRT
    assert os.get_blocking(reader.number)


def test_without_a_stderr_logging_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``2>&-``: Python has no stream then."""
    monkeypatch.setattr(sys, "stderr", None)
    with logs.handed_off():
        logs.configure()
        structlog.get_logger().error("nobody hears this")
    structlog.reset_defaults()
