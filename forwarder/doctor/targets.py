"""Targets' ways to AWS, step by step: credentials, name, TLS, endpoint, clock, and what a target is bound to.

Invariants:
- A way is gone once, however many targets share it: a session of the SDK takes 100 ms of CPU.
- Few steps that use the CPU are taken at once, and none while an endpoint's answer is waited for: it would
  be late for no fault of the endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import TypeVar

import msgspec

from forwarder.doctor import network
from forwarder.doctor.findings import Finding, is_well
from forwarder.model import CallStatus, Results
from forwarder.targets import TARGETS, AwsTarget
from forwarder.targets.facts import Facts
from forwarder.targets.options import TargetOptions
from forwarder.targets.source_table import BY_CERTIFI, cure_of, in_words, trust_of

AT_ONCE = 16
NOT_THERE, DENIED = "ResourceNotFoundException", "AccessDeniedException"
T = TypeVar("T")


async def examine(configured: Mapping[str, TargetOptions], wall: Callable[[], float]) -> list[Finding]:
    """What is found of each target, in their order."""
    targets = {name: TARGETS[options.kind].build(name, options) for name, options in configured.items()}
    first: dict[tuple[object, ...], str] = {}
    for name, options in configured.items():
        first.setdefault(options.way, name)
    try:
        facts = await _few_at_once(targets[name].examine() for name in first.values())
        going = (_way(each, configured[name], wall) for name, each in zip(first.values(), facts, strict=True))
        ways = dict(zip(first, await asyncio.gather(*going), strict=True))
        examined = await _few_at_once(
            _examine(name, target, targets[first[way]], ways[way])
            for name, target in targets.items()
            for way in [configured[name].way]
        )
        return list(chain.from_iterable(examined))
    finally:
        for target in targets.values():
            await target.close()


async def _few_at_once(work: Iterable[Awaitable[T]]) -> list[T]:
    """The results in the order of the work."""
    places = asyncio.Semaphore(AT_ONCE)

    async def placed(each: Awaitable[T]) -> T:
        async with places:
            return await each

    return await asyncio.gather(*map(placed, work))


async def _way(facts: Facts, options: TargetOptions, wall: Callable[[], float]) -> list[Finding]:
    """What holds for every target that goes this way."""
    if facts.url_problem:
        return [_credentials(facts), _nowhere(facts)]
    authorities, timeouts = (facts.ca_setting, facts.ca_file), options.timeouts
    found = await network.examine(facts.url, authorities, float(timeouts.connect), float(timeouts.read), wall)
    return [_credentials(facts), *found]


async def _examine(name: str, target: AwsTarget, through: AwsTarget, way: list[Finding]) -> list[Finding]:
    """The findings of the target's way, and what AWS says of the things that it names. ``through``: the
    target whose client asks."""
    if not is_well(way):
        own = []
    elif target.unasked:
        later = "the first event shows whether AWS accepts the credentials"
        own = [Finding("ok", "there", f"{target.unasked}; {later}")]
    else:
        own = [judged(target, asked, results) for asked, results in (await target.ask(through)).items()]
    return [msgspec.structs.replace(each, about=f"{name}: {each.about}") for each in (*way, *own)]


def _credentials(facts: Facts) -> Finding:
    about = "credentials"
    if facts.credentials_problem:
        return Finding(
            "FAIL",
            about,
            facts.credentials_problem.removeprefix(f"{about}: "),
            f"{facts.credentials_remedy or cure_of('')}.",
        )
    found = f"found in {in_words(facts.provider)}"
    if facts.ca_setting and trust_of(facts.provider) == BY_CERTIFI:
        found += f" (this source ignores {facts.ca_setting} and trusts only the CA certificates of certifi)"
    if facts.ends_at is None:
        return Finding("ok", about, f"{found}; they do not expire")
    return Finding(
        "ok",
        about,
        f"{found}; they expire at {datetime.fromtimestamp(facts.ends_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def _nowhere(facts: Facts) -> Finding:
    return Finding(
        "FAIL",
        "endpoint",
        f"there is no endpoint to send to: {facts.url_problem}",
        "Set region (or AWS_REGION), and fix the setting `profile`.",
    )


def judged(target: AwsTarget, asked: str, results: Results) -> Finding:
    """What AWS's answer about a thing that the target names says of it, and of the credentials."""
    api = target.api
    about = f"{api.noun} {asked}"
    message = f"{results.code}: {results.message}".removeprefix(": ")
    if results.status is CallStatus.OK:
        return Finding("ok", about, "it exists, and AWS accepts the credentials")
    if results.code == NOT_THERE:
        return Finding(
            "FAIL", about, f"it does not exist: {message}", f"Create it, or correct {api.bound_by}."
        )
    if results.code == DENIED:
        return Finding(
            "warn",
            about,
            f"it may not exist: AWS accepts the credentials, but denies {target.asking.right}",
            f"Allow it: {target.asking.why}.",
        )
    if results.status is CallStatus.THROTTLED:
        return Finding("warn", about, f"AWS is throttling: {message}", "Run the doctor again later.")
    remedy = "Renew the credentials; docs/operation.md lists the reasons why a target is held."
    return Finding("FAIL", about, f"AWS refused the request: {message}", remedy)
