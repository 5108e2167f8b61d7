"""Requests that come twice: one set of events, and the first answer again."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http.peers import sender_of
from forwarder.ingest.idempotency import (
    ANSWER_OVERHEAD_BYTES,
    FORGOTTEN_AT_ONCE,
    IdempotencyCache,
    IdempotencyEntry,
    values_of,
)
from forwarder.ingest.operations.operation import Reply
from forwarder.model import Event, QueueUnavailable, SystemClock
from forwarder.queues.memory import MemoryQueue
from forwarder.queues.queue import Settlement
from tests.support.clocks import HandClock
from tests.support.ingest import (
    ENTRY,
    EVENT,
    LIMITS,
    MIB,
    NATIVE,
    PUT_EVENTS,
    Peer,
    Routes,
    code,
    one_of_each,
    request,
    serving,
    until,
)
from tests.unit.ingest.test_aws import MONITOR_PATH, PROJECT, PROJECT_EVENT, rum_call

HEADERS = ["Idempotency-Key", "amz-sdk-invocation-id"]
CALLS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "orders": (NATIVE, EVENT, {}),
    "orders over PutEvents": ("/", {"Entries": [ENTRY]}, PUT_EVENTS),
    "web": (MONITOR_PATH, rum_call(), {}),
    "lab": (PROJECT, {"events": [PROJECT_EVENT]}, {}),
}
OTHER_BODIES: dict[str, Any] = {
    "orders": {**EVENT, "Source": "other"},
    "orders over PutEvents": {"Entries": [{**ENTRY, "Source": "other"}]},
    "web": rum_call(2),
    "lab": {"events": [PROJECT_EVENT] * 2},
}


def target(call: str) -> str:
    return call.split()[0]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("call", CALLS)
async def test_the_same_request_again_is_taken_once_and_gets_the_same_answer(call: str, header: str) -> None:
    path, body, headers = CALLS[call]
    async with serving() as ingest:
        first = await ingest.post(path, body, {**headers, header: "k"})
        again = await ingest.post(path, body, {**headers, header: "k", "amz-sdk-request": "attempt=2; max=3"})
        assert (again.status, again.body) == (first.status, first.body)
        assert first.status in (200, 202)
        assert ingest.count(target(call)) == 1
        other = await ingest.post(path, OTHER_BODIES[call], {**headers, header: "another"})
        assert other.status == first.status
        repeats = {labels: n for name, labels, n in ingest.metrics.http.samples() if "repeated" in name}
        assert sum(repeats.values()) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("call", CALLS)
async def test_the_same_key_with_another_body_is_refused_by_name(call: str, header: str) -> None:
    path, body, headers = CALLS[call]
    async with serving() as ingest:
        await ingest.post(path, body, {**headers, header: "k"})
        answer = await ingest.post(path, OTHER_BODIES[call], {**headers, header: "k"})
        assert answer.status == 422
        assert code(answer) == "IdempotentParameterMismatchException"
        assert header in answer.body.decode()
        assert ingest.count(target(call)) == 1


async def test_a_batch_of_a_browser_is_known_by_its_body_however_it_is_packed() -> None:
    async with serving() as ingest:
        packed = gzip.compress(json.dumps(rum_call()).encode())
        assert (await ingest.post(MONITOR_PATH, packed, {"Content-Encoding": "gzip"})).status == 200
        beacon = {"Content-Type": "text/plain;charset=UTF-8"}
        assert (await ingest.post(MONITOR_PATH, rum_call(), beacon)).status == 200
        assert ingest.count("web") == 1


async def test_another_batch_with_the_same_batch_id_is_another_batch() -> None:
    async with serving() as ingest:
        for events in (1, 2):
            assert (await ingest.post(MONITOR_PATH, rum_call(events))).status == 200
        assert ingest.count("web") == 3


async def test_a_request_without_a_key_is_a_new_one_every_time() -> None:
    async with serving() as ingest:
        for headers in ({}, {}, {"Idempotency-Key": ""}):
            assert (await ingest.post(NATIVE, EVENT, headers)).status == 202
        assert ingest.count() == 3


async def test_a_key_belongs_to_one_operation_and_one_target() -> None:
    key = {"Idempotency-Key": "k"}
    routes = Routes().add("orders", PutEvents(), default=True)
    async with serving(routes.add("more", PutEvents(), names=("more",))) as ingest:
        assert (await ingest.post(NATIVE, EVENT, key)).status == 202
        assert (await ingest.post("/v1/targets/more/events", EVENT, key)).status == 202
        assert (await ingest.put_events(ENTRY, headers=key)).status == 200
        assert (ingest.count("orders"), ingest.count("more")) == (2, 1)


async def test_another_sender_may_use_the_same_key() -> None:
    async with serving(listen="0.0.0.0:0") as ingest:
        port = ingest.server.address.rpartition(":")[2]
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port), local_addr=(host, 0))
            peer = Peer(reader, writer)
            await peer.send(request(NATIVE, EVENT, {"Idempotency-Key": "k"}))
            assert (await peer.answer()).status == 202
            await peer.close()
        assert ingest.count() == 2


async def test_a_sender_on_a_unix_socket_is_known_by_its_user(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/s") as ingest:
        for _ in range(2):
            assert (await ingest.post(NATIVE, EVENT, {"Idempotency-Key": "k"})).status == 202
        assert ingest.count() == 1
        peer = await ingest.peer()
        assert sender_of(peer.writer.transport).startswith("unix user ")
        await peer.close()


async def test_a_refusal_is_not_remembered() -> None:
    key = {"Idempotency-Key": "k"}
    async with serving(Routes().add("orders", PutEvents(), max_events=1, default=True)) as ingest:
        assert (await ingest.post(NATIVE, {}, key)).status == 400
        assert (await ingest.post(NATIVE, [EVENT, EVENT], key)).status == 413
        assert (await ingest.post(NATIVE, {**EVENT, "Source": "first"})).status == 202
        assert (await ingest.post(NATIVE, EVENT, key)).status == 429
        [batch] = ingest.batches()
        ingest.queues["orders"].settle(Settlement(gone=batch.events))
        assert (await ingest.post(NATIVE, EVENT, key)).status == 202


async def test_what_could_not_be_stored_is_neither_remembered_nor_waited_for() -> None:
    class Diskless(MemoryQueue):
        broken = True

        def put_nowait(
            self, events: Sequence[Event], *, complete: bool = False
        ) -> asyncio.Future[None] | None:
            if self.broken:
                raise QueueUnavailable("events cannot be stored now")
            return super().put_nowait(events, complete=complete)

    routes = one_of_each()
    metrics = routes.metrics.for_target("orders")
    queue = Diskless(LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=metrics)
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    async with serving(routes) as ingest:
        for path, body, headers in (CALLS["orders"], CALLS["orders over PutEvents"]):
            queue.broken = True
            key = {**headers, "Idempotency-Key": "k", "Prefer": "wait=10"}
            async with asyncio.timeout(5):
                assert (await ingest.post(path, body, key)).status == 503
            assert not ingest.receipts.waits
            queue.broken = False
            assert (await ingest.post(path, body, {**headers, "Idempotency-Key": "k"})).status < 300
        assert ingest.count() == 2


async def test_a_repeat_that_comes_too_soon_gets_the_answer_of_the_first() -> None:
    async with serving() as ingest:

        def in_flight(count: int) -> bool:
            return ingest.server.in_flight == count

        headers = {"Idempotency-Key": "k", "Prefer": "wait=10"}
        first, second, gone = [await ingest.peer() for _ in range(3)]
        for number, peer in enumerate((first, second, gone), 1):
            await peer.send(request(NATIVE, EVENT, headers))
            await until(partial(in_flight, number))
        await gone.reset()
        await until(partial(in_flight, 2))
        assert ingest.count() == 1
        ingest.receipts.close()
        answers = [await first.answer(), await second.answer()]
        assert answers[0].body == answers[1].body
        assert [answer.headers["x-forwarder-ack"] for answer in answers] == ["queued", "queued"]
        for peer in (first, second):
            await peer.close()


# --- the bookkeeping alone


@contextmanager
def nobody_leaves(end: Any) -> Iterator[None]:
    yield


def claim(repeats: IdempotencyCache, value: str, body: bytes = b"b") -> tuple[IdempotencyEntry, bool]:
    return repeats.claim(("me",), [("Idempotency-Key", value)], body)


def answer(repeats: IdempotencyCache, value: str, reply: bytes = b"{}") -> None:
    attempt, repeated = claim(repeats, value)
    assert not repeated
    with attempt:
        attempt.keep(Reply(200, reply))


async def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    repeats = IdempotencyCache(HandClock(0.0), max_answers=2)
    for value in "abc":
        answer(repeats, value)
    assert len(repeats) == 2
    assert [claim(repeats, value)[1] for value in "cb"] == [True, True]
    assert not claim(repeats, "a")[1]


async def test_the_oldest_are_forgotten_when_they_are_too_large() -> None:
    repeats = IdempotencyCache(HandClock(0.0), max_bytes=2 * ANSWER_OVERHEAD_BYTES)
    answer(repeats, "a", b"x" * 3 * ANSWER_OVERHEAD_BYTES)
    answer(repeats, "b")
    assert len(repeats) == 1
    assert claim(repeats, "b")[1]


async def test_answers_are_forgotten_when_they_are_too_old() -> None:
    clock = HandClock(0.0)
    repeats = IdempotencyCache(clock, max_age=300)
    answer(repeats, "a")
    clock.now = 299
    assert claim(repeats, "a")[1]
    clock.now = 301
    assert not claim(repeats, "a")[1]


async def test_a_request_forgets_a_bounded_number_and_no_answer_lives_longer_for_that() -> None:
    clock = HandClock(0.0)
    repeats = IdempotencyCache(clock, max_age=300)
    for n in range(2 * FORGOTTEN_AT_ONCE):
        answer(repeats, str(n))
    clock.now = 301
    last = str(2 * FORGOTTEN_AT_ONCE - 1)
    assert not claim(repeats, last)[1], "it is too old, and was not forgotten yet"
    assert len(repeats) == FORGOTTEN_AT_ONCE


async def test_what_was_forgotten_while_it_was_answered_costs_nothing() -> None:
    repeats = IdempotencyCache(HandClock(0.0), max_answers=1)
    slow, _ = claim(repeats, "a")
    with slow:
        answer(repeats, "b")
        slow.keep(Reply(200, b"x" * 1000))
    assert claim(repeats, "b")[1]
    with claim(repeats, "c")[0]:
        pass
    assert len(repeats) == 0
    assert repeats._bytes == 0


async def test_a_refusal_reaches_who_joined_and_the_next_is_a_first_one() -> None:
    repeats = IdempotencyCache(HandClock(0.0))
    first, _ = claim(repeats, "a")
    joined, repeated = claim(repeats, "a")
    assert repeated
    waits = asyncio.ensure_future(joined.again(nobody_leaves))
    await asyncio.sleep(0)
    with pytest.raises(BadRequest), first:
        raise BadRequest(429, "ThrottlingException", "full", events=7)
    with pytest.raises(BadRequest) as told:
        await waits
    assert (told.value.status, told.value.code, told.value.events) == (429, "ThrottlingException", 0)
    assert not claim(repeats, "a")[1]


async def test_a_first_that_breaks_tells_who_joined_to_try_again() -> None:
    repeats = IdempotencyCache(HandClock(0.0))
    first, _ = claim(repeats, "a")
    waits = asyncio.ensure_future(claim(repeats, "a")[0].again(nobody_leaves))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    with pytest.raises(BadRequest) as told:
        await waits
    assert told.value.status == 503


def answered(repeats: IdempotencyCache, peer: str, key: str) -> None:
    attempt, again = repeats.claim((peer, "native", "orders", ""), [("Idempotency-Key", key)], b"{}")
    assert not again
    with attempt:
        attempt.keep(Reply(202, b"x" * 100))


def is_known(repeats: IdempotencyCache, peer: str, key: str) -> bool:
    return repeats.claim((peer, "native", "orders", ""), [("Idempotency-Key", key)], b"{}")[1]


def test_no_peer_can_flush_the_answers_of_another() -> None:
    repeats = IdempotencyCache(SystemClock(), max_answers=100)
    for number in range(20):
        answered(repeats, "quiet", f"{number}")
    for number in range(1_000):
        answered(repeats, "flood", f"{number}")
    assert all(is_known(repeats, "quiet", f"{number}") for number in range(20))
    assert len(repeats) <= 100


def test_a_peer_alone_may_use_all_the_memory_and_gives_way_to_others() -> None:
    repeats = IdempotencyCache(SystemClock(), max_answers=100)
    for number in range(100):
        answered(repeats, "first", f"{number}")
    assert len(repeats) == 100
    for number in range(40):
        answered(repeats, "second", f"{number}")
    assert all(is_known(repeats, "second", f"{number}") for number in range(40))
    assert len(repeats) <= 100


def test_a_key_that_is_too_long_is_refused_with_its_bound() -> None:
    assert values_of({"Idempotency-Key": "k" * 255}, names_batch=False)
    with pytest.raises(BadRequest, match="at most 255 bytes, got 256"):
        values_of({"Idempotency-Key": "k" * 256}, names_batch=False)


@pytest.mark.parametrize(
    ("key", "size"), [("é" * 128, 256), ("😀" * 64, 256), ("k" + "\udcff" * 255, 256)], ids=["2", "4", "1"]
)
def test_a_key_is_bounded_in_bytes_and_not_in_characters(key: str, size: int) -> None:
    with pytest.raises(BadRequest, match=f"at most 255 bytes, got {size}"):
        values_of({"Idempotency-Key": key}, names_batch=False)
