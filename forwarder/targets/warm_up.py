"""Prepares before the first event what targets need without a network: models, TLS contexts, imports.

Otherwise the first call would do so, which takes seconds while senders use all of the CPU.

Invariants:
- No credentials are fetched, no host names resolved, no connections opened and no calls made.
- It takes at most MOST_SECONDS. A failure does not stop the start: the first call fails the same way, and
  reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiobotocore.session import AioSession

from forwarder.targets.options import TargetOptions
from forwarder.targets.session import STAND_IN_REGION, client_config, new_session, read_trust

MOST_SECONDS = 2.0
_NO_KEY = "AKIAIOSFODNN7EXAMPLE"


async def warm_up(targets: Iterable[TargetOptions]) -> None:
    """Make what the clients of these targets will need."""
    services = {options.api.service: options for options in targets}
    try:
        async with asyncio.timeout(MOST_SECONDS):
            for service, options in services.items():
                session = await asyncio.to_thread(_read, options, service)
                await _rehearse(session, options, service)
    except Exception as problem:  # the SDK raises ValueError for some hosts; the other targets still start
        structlog.get_logger("target").debug(
            "warm-up is incomplete", reason=f"{type(problem).__name__}: {problem}"
        )


def _read(options: TargetOptions, service: str) -> AioSession:
    """In a thread: the models, and the certificates that are trusted."""
    session = new_session(options, service)
    read_trust(session)
    return session


async def _rehearse(session: AioSession, options: TargetOptions, service: str) -> None:
    """Make a client with invalid keys: the real one is made like it, when there are credentials."""
    making = session.create_client(
        service,
        region_name=options.region or STAND_IN_REGION,
        endpoint_url=options.endpoint_url,
        config=client_config(options, 1),
        aws_access_key_id=_NO_KEY,
        aws_secret_access_key=_NO_KEY,
    )
    async with making:
        pass
