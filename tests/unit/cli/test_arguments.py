"""Arguments that are wrong, and terminals that lack characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.cli import main


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["statsu"], "status"),
        (["dead-leters", "list"], "dead-letters"),
        (["queue", "stat"], "stats"),
        (["status", "--ulr", "x"], "--url"),
        (["check", "--jsno", "-c", "f"], "--json"),
        (["queue", "purge", "--target", "a", "--old-than", "1h"], "--older-than"),
    ],
)
def test_a_misspelt_command_or_option_is_told_the_nearest(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert f'Did you mean "{meant}"?' in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_gets_its_escape_and_no_traceback(
    encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("log: {level: 'größer 日本'}\ntargets: {orders: {kind: 'événement'}}\n", "utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "forwarder", "check", "-c", str(path)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (78, b"")
    lines = ran.stderr.decode(encoding).splitlines()
    assert len(lines) == 3
    assert rb"\u65e5\u672c" in ran.stderr


def test_output_that_nobody_reads_any_more_ends_a_command_without_a_word(tmp_path: Path) -> None:
    command = f"{sys.executable} -m forwarder check --schema | head -c 1 >/dev/null"
    ran = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_output_that_cannot_be_written_is_said_and_exits_74() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "forwarder", "check", "--schema"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 74
    assert ran.stderr == b"the output cannot be written: No space left on device\n"
