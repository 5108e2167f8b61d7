"""What is seen of a client's credentials: when they end, and how often they were had or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from botocore.exceptions import NoCredentialsError

from forwarder.targets.credentials import CredentialsWatch

LASTING, DUE, LATE = 7200.0, 800.0, 500.0
"""Seconds to the end: no refresh yet; one that may fail; one that must not."""


class Session:
    """As much of a session as the watch asks for."""

    def __init__(self, credentials: object) -> None:
        self._credentials = credentials

    async def get_credentials(self) -> object:
        return self._credentials


class Issuer:
    """Credentials of the SDK that end so many seconds from now, and what its source says when asked anew."""

    def __init__(self, seconds: float, *, down: bool = False) -> None:
        self._issued = 0
        self.down = down
        self.seconds = seconds
        self.session: Any = Session(
            AioRefreshableCredentials.create_from_metadata(
                self._issue(), self.refresh, "a source of the test"
            )
        )

    def _issue(self) -> dict[str, str]:
        self._issued += 1
        end = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return {
            "access_key": f"AKID{self._issued}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": end.isoformat(),
        }

    async def refresh(self) -> dict[str, str]:
        if self.down:
            raise OSError("the source is down")
        self.seconds = LASTING
        return self._issue()


def now() -> float:
    return datetime.now(UTC).timestamp()


async def test_the_end_of_credentials_is_found_to_the_second() -> None:
    watch, issuer = CredentialsWatch(), Issuer(LASTING)
    await watch.ready(issuer.session)
    ends_at = watch.view().ends_at
    assert ends_at is not None
    assert ends_at == pytest.approx(now() + LASTING, abs=2)
    await watch.ready(issuer.session)
    assert (watch.view().ends_at, watch.view().refreshed, watch.view().failed) == (ends_at, 1, 0)


async def test_credentials_that_never_end_are_had_once() -> None:
    watch = CredentialsWatch()
    session: Any = Session(AioCredentials("AKID", "s"))
    for _ in range(3):
        await watch.ready(session)
    assert (watch.view().ends_at, watch.view().refreshed, watch.view().failed) == (None, 1, 0)


async def test_new_keys_after_a_rebuild_count_and_the_same_keys_do_not() -> None:
    watch = CredentialsWatch()
    for key in ("AKID1", "AKID1", "AKID2"):
        session: Any = Session(AioCredentials(key, "s"))
        await watch.ready(session)
    assert watch.view().refreshed == 2


async def test_a_refresh_that_fails_while_the_keys_are_still_good_is_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch, issuer = CredentialsWatch(), Issuer(DUE)
    issuer.down = True
    with structlog.testing.capture_logs() as lines:
        await watch.ready(issuer.session)  # the first keys, which count as new
        await watch.ready(issuer.session)
        await watch.ready(issuer.session)
    assert (watch.view().refreshed, watch.view().failed) == (1, 2)
    assert [line["event"] for line in lines] == [
        "credentials could not be refreshed; they are good for a while"
    ]
    assert not caplog.records, "the SDK would log what the source said, keys and all"
    issuer.down = False
    await watch.ready(issuer.session)
    assert (watch.view().refreshed, watch.view().failed) == (2, 2)
    assert watch.view().ends_at == pytest.approx(now() + LASTING, abs=2)


async def test_a_refresh_that_fails_when_it_must_not_is_raised_and_counted() -> None:
    watch, issuer = CredentialsWatch(), Issuer(LATE)
    issuer.down = True
    with pytest.raises(OSError, match="down"):
        await watch.ready(issuer.session)
    assert (watch.view().refreshed, watch.view().failed) == (0, 1)


async def test_no_credentials_are_a_failure() -> None:
    watch = CredentialsWatch()
    session: Any = Session(None)
    with pytest.raises(NoCredentialsError):
        await watch.ready(session)
    assert watch.view().failed == 1
