"""``status --watch``: the lines it shows, and what it prints where there is no terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from forwarder.client.dashboard import ASCII, BLOCKS, NOTES_ABOVE, picture, plot
from forwarder.client.order import ORDERS, ordered
from forwarder.client.viewport import Viewport

SENTENCE = "AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/me is \x1b[31mnot\nauthorized"
TARGET: dict[str, Any] = {
    "kind": "eventbridge",
    "state": "held",
    "message": SENTENCE,
    "next_probe_seconds": 12.5,
    "waiting": 10,
    "in_flight": 2,
    "oldest_age_seconds": 61.0,
    "delivered": 100,
    "dead_lettered": 3,
    "rates": {"received_per_second": 5.0, "delivered_per_second": 0.0},
    "reasons": {"dead_lettered": {"rejected": 3}, "dropped": {}, "retried": {}, "refused": {"queue_full": 9}},
}
STATUS: dict[str, Any] = {
    "only_in_memory": 12,
    "version": "0.1.0",
    "versions": {"python": "3.11.7", "aiobotocore": "3.10.0"},
    "uptime_seconds": 3725.0,
    "draining": False,
    "targets": {"orders": TARGET},
    "storage": {
        "path": "state",
        "dead_letters_events": 3,
        "dead_letters_bytes": 900,
        "trouble": "",
        "stranded": {},
    },
}
HISTORY: dict[str, Any] = {
    "kept_seconds": 900.0,
    "seconds_ago": [870.0, 430.0, 10.0],
    "targets": {
        "orders": {
            "accepted": [5.0, 10.0, 0.0],
            "delivered": [5.0, 0.0, 0.0],
            "retried": [0.0, 1.0, 2.0],
            "refused": [0.0, 1.0, 0.0],
            "dead_lettered": [0.0, 0.0, 1.0],
            "waiting": [0, 4, 8],
        }
    },
}


def test_every_number_is_there_and_every_line_fits() -> None:
    for width in (40, 80, 200):
        assert max(map(len, picture(STATUS, HISTORY, width))) <= width
    lines = picture(STATUS, HISTORY, 100)
    assert lines[0] == "would be lost if killed now: 12 events"
    assert "python 3.11.7, aiobotocore 3.10.0" in lines[1]
    rows = [line.split() for line in lines]
    assert ["orders", "dead", "letter", "rejected", "3"] in rows
    assert ["orders", "refused", "queue_full", "9"] in rows
    assert [row[:3] for row in rows if row[:1] == ["failures/s"]] == [["failures/s", "3", "3"]]
    assert [row[:4] for row in rows if row[:2] == ["orders", "in/s"]] == [["orders", "in/s", "0", "10"]]
    assert lines[-1] == "dead letters: 3 events, 900 bytes in state"


def test_a_sentence_is_wrapped_whole_and_tells_the_terminal_nothing() -> None:
    lines = picture(STATUS, HISTORY, 50)
    text = "\n".join(lines)
    assert "\x1b" not in text
    start = next(i for i, line in enumerate(lines) if line.startswith("orders: AccessDenied"))
    said = " ".join(" ".join(lines[start : start + 4]).split())
    assert said.startswith("orders: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/me")
    assert "authorized (next try in 12s)" in said


def test_a_plot_tells_nothing_from_what_is_not_known() -> None:
    line = plot([0.0, 1.0, 8.0], [45.0, 25.0, 5.0], 60.0, 6, BLOCKS)
    assert line == " _ ▂ █"
    assert plot([8.0, 1.0], [5.0, 3.0], 60.0, 6, ASCII) == "     @"  # the most of a column's time
    assert plot([], [], 60.0, 6, ASCII) == ""


def test_a_small_window_says_how_much_it_does_not_show_and_scrolls() -> None:
    lines, view = list("abcdefgh"), Viewport()
    assert view.frame(lines[:2], 3) == ["a", "b"]
    assert view.frame(lines, 4) == ["a", "b", "c", "... and 5 lines more"]
    assert not view.press(b"\x1b[B\x1b[B")  # two keys that came at once
    assert view.frame(lines, 4) == ["c", "d", "e", "... and 3 lines more, 2 above"]
    view.press(b" ")
    assert view.frame(lines, 4)[0] == "f"
    view.press(b"\x1b[A\x1b[5~")
    assert view.frame(lines, 4)[0] == "b"
    view.press(b"G\x1b[B\x1b[B")
    assert view.frame(lines, 4) == ["f", "g", "h", "... and 0 lines more, 5 above"]
    assert view.frame(lines[:5], 4)[0] == "c"  # the text got shorter
    view.press(b"g")
    assert view.frame(lines, 4)[0] == "a"


def test_q_leaves_among_other_keys_and_an_arrow_does_not() -> None:
    assert Viewport().press(b"\x1b[A\x1b[Aq")
    assert Viewport().press(b"")  # the terminal is gone
    assert not Viewport().press(b"\x1b[A\x1bOBxyz\x1b")


def test_s_goes_through_all_orders() -> None:
    view, seen = Viewport(), []
    for _ in range(len(ORDERS) + 1):
        seen.append(view.order)
        view.press(b"s")
    assert seen == [*ORDERS, "trouble"]


def target(state: str = "open", reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    return {**TARGET, "state": state, "reason": reason, "message": message, "since": 1_700_000_000.0, **more}


def test_trouble_comes_first_and_an_operators_pause_after_it() -> None:
    targets = {
        "a-good": target(),
        "b-paused": target("held", "operator", "paused"),
        "c-slow": target("backing_off", "throttled", "slow"),
        "d-aside": target(message="missing bus"),
        "f-held": target("held", "access", "no"),
        "e-held": target("held", "access", "no"),
    }
    assert "".join(name[0] for name in ordered(targets)) == "efcdba"
    assert "".join(name[0] for name in ordered(targets, "name")) == "abcdef"
    targets["d-aside"]["waiting"] = 1_000
    assert next(iter(ordered(targets, "waiting"))) == "d-aside"


def test_what_is_wrong_stands_above_the_table_once_for_all_targets_that_have_it() -> None:
    same = {
        f"t{n:03}": target("held", "access", "no access", next_probe_seconds=float(n)) for n in range(200)
    }
    lines = picture({**STATUS, "targets": {**same, "good": target()}}, HISTORY, 200)
    table = next(n for n, line in enumerate(lines) if line.startswith("TARGET"))
    said = [line for line in lines if "no access" in line]
    assert said == [lines[3]]
    assert said[0].startswith("t000, t001, t002 and 197 more targets: held (access) since ")
    assert said[0].endswith(": no access (next try in 0.0s)")
    assert lines[table + 1].startswith("t000 ")
    assert lines[table + 201].startswith("good ")


def test_many_different_sentences_leave_the_table_in_sight_and_none_is_lost() -> None:
    many = {f"t{n:03}": target("held", "access", f"no access to {n}") for n in range(50)}
    lines = picture({**STATUS, "targets": many}, HISTORY, 200)
    table = next(n for n, line in enumerate(lines) if line.startswith("TARGET"))
    assert table <= NOTES_ABOVE + 5
    assert sum("no access to" in line for line in lines) == 50


def test_a_daemon_that_just_started_has_a_picture_too() -> None:
    empty: dict[str, Any] = {"kept_seconds": 900.0, "seconds_ago": [], "targets": {}}
    assert "since the start" in picture(STATUS, empty, 80)


@pytest.fixture
async def admin() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(STATUS if request.path == "/status" else HISTORY)

    app = web.Application()
    app.add_routes([web.get("/status", answer), web.get("/history", answer)])
    async with TestServer(app) as server:
        yield str(server.make_url(""))


async def first_block(url: str) -> list[str]:
    """The first block that a watch prints into a pipe, which is then closed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forwarder", "status", "--watch", "0.05", "--url", url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while (line := (await process.stdout.readline()).decode().rstrip("\n")) or not lines:
            lines.append(line)
        process.terminate()
        _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
    return lines


async def test_without_a_terminal_it_prints_plain_blocks_until_it_is_told_to_stop(admin: str) -> None:
    lines = await first_block(admin)
    assert lines[1] == "would be lost if killed now: 12 events"
    assert not any("\x1b" in line for line in lines)


async def test_a_daemon_that_is_not_there_is_said_and_asked_again(unused_tcp_port: int) -> None:
    lines = await first_block(f"127.0.0.1:{unused_tcp_port}")
    assert lines[1].startswith(f"no daemon at http://127.0.0.1:{unused_tcp_port}: ")
    assert " ".join(lines).endswith("; retrying")
