"""The commands: their exit codes, and what they print where."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from forwarder import __version__
from forwarder.cli import main
from forwarder.dead_letters import DeadLetters
from forwarder.model import Dead, Event
from forwarder.storage import Storage

CONFIGS = Path(__file__).parents[2] / "config"


def test_the_version_is_printed_without_loading_a_library() -> None:
    code = (
        "import sys; from forwarder.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: print(sorted({'aiohttp', 'msgspec', 'botocore', 'asyncio'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == [f"forwarder {__version__}", "[]"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["dead-letters"], ["pause"], ["pause", "orders", "--all"], ["queue"]],
)
def test_wrong_arguments_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: forwarder" in capsys.readouterr().err


def test_check_exits_0_for_a_good_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(CONFIGS / "sidecar.yaml"), "--no-files"]) == 0
    assert "2 targets (orders, web)" in capsys.readouterr().out


def test_check_exits_78_and_says_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "targets:\n  a: {kind: eventbridge, region: 5}\n  b: {kind: evidently, region: eu-west-1}\n"
        "log: {level: x}\n"
    )
    assert main(["check", "-c", str(path)]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    problems = captured.err.splitlines()
    assert [line.split(": ")[:2] for line in problems[:3]] == [
        [f"{path}:2", "targets.a.region"],
        [f"{path}:3", "targets.b.endpoint_url"],
        [f"{path}:4", "log.level"],
    ]
    assert "2025-10-16" in problems[1]
    assert problems[3:] == [f"3 problems in {path}"]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_configuration_that_is_not_there_exits_78(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-c", "/no/such/file.yaml"]) == 78
    assert "No such file" in capsys.readouterr().err


def test_contradictions_exit_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = "{kind: eventbridge, region: eu-west-1, default: true}"
    path = tmp_path / "two.yaml"
    path.write_text(f"targets:\n  a: {target}\n  b: {target}\n")
    assert main(["check", "-c", str(path)]) == 78
    assert "already the default" in capsys.readouterr().err


def test_a_file_to_send_that_is_not_there_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "orders", "/no/such/file"]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_a_storage_that_is_not_there_exits_74(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in (["list"], ["export"], ["show", "x"]):
        assert main(["dead-letters", *action, "--path", str(tmp_path / "none")]) == 74
    assert capsys.readouterr().err


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    async def fill() -> None:
        storage = Storage(tmp_path)
        await storage.open()
        kept = DeadLetters(storage, max_bytes=1 << 20, max_age=3600.0)
        await kept.open()
        event = Event("id-1", b'{"Source":"s"}', 10, b"", 0.0)
        await kept.keep(
            "orders", [Dead(event, "rejected", "MalformedDetail", "Detail is\n\x1b[1mmalformed.")]
        )
        other = Event("id-2", b"{}", 2, b"", 0.0)
        await kept.keep("web", [Dead(other, "expired", "max_age", "older than max_age")])
        await storage.close()

    asyncio.run(fill())
    return tmp_path


def test_dead_letters_are_listed_one_line_each_oldest_first(
    letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead-letters", "list", "--path", str(letters)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "id-1\torders\trejected\tMalformedDetail\tDetail is  [1mmalformed.",
        "id-2\tweb\texpired\tmax_age\tolder than max_age",
    ]


def test_dead_letters_are_exported_as_json_lines_by_target_and_reason(
    letters: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["dead-letters", "export", "--target", "orders", "--path", str(letters)]) == 0
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["event"] == {"Source": "s"}
    assert main(["dead-letters", "export", "--reason", "expired", "--path", str(letters)]) == 0
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["id"] == "id-2"


@pytest.mark.parametrize("action", ["list", "export"])
def test_who_finds_no_letters_is_told_which_there_are(
    letters: Path, capfd: pytest.CaptureFixture[str], action: str
) -> None:
    assert main(["dead-letters", action, "--target", "order", "--path", str(letters)]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", "no dead letter matches; stored: orders: 1, web: 1\n")


def test_one_dead_letter_is_shown_or_exits_1(letters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "show", "id-1", "--path", str(letters)]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "MalformedDetail"
    assert main(["dead-letters", "show", "id-9", "--path", str(letters)]) == 1
    assert "there is no dead letter id-9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("1h", 2),
        ("0", 0),
        ("1970-01-02", 2),
        ("2999-01-01T00:00:00Z", 0),
        ("2999-01-01T00:00:00+02:00", 0),
    ],
)
def test_dead_letters_are_found_by_the_moment_or_the_age_of_their_death(
    letters: Path, capsys: pytest.CaptureFixture[str], since: str, found: int
) -> None:
    assert main(["dead-letters", "list", "--since", since, "--path", str(letters)]) == 0
    assert capsys.readouterr().out.count("\n") == found
    assert main(["dead-letters", "list", "--until", since, "--path", str(letters)]) == 0
    assert capsys.readouterr().out.count("\n") == 2 - found


@pytest.mark.parametrize(
    "arguments", [["--since", "yesterday"], ["--limit", "-1"], ["--rate", "0"], ["--rate", "many"]]
)
def test_a_filter_that_is_none_exits_2_and_says_what_is_possible(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["dead-letters", "replay", *arguments])
    assert caught.value.code == 2
    assert f"argument {arguments[0]}: expected" in capsys.readouterr().err


def test_the_configuration_says_where_the_letters_are(
    letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = letters / "config.yaml"
    config.write_text(f"storage: {{path: '{letters}'}}\n" + (CONFIGS / "minimal.yaml").read_text())
    assert main(["dead-letters", "list", "-c", str(config)]) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_the_sandbox_runs_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "forwarder", "sandbox", "--listen", "127.0.0.1:0", "--bus", "orders"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        match = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert match is not None
        with urllib.request.urlopen(f"{match[0]}/_sandbox/buses") as response:
            assert b"orders" in response.read()
        process.terminate()
        assert process.wait(10) == 0


def test_a_sandbox_that_cannot_listen_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "--listen", "nowhere"]) == 2
    assert "cannot listen on nowhere" in capsys.readouterr().err


def test_a_token_is_printed_once_with_the_line_that_lets_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "shop"]) == 0
    token, line = capsys.readouterr().out.splitlines()
    assert line == f"shop {hashlib.sha256(token.encode()).hexdigest()}"


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "a\nb"])
def test_a_token_for_a_name_that_is_none_exits_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", name]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "upstream", ["nonsense", "", "ftp://host", "http://", "http://host:port", "host:4566"]
)
def test_a_sandbox_in_front_of_what_is_no_url_exits_2_and_says_what_is(
    upstream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sandbox", "--upstream", upstream]) == 2
    said = capsys.readouterr().err
    assert said.startswith("the sandbox cannot start: upstream must be http://host[:port]")
    assert repr(upstream) in said
