"""Credentials that end, rotate or cannot be had for a while: found again without a restart, no event lost."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import credential_sources as sources
from tests.support.credential_sources import (
    LATER,
    SOON,
    SOON_FOR_AN_INSTANCE,
    Source,
    serving,
    write_keys,
)
from tests.support.events import KINDS, TARGETS, events, markers
from tests.support.fake_aws import forget_credentials
from tests.support.harness import Settings, World, daemon_in, until

EXPIRY = "forwarder_credentials_expiry_timestamp_seconds"
EXPIRED = 'code="ExpiredTokenException"'
MINUTES = 600.0
IDLE_TARGETS = len(TARGETS) - 1
"""The others of the daemon: each looks for keys of its own, from the same source, whenever it likes."""


@dataclass(frozen=True)
class Way:
    """One way of the SDK to credentials. ``proof``: what a caller shows to get them at first."""

    name: str
    handler: sources.Handler
    use: sources.SetUp
    proof: str
    rotates: bool = False
    """The proof is in a file, which is written anew now and then."""
    soon: float = SOON
    options: Settings | None = None


QUICK: Settings = {"hold": {"probe": "20ms", "probe_cap": "40ms"}}
WAYS = [
    Way("a role", sources.sts, sources.use_role, "AKIDBASE", options={"role": {"arn": sources.ROLE}}),
    Way("a web identity", sources.sts, sources.use_web_identity, "token-1", rotates=True),
    Way("an instance", sources.imds, sources.use_imds, sources.IMDS_TOKEN, soon=SOON_FOR_AN_INSTANCE),
    Way("a container", sources.container, sources.use_container, "token-1", rotates=True),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    assert isinstance(request.param, Way)
    return request.param


@pytest.fixture
async def source(
    way: Way, place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Source]:
    async with serving(way.handler, tmp_path / "token") as made:
        way.use(made, monkeypatch)
        yield made


async def value(place: World, start: str) -> float | None:
    """The target's sample of a metric, by how its line begins, or by a label that it has."""
    for line in (await place.metrics()).splitlines():
        if start in line and f'target="{TARGETS["eventbridge"]}"' in line:
            return float(line.rpartition(" ")[2])
    return None


async def deliver(place: World, count: int = 10) -> list[str]:
    names = markers(count)
    await place.send("eventbridge", events("eventbridge", names))
    assert await place.all_arrive("eventbridge", names)
    return names


async def nothing_lost(place: World, names: list[str]) -> None:
    await place.settled("eventbridge")
    assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)
    assert place.letters() == {}


async def test_credentials_are_refreshed_before_they_end_and_no_call_meets_the_old_ones(
    place: World, way: Way, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.lasts = way.soon
    monkeypatch.setattr("forwarder.targets.credentials.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("forwarder.targets.credentials.RENEW_SECONDS", sources.WINDOW_OF_AN_INSTANCE)
    async with daemon_in(place, orders=way.options or {}):
        names = await deliver(place)
        assert (await value(place, EXPIRY)) == pytest.approx(source.ends, abs=5)
        if way.soon < MINUTES:
            assert source.ends - time.time() < MINUTES, "an alarm ten minutes before the end would ring"
        source.lasts, given = LATER, len(source.keys)

        async def renewed() -> bool:  # by a call; one may have met a search that began before
            names.extend(await deliver(place))
            lasts = (await value(place, EXPIRY) or 0) - time.time()
            return len(source.keys) > given and lasts > way.soon + MINUTES

        await until(renewed, "the keys are renewed")

        await place.accept_keys(*source.keys[given:])
        asked = len(source.keys)
        for _ in range(2 * IDLE_TARGETS):
            names += await deliver(place)
        assert len(source.keys) - asked <= IDLE_TARGETS, "what lasts is used, not asked for at every call"
        assert source.proofs == {way.proof}
        assert (await value(place, EXPIRY)) == pytest.approx(source.ends, abs=60)
        assert source.ends - time.time() > MINUTES
        assert await value(place, EXPIRED) is None
        await nothing_lost(place, names)


async def test_a_source_of_credentials_that_fails_for_a_while_costs_a_wait_and_no_event_nor_attempt(
    place: World, way: Way, source: Source
) -> None:
    async with daemon_in(
        place, orders={**(way.options or {}), **QUICK, "retry": {"max_attempts": 2, "base": "5ms"}}
    ):
        names = await deliver(place)
        source.down = True
        await place.accept_keys("those-that-come-next")
        names += (waiting := markers(11))
        await place.send("eventbridge", events("eventbridge", waiting[:1]))

        async def tried() -> bool:
            failed = await value(place, 'forwarder_credentials_refresh_total{outcome="failed"')
            return failed is not None and failed >= 4

        await until(tried, "the source is asked again and again")
        assert (await place.status("eventbridge"))["state"] != "open"
        await place.send("eventbridge", events("eventbridge", waiting[1:]))
        if way.rotates:
            source.token_file.write_text("token-2")
        source.down = False
        given = len(source.keys)

        async def found() -> bool:
            return len(source.keys) > given

        await until(found, "new credentials are asked for")
        await place.accept_keys()
        await place.all_arrive("eventbridge", waiting)
        await nothing_lost(place, names)
        assert (await place.status("eventbridge"))["state"] == "open"
        assert source.proofs == ({way.proof, "token-2"} if way.rotates else {way.proof})


async def test_keys_that_aws_ended_early_are_asked_for_anew(place: World, way: Way, source: Source) -> None:
    async with daemon_in(place, orders=way.options or {}, **QUICK):
        names = await deliver(place)
        await place.accept_keys("none")
        names += (waiting := markers(10))
        await place.send("eventbridge", events("eventbridge", waiting))
        assert "expired" in await place.held("eventbridge")
        given = len(source.keys)

        async def more() -> bool:
            return len(source.keys) > given

        await until(more, "new keys, though the old ones say that they are good")
        await place.accept_keys()
        await place.all_arrive("eventbridge", waiting)
        await nothing_lost(place, names)


async def test_a_credentials_file_that_rotates_under_load_is_followed_without_a_restart(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_credentials(monkeypatch)
    file = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    write_keys(file, "AKID0")
    sent: dict[str, list[str]] = {kind: [] for kind in KINDS}

    async def send_to_all() -> None:
        for kind in KINDS:
            names = markers(10)
            await place.send(kind, events(kind, names))
            sent[kind] += names

    async with daemon_in(place, **QUICK):
        await place.accept_keys("AKID0")
        await send_to_all()
        for kind in KINDS:
            await place.all_arrive(kind, sent[kind])
        for number in range(1, 3):
            await place.accept_keys(f"AKID{number}")
            await send_to_all()
            for kind in KINDS:
                assert "expired" in await place.held(kind)
            write_keys(file, f"AKID{number}")
            await send_to_all()
            for kind in KINDS:
                await place.all_arrive(kind, sent[kind])
        await place.settled(*KINDS)
        for kind in KINDS:
            assert await place.arrived(kind) == dict.fromkeys(sent[kind], 1)
            assert (await place.ledger(kind))["dead_lettered"] == 0
        assert await value(place, EXPIRY) is None, "what does not end has no end to tell"
        refreshed = await value(place, 'forwarder_credentials_refresh_total{outcome="ok"')
        assert refreshed == 3
