"""What a log line looks like, and what never happens because of one."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog

from forwarder.logs import configure, limited, set_level


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_json_with_the_common_keys_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json")
    structlog.get_logger("gate").bind(target="orders").warning("target held", reason="no credentials")
    (line,) = lines(capsys)
    assert list(line) == ["timestamp", "level", "message", "target", "reason"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["timestamp"]))
    assert (line["level"], line["message"], line["target"]) == ("warning", "target held", "orders")


def test_away_from_a_terminal_auto_means_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("ready")
    assert lines(capsys)[0]["message"] == "ready"


def test_the_console_shows_level_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="console")
    structlog.get_logger().info("ready", ingest="127.0.0.1:2780")
    text = capsys.readouterr().err
    assert "ready" in text
    assert "ingest=127.0.0.1:2780" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
    ids=str,
)
def test_a_terminal_has_colours_unless_it_is_dumb_or_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    configure()
    structlog.get_logger().info("ready", ingest="127.0.0.1:2780")
    assert ("\x1b[" in terminal.getvalue()) == coloured
    assert "ready" in terminal.getvalue()


def test_on_a_console_the_target_is_the_first_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="console")
    structlog.get_logger().bind(age=1).info("target held", reason="access", error="no", target="orders")
    assert re.search(r"target held +target=orders age=1 reason=access error=no", capsys.readouterr().err)


def test_nothing_that_a_console_shows_can_control_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    configure(format="console")
    hostile = "\x1b[31m\x9b2J\u202eb\u2066\x07"
    structlog.get_logger().warning(f"held{hostile}", error=hostile, more=f"a {hostile}", all=[hostile])
    text = capsys.readouterr().err
    assert text.endswith("\n")
    assert text[:-1].isprintable()


def test_a_console_still_shows_a_traceback_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="console")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("unexpected")
    text = capsys.readouterr().err
    assert "\nTraceback " in text
    assert "\nValueError: broken" in text


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["message"] for line in lines(capsys)] == ["loud"]


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("unexpected")
    (line,) = lines(capsys)
    assert "ValueError: broken" in str(line["exception"])


def test_what_libraries_log_takes_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json")
    logging.getLogger("asyncio").warning("slow by %d", 3)
    logging.getLogger("chatty").info("left out")
    logging.getLogger("odd").log(35, "between levels %s")
    first, second = lines(capsys)
    assert (first["message"], first["logger"], first["level"]) == ("slow by 3", "asyncio", "warning")
    assert second["message"] == "between levels %s"


def test_half_a_surrogate_pair_does_not_cost_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json")
    structlog.get_logger().warning("odd", text="\ud800", thing=object)
    assert lines(capsys)[0]["message"] == "odd"


def test_a_closed_stderr_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(format="json")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    structlog.get_logger().error("nobody hears this")


def test_the_same_line_passes_once_in_ten_seconds_and_then_says_how_many_were_left_out() -> None:
    with structlog.testing.capture_logs() as seen:
        log = structlog.get_logger()
        seconds = iter([0.0, 1.0, 9.9, 10.0, 11.0, 25.0, 25.0])
        for _ in range(6):
            limited(log, "test: disk full", now=seconds.__next__).error("disk full", free=0)
        limited(log, "test: another", now=seconds.__next__).warning("another")
    assert [(line["event"], line.get("suppressed")) for line in seen] == [
        ("disk full", None),
        ("disk full", 2),
        ("disk full", 1),
        ("another", None),
    ]


def test_a_new_level_is_for_loggers_that_are_in_use_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = structlog.get_logger("gate").bind(target="orders")
    log.debug("one")
    log.info("two")
    set_level("debug")
    log.debug("three")
    set_level("error")
    log.warning("four")
    log.exception("five", exc_info=False)
    logging.getLogger("library").warning("six")
    assert [line["message"] for line in lines(capsys)] == ["two", "three", "five"]
