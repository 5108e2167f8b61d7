"""What one PutEvents call of ten entries costs: the SDK as one uses it, our plain path, our fast path.

All three run in this process, in turns, eight calls in flight. Prints JSON: the microseconds of CPU (user and
system) of a call, by way, of each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import uvloop
from aiobotocore.session import get_session

from forwarder.model import Batch, CallStatus, Event, Flush
from forwarder.targets.eventbridge import EventBridgeOptions, build

REGION, IN_FLIGHT = "eu-west-1", 8
STOCK, PLAIN, FAST = "client.put_events, stock", "plain path", "fast path"

Call = Callable[[], Awaitable[None]]


def entries() -> list[dict[str, str]]:
    """Ten of about 300 bytes, with the markers that the sink answers for."""
    details = [{"marker": f"#{number}#", "note": "x" * 190, "amount": 12.5} for number in range(10)]
    return [
        {"Source": "bench.shop", "DetailType": "OrderPlaced", "Detail": json.dumps(detail)}
        for detail in details
    ]


@contextlib.asynccontextmanager
async def stock(url: str) -> AsyncIterator[Call]:
    ten = entries()
    async with get_session().create_client("events", region_name=REGION, endpoint_url=url) as client:

        async def call() -> None:
            answer = await client.put_events(Entries=ten)
            assert answer["FailedEntryCount"] == 0

        yield call


@contextlib.asynccontextmanager
async def own(url: str, transport: Literal["fast", "plain"]) -> AsyncIterator[Call]:
    target = build("bench", EventBridgeOptions(region=REGION, endpoint_url=url, transport=transport))
    bodies = [json.dumps(entry).encode() for entry in entries()]
    events = [Event(f"id-{i}", body, len(body), b"", 0.0) for i, body in enumerate(bodies)]
    batch = Batch(b"", events, sum(map(len, bodies)), Flush.COUNT)

    async def call() -> None:
        results = await target.send(batch)
        assert results.status is CallStatus.OK, results

    try:
        yield call
    finally:
        await target.close()


async def cost(call: Call, calls: int) -> float:
    """Microseconds of CPU per call."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return (time.process_time() - began) / calls * 1e6


async def measure(url: str, rounds: int, calls: int) -> dict[str, list[float]]:
    async with stock(url) as by_stock, own(url, "plain") as by_plain, own(url, "fast") as by_fast:
        ways = {STOCK: by_stock, PLAIN: by_plain, FAST: by_fast}
        for call in ways.values():
            await cost(call, 100)
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, call in ways.items():
                costs[name].append(await cost(call, calls))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True, help="in each round")
    options = parser.parse_args()
    print(json.dumps(uvloop.run(measure(options.url, options.rounds, options.calls))))


if __name__ == "__main__":
    main()
