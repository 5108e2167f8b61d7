"""Logs: one line per change of state on stderr, for people on a terminal, else JSON.

Invariants:
- Every line has ``timestamp`` (UTC, milliseconds), ``level``, ``message``, and ``target`` where it has one.
- No log call raises because of stderr; within ``handed_off`` none waits for it either. Lines that cannot be
  written are dropped, counted and said.
- Where stderr is systemd's journal each line begins with its priority; what follows is the same.
- What other libraries log goes the same way.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from forwarder import stderr

Fields = MutableMapping[str, Any]

MAX_LIMITED = 1_000
_LEVELS = {**logging.getLevelNamesMapping(), "EXCEPTION": logging.ERROR}
_lowest = logging.INFO
_to_journal = False
_FIRST = ("timestamp", "level", "message", "target")


class Log(Protocol):
    """What this module needs of a logger."""

    def info(self, event: str, /, **fields: Any) -> Any: ...

    def warning(self, event: str, /, **fields: Any) -> Any: ...

    def error(self, event: str, /, **fields: Any) -> Any: ...


def configure(level: str = "info", format: str = "auto") -> None:
    """Set logging up for this process. ``format``: ``auto``, ``json`` or ``console``."""
    global _render, _to_journal
    console = format == "console" or (format == "auto" and _on_terminal())
    _render = _console() if console else render_json
    _to_journal = stderr.is_journal()
    structlog.configure(
        processors=[
            _drop_below_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    set_level(level)


def set_level(level: str) -> None:
    """From now on, for loggers that exist too."""
    global _lowest
    _lowest = _LEVELS[level.upper()]
    logging.getLogger().setLevel(max(_lowest, logging.WARNING))


def _drop_below_level(_logger: Any, method: str, fields: Fields) -> Fields:
    if _LEVELS[method.upper()] < _lowest:
        raise structlog.DropEvent
    return fields


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def render_json(_logger: Any, _method: str, fields: Fields) -> str:
    """One line of JSON, the common keys first."""
    fields["message"] = fields.pop("event")
    fields["timestamp"] = _timestamp()
    line = {key: fields.pop(key) for key in _FIRST if key in fields} | dict(fields)
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except UnicodeEncodeError:  # half a surrogate pair, in someone else's words
        return json.dumps(line, default=str)


def one_line(text: str) -> str:
    """Someone else's words, safe to print: no line breaks, no terminal sequences."""
    return "".join(character if character.isprintable() else " " for character in text)


def _console() -> Callable[[Any, str, Fields], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=has_colours(), pad_event_to=30, sort_keys=False)

    def render(logger: Any, method: str, fields: Fields) -> str:
        fields = {key: _harmless(value) for key, value in fields.items()}
        fields["timestamp"] = _timestamp()
        first = {"target": fields.pop("target")} if "target" in fields else {}
        return str(renderer(logger, method, {**first, **fields}))

    return render


def _harmless(value: Any) -> Any:
    """A text without terminal sequences; its lines stay, as an exception has several."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "\n".join(map(one_line, value.split("\n")))


def has_colours() -> bool:
    """Whether stderr is a terminal with colours, and nobody asked for none (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and _on_terminal()


def moment(wall: float) -> str:
    """Seconds since 1970, as the log writes them."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _timestamp() -> str:
    return moment(time.time())


def _write(line: str, level: str) -> None:
    if _to_journal:
        line = stderr.prefixed(line, level)
    try:
        data = f"{line}\n".encode(errors="backslashreplace").decode()
        sys.stderr.write(data)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # a closed pipe, or no stderr at all, must not stop the daemon


def _writes(level: str) -> Callable[[_Stderr, str], None]:
    def write(_self: _Stderr, line: str) -> None:
        _write(line, level)

    return write


class _Stderr:
    """Writes lines; the end of every structlog chain. structlog passes the logger's name, which is unused."""

    def __init__(self, *_name: object) -> None:
        pass

    debug = _writes("debug")
    info = log = msg = _writes("info")
    warning = _writes("warning")
    error = exception = _writes("error")
    critical = fatal = _writes("critical")


class _Bridge(logging.Handler):
    """Hands a record of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger(record.name).log(
            level, text, logger=record.name, exc_info=record.exc_info or False
        )


_render: Callable[[Any, str, Fields], str] = render_json


@contextmanager
def handed_off() -> Iterator[None]:
    """Within the block nobody waits for whoever reads stderr: see ``stderr.handed_off``.

    What Python itself would print (warnings, exceptions of threads and finalizers) is logged.
    """
    hooks = sys.unraisablehook, threading.excepthook
    with stderr.handed_off(_missing):
        sys.unraisablehook, threading.excepthook = _log_unraisable, _log_of_thread
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            sys.unraisablehook, threading.excepthook = hooks


def dropped_lines() -> int:
    """Log lines that could not be written, since the start."""
    return stderr.dropped()


def _missing(lines: int, reason: str) -> str:
    fields: Fields = {"event": "log lines dropped", "level": "warning", "lines": lines}
    if reason:
        fields["reason"] = reason
    line = _render(None, "warning", fields)
    return stderr.prefixed(line, "warning") if _to_journal else line


def _log_unraisable(problem: sys.UnraisableHookArgs) -> None:
    exception = problem.exc_value or problem.exc_type()
    structlog.get_logger("python").error(
        problem.err_msg or "unexpected exception during object cleanup", exc_info=exception
    )


def _log_of_thread(problem: threading.ExceptHookArgs) -> None:
    if problem.exc_type is not SystemExit:
        exception, thread = problem.exc_value or problem.exc_type(), problem.thread
        name = thread.name if thread is not None else ""
        structlog.get_logger("python").error("thread ended unexpectedly", thread=name, exc_info=exception)


class _Silent:
    """Says nothing, and is false: who must be heard tries again later."""

    def __bool__(self) -> bool:
        return False

    def info(self, event: str, /, **fields: Any) -> None: ...

    warning = error = info


_last_lines: dict[str, tuple[float, int]] = {}


def limited(log: Log, key: str, every: float = 10.0, now: Callable[[], float] = time.monotonic) -> Log:
    """The log for a line that may come often: at most once per ``every`` seconds for each ``key``.

    The next line that passes says how many were left out, as ``suppressed``. Use: ``limited(log, "disk
    full").warning("the disk is full", free=0)``.
    """
    at = now()
    last, suppressed = _last_lines.get(key, (float("-inf"), 0))
    if at - last < every:
        _last_lines[key] = (last, suppressed + 1)
        return _Silent()
    if len(_last_lines) >= MAX_LIMITED:
        _last_lines.clear()
    _last_lines[key] = (at, 0)
    return _Counted(log, suppressed) if suppressed else log


class _Counted:
    def __init__(self, log: Log, suppressed: int) -> None:
        self._log = log
        self._suppressed = suppressed

    def info(self, event: str, /, **fields: Any) -> None:
        self._log.info(event, suppressed=self._suppressed, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._log.warning(event, suppressed=self._suppressed, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._log.error(event, suppressed=self._suppressed, **fields)
