"""What one PutEvents call of ten entries costs: the SDK as one uses it, our plain path, our fast path.

All three run in one process, in turns, over TLS and with a session token, eight calls in flight, against a
sink that answers at once. CPU is user and system time of this process. Read the ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import uvloop
from aiobotocore.session import get_session

from forwarder.model import Batch, CallStatus, Event, Flush
from forwarder.targets.eventbridge import EventBridge, EventBridgeOptions

HERE = Path(__file__).parent
REGION, IN_FLIGHT = "eu-west-1", 8
WANTED = 0.2
"""Of the stock client's cost: what the fast path may cost."""

Call = Callable[[], Awaitable[None]]


@contextlib.contextmanager
def tls_sink(folder: Path) -> Iterator[str]:
    """The sink's URL. Its certificate is made here, and trusted through AWS_CA_BUNDLE."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, stderr=subprocess.DEVNULL)
    os.environ.update(
        AWS_CA_BUNDLE=str(certificate),
        AWS_ACCESS_KEY_ID="bench",
        AWS_SECRET_ACCESS_KEY="bench",
        AWS_SESSION_TOKEN="t" * 800,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    sink = subprocess.Popen([sys.executable, str(HERE / "sink.py"), str(port), str(certificate), str(key)])
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"https://localhost:{port}"
    finally:
        sink.terminate()
        sink.wait(timeout=10)


def entries() -> list[dict[str, str]]:
    """Ten of about 300 bytes, with the markers that the sink counts."""
    details = [{"marker": f"#{number}#", "note": "x" * 190, "amount": 12.5} for number in range(10)]
    return [
        {"Source": "bench.shop", "DetailType": "OrderPlaced", "Detail": json.dumps(detail)}
        for detail in details
    ]


@contextlib.asynccontextmanager
async def stock(url: str) -> AsyncIterator[Call]:
    async with get_session().create_client("events", region_name=REGION, endpoint_url=url) as client:

        async def call() -> None:
            answer = await client.put_events(Entries=entries_)
            assert answer["FailedEntryCount"] == 0

        entries_ = entries()
        yield call


@contextlib.asynccontextmanager
async def own(url: str, transport: str) -> AsyncIterator[Call]:
    options = EventBridgeOptions(region=REGION, endpoint_url=url, transport=transport)  # type: ignore[arg-type]
    target = EventBridge("bench", options)
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
    """Seconds of CPU per call."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return (time.process_time() - began) / calls


async def measure(url: str, rounds: int, calls: int) -> dict[str, list[float]]:
    async with stock(url) as by_stock, own(url, "plain") as by_plain, own(url, "fast") as by_fast:
        ways = {"client.put_events": by_stock, "plain path": by_plain, "fast path": by_fast}
        for call in ways.values():
            await cost(call, 100)
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, call in ways.items():
                costs[name].append(await cost(call, calls))
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=300, help="in each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tls_sink(Path(folder)) as url:
        costs = uvloop.run(measure(url, options.rounds, options.calls))
    base = costs["client.put_events"]
    print(f"{'':<20}{'us a call':>12}{'lowest':>9}{'ratio':>8}")
    for name, each in costs.items():
        ratio = statistics.median(own / stock for own, stock in zip(each, base, strict=True))
        print(f"{name:<20}{statistics.median(each) * 1e6:>12.0f}{min(each) * 1e6:>9.0f}{ratio:>8.2f}")
    print(f"wanted of the fast path: at most {WANTED}: {'reached' if ratio <= WANTED else 'MISSED'}")
    return 0 if ratio <= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
