"""One target's way to AWS, step by step: credentials, name, TLS, endpoint, clock, and what it is bound to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from forwarder.doctor import network
from forwarder.doctor.findings import Finding, is_well
from forwarder.model import CallStatus, Results
from forwarder.targets import AwsTarget
from forwarder.targets.facts import Facts
from forwarder.targets.source_table import BY_CERTIFI, cure_of, in_words, trust_of

NOT_THERE, DENIED = "ResourceNotFoundException", "AccessDeniedException"


async def examine(name: str, target: AwsTarget, options: Any, wall: Callable[[], float]) -> list[Finding]:
    """``options``: the target's own. The target is closed afterwards."""
    try:
        facts = await target.examine()
        findings = [_credentials(name, facts)]
        if facts.url_problem:
            return [*findings, _nowhere(name, facts)]
        timeouts = options.timeouts
        findings += await network.examine(
            name,
            facts.url,
            (facts.ca_setting, facts.ca_file),
            float(timeouts.connect),
            float(timeouts.read),
            wall,
        )
        if not is_well(findings):
            return findings
        if facts.unasked:
            later = "whether AWS takes the credentials shows with the first event"
            return [*findings, Finding("ok", f"{name}: there", f"{facts.unasked}; {later}")]
        return findings + [judged(name, target, each, got) for each, got in (await target.ask()).items()]
    finally:
        await target.close()


def _credentials(name: str, facts: Facts) -> Finding:
    about = f"{name}: credentials"
    if facts.credentials_problem:
        return Finding(
            "FAIL",
            about,
            facts.credentials_problem,
            f"{facts.credentials_remedy or cure_of('')}.",
        )
    found = f"found in {in_words(facts.provider)}"
    if facts.ca_setting and trust_of(facts.provider) == BY_CERTIFI:
        found += f" (for this source {facts.ca_setting} does not count, only the authorities of certifi)"
    if facts.ends_at is None:
        return Finding("ok", about, f"{found}; they do not end")
    return Finding(
        "ok", about, f"{found}; they end at {datetime.fromtimestamp(facts.ends_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


def _nowhere(name: str, facts: Facts) -> Finding:
    return Finding(
        "FAIL",
        f"{name}: endpoint",
        f"it is not known where to send to: {facts.url_problem}",
        "Set region (or AWS_REGION), and correct profile.",
    )


def judged(name: str, target: AwsTarget, asked: str, results: Results) -> Finding:
    """What AWS's answer about a thing that the target names says of it, and of the credentials."""
    api = target.api
    about = f"{name}: {api.noun} {asked}"
    message = f"{results.code}: {results.message}".removeprefix(": ")
    if results.status is CallStatus.OK:
        return Finding("ok", about, "it exists, and AWS takes the credentials")
    if results.code == NOT_THERE:
        return Finding(
            "FAIL", about, f"it does not exist: {message}", f"Create it, or correct {api.bound_by}."
        )
    if results.code == DENIED:
        return Finding(
            "warn",
            about,
            f"whether it exists is not known: AWS takes the credentials, but denies {target.asking.right}",
            f"Allow it: {target.asking.why}.",
        )
    if results.status is CallStatus.THROTTLED:
        return Finding("warn", about, f"AWS is throttling: {message}", "Ask again.")
    remedy = "Renew the credentials; docs/operation.md has a table of what holds a target."
    return Finding("FAIL", about, f"AWS refuses the question: {message}", remedy)
