"""The file of the queue of docs/adding-a-queue.md, when it cannot be written and when a kill cut it."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import QueueUnavailable
from forwarder.queues.queue import Settlement
from tests.support.kinds_of_queues import Journal, Wanted, kind_of_queue
from tests.support.puts import put_in
from tests.support.queues import events, ids


class Full(io.FileIO):
    """A disk that is full after the first bytes of a line."""

    def write(self, data: Any) -> int:
        super().write(bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_line_that_cannot_be_written_is_refused_and_never_comes_back(tmp_path: Path) -> None:
    async with kind_of_queue("journal", tmp_path) as make_queue:
        queue: Any = await make_queue()
        first, refused, second = (events(1) for _ in range(3))
        await put_in(queue, first)
        queue.drain()
        batch = queue.take()
        file = queue._file
        with Full(file.fileno(), "ab", closefd=False) as queue._file:
            with pytest.raises(QueueUnavailable):
                await put_in(queue, refused)
            queue.settle(Settlement(gone=batch.events))
        queue._file = file
        await put_in(queue, second)
        assert await make_queue.left(queue) == ids(second)


async def test_a_line_that_a_kill_cut_is_dropped_and_spoils_no_other(tmp_path: Path) -> None:
    async with kind_of_queue("journal", tmp_path) as make_queue:
        queue: Any = await make_queue()
        kept, later = events(2), events(1)
        await put_in(queue, kept)
        with open(queue._path, "ab") as file:
            file.write(b'{"id":"cut')
        await queue.aclose()
        assert isinstance(make_queue, Journal)
        again: Any = await make_queue.open("t0", Wanted(queue._front._limits, clock=queue._clock))
        await put_in(again, later)
        assert await make_queue.left(again) == ids([*kept, *later])
