"""``forwarder status --watch`` on a terminal: what a person sees, while it changes and when it ends."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Daemon, a_daemon, a_sandbox, ask, until
from tests.e2e.terminals import Terminal, a_terminal

TARGETS = '  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}"}}\n'
EVENT = {"Source": "my.app", "DetailType": "Hello", "Detail": {"n": 1}}
SHOWN = Path(__file__).parents[2] / "docs" / "pictures" / "status-watch.txt"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with a_terminal(tmp_path) as made:
        yield made


def watch(terminal: Terminal, daemon: Daemon, columns: int = 100) -> None:
    command = [sys.executable, "-m", "forwarder", "status", "--watch", "0.2", "--url", daemon.admin]
    terminal.run(command, columns, lines=30)
    until(lambda: "q quits" in terminal.screen(), "the status on the screen")


def row(terminal: Terminal) -> list[str]:
    """The target's cells: state, waiting, in flight, oldest, rates, delivered, dead."""
    (found,) = re.findall(r"^orders +eventbridge +(.*)$", terminal.screen(), re.MULTILINE)
    return str(found).split()


def test_it_is_drawn_in_place_and_goes_on_until_q(terminal: Terminal, tmp_path: Path) -> None:
    with (
        a_sandbox(tmp_path) as sandbox,
        a_daemon(tmp_path, TARGETS.format(url=sandbox.url)) as daemon,
    ):
        watch(terminal, daemon)
        ask(f"{daemon.url}/v1/targets/orders/events", [EVENT] * 30, "POST")
        until(lambda: row(terminal)[-2] == "30", "thirty delivered events on the screen")
        sandbox.order({"fault": "credentials", "api": "eventbridge", "message": "Your keys\x1b[2J are old."})
        ask(f"{daemon.url}/v1/targets/orders/events", [EVENT] * 5, "POST")
        until(lambda: row(terminal)[0] == "held", "a held target on the screen")
        screen = terminal.screen()
        assert "Your keys [2J are old." in " ".join(screen.split())  # it is wrapped
        assert screen.count("would be lost if killed now:") == 1
        assert "orders  in/s" in screen
        terminal.resize(50, 12)
        until(lambda: "lines more" in terminal.screen(), "a smaller picture")
        assert max(map(len, terminal.screen().splitlines())) <= 50
        sandbox.mend()
        terminal.type("Up", "Up", "q")  # which come at once
        until(lambda: "it left with 0" in terminal.screen(), "the end")
        assert "would be lost" not in terminal.screen()  # the screen is as it was before


def test_a_restart_of_the_daemon_is_lived_through_and_ctrl_c_leaves(
    terminal: Terminal, tmp_path: Path
) -> None:
    with a_sandbox(tmp_path) as sandbox:
        with a_daemon(tmp_path, TARGETS.format(url=sandbox.url)) as daemon:
            watch(terminal, daemon)
            until(lambda: "orders" in terminal.screen(), "the target on the screen")
        until(lambda: "retrying" in terminal.screen(), "that the daemon is gone")
    terminal.type("C-c")
    until(lambda: "it left with 0" in terminal.screen(), "the end")


def test_in_the_background_of_a_terminal_it_goes_on_into_its_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "watched"
    watch = [sys.executable, "-m", "forwarder", "status", "--watch", "0.2", "--url", "127.0.0.1:1"]
    terminal.run(["bash", "--norc"], columns=100, lines=30)
    terminal.type(f"{shlex.join(watch)} > {file} &", "Enter")
    until(lambda: file.exists() and file.read_text().count("retrying") > 1, "blocks in the file")


def test_the_screen_in_the_documents_is_one_of_these() -> None:
    lines = SHOWN.read_text().splitlines()
    assert lines[0].startswith("would be lost if killed now: ")
    assert " ".join(lines[3].split()).startswith("TARGET KIND STATE WAITING IN FLIGHT OLDEST IN/S OUT/S")
    assert "the last 15 minutes" in "\n".join(lines)
    assert lines[-1].endswith("q quits")
