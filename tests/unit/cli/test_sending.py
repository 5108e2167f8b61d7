"""``forwarder send``: a target that was forgotten is said, and nothing waits for a person unnoticed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from forwarder.cli import main, send

EVENT = '{"Source":"s","DetailType":"t","Detail":"{}"}\n'


class Input(io.BytesIO):
    """Standard input that is a terminal or a pipe."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.ndjson").write_text(EVENT)
    (tmp_path / "events").write_text(EVENT)
    (tmp_path / "my events").write_text(EVENT)
    return tmp_path


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["events.ndjson"], "forwarder send TARGET events.ndjson?"),
        (["events.ndjson", "orders"], "forwarder send orders events.ndjson?"),
        (["my events", "orders"], "forwarder send orders 'my events'?"),
        (["./events"], "forwarder send TARGET ./events?"),
        (["-"], "forwarder send TARGET -?"),
        (["Orders"], "It must be 1 to 64 of a-z, 0-9, _ and -"),
    ],
)
def test_a_file_in_place_of_the_target_exits_2_with_what_was_meant(
    arguments: list[str],
    meant: str,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", Input(terminal))
    assert main(["send", *arguments]) == 2
    assert capsys.readouterr().err.rstrip("\n").endswith(meant)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no target given, and standard input is a terminal"),
        (["events"], '"events" is a file, and no target is given'),
    ],
)
def test_a_command_that_would_wait_for_a_terminal_by_mistake_exits_2(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Input(terminal=True))
    assert main(["send", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_who_types_events_is_told_what_is_read_and_how_it_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Input(terminal=True))
    send._judge("orders", send.STDIN)
    assert capsys.readouterr().err == (
        "reading events from the terminal, one JSON object per line; Ctrl-D ends\n"
    )


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("orders", 0, "the input was empty: nothing was sent"),
        ("events", 2, "the input was empty: nothing was sent. Did you mean: forwarder send TARGET events?"),
    ],
)
def test_an_empty_input_is_said_and_an_error_where_the_target_is_a_file(
    target: str,
    code: int,
    said: str,
    unused_tcp_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(["send", target, "--url", f"http://127.0.0.1:{unused_tcp_port}"]) == code
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_closed_standard_input_is_an_error_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["send", "orders"]) == 2
    assert capsys.readouterr().err == "standard input is closed: give a FILE, or pipe events in\n"
