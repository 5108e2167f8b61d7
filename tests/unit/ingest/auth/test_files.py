"""Files of secrets: what is in force when they change, break and come back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from forwarder.config import AuthConfig, ConfigError
from forwarder.ingest.auth.files import MAX_FILE_BYTES
from forwarder.ingest.auth.tokens import make
from tests.support.ingest import EVENT, NATIVE, Ingest, serving

TOKEN, LINE = make("shop")
NEXT, NEXT_LINE = make("shop")
BAD: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "cut short": lambda path: path.write_text(NEXT_LINE[:-1]),
    "not text": lambda path: path.write_bytes(b"\xff"),
    "a folder": lambda path: os.mkdir(path.rename(path.with_name("moved")).with_name("tokens")),
    "a pipe": lambda path: os.mkfifo(path.rename(path.with_name("moved")).with_name("tokens"), 0o600),
    "writable by others": lambda path: path.chmod(0o602),
    "endless": lambda path: path.write_text("#" * (MAX_FILE_BYTES + 1)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(LINE)
    return path


async def lets_in(ingest: Ingest, token: str) -> bool:
    return (await ingest.post(NATIVE, EVENT, {"Authorization": f"Bearer {token}"})).status == 202


def reads(ingest: Ingest) -> dict[tuple[str, str], int]:
    return dict(ingest.metrics.senders.reads)


async def test_a_token_is_rotated_without_a_moment_in_which_neither_is_known(file: Path) -> None:
    async with serving(auth=AuthConfig(tokens=str(file))) as ingest:
        assert [await lets_in(ingest, each) for each in (TOKEN, NEXT)] == [True, False]
        file.write_text(f"{LINE}\n{NEXT_LINE}")
        assert await ingest.files.look() == {"tokens": "good"}
        assert [await lets_in(ingest, each) for each in (TOKEN, NEXT)] == [True, True]
        file.write_text(NEXT_LINE)
        assert await ingest.files.look() == {"tokens": "good"}
        assert [await lets_in(ingest, each) for each in (TOKEN, NEXT)] == [False, True]
        assert reads(ingest) == {("tokens", "ok"): 3}


async def test_a_file_that_is_as_it_was_is_not_read(file: Path) -> None:
    async with serving(auth=AuthConfig(tokens=str(file))) as ingest:
        assert await ingest.files.look() == {}
        assert await ingest.files.look(anyway=True) == {"tokens": "good"}


async def test_a_file_replaced_by_another_of_equal_size_and_time_is_read(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(NEXT_LINE)
    about = file.stat()
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    async with serving(auth=AuthConfig(tokens=str(file))) as ingest:
        other.replace(file)
        assert await ingest.files.look() == {"tokens": "good"}
        assert await lets_in(ingest, NEXT)


@pytest.mark.parametrize("how", BAD)
async def test_a_bad_file_leaves_the_last_good_one_and_is_said_once(file: Path, how: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(auth=AuthConfig(tokens=str(file))) as ingest:
            BAD[how](file)
            for _ in range(3):
                await ingest.files.look()
            assert await ingest.files.look(anyway=True) == {"tokens": "bad"}
            assert await lets_in(ingest, TOKEN)
            assert ingest.metrics.senders.stale == {"tokens": True}
            if file.is_dir():
                file.rmdir()
            elif file.is_fifo():
                file.unlink()
            elif file.exists():
                file.chmod(0o600)
            file.write_text(NEXT_LINE)
            assert await ingest.files.look() == {"tokens": "good"}
            assert [await lets_in(ingest, each) for each in (TOKEN, NEXT)] == [False, True]
            assert ingest.metrics.senders.stale == {"tokens": False}
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["reason"].startswith(f"ingest.auth.tokens: {file}: ")


@pytest.mark.parametrize("how", BAD)
async def test_a_file_that_is_bad_at_start_is_refused_with_its_setting(file: Path, how: str) -> None:
    BAD[how](file)
    with pytest.raises(ConfigError) as caught:
        async with serving(auth=AuthConfig(tokens=str(file))):
            pass
    assert str(caught.value).startswith(f"ingest.auth.tokens: {file}: ")
