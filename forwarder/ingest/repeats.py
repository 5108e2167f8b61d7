"""Requests that come twice get the first answer again, and their events are taken once.

A request is known by a header that its client keeps for its own retries, or, where the API's body names its
batch (RUM's BatchId), by its body; always within one sender, operation and target.

Invariants:
- What took events is remembered, and only that: after a refusal the next try is a first one.
- A repeat that comes while the first is still being answered waits for that answer, whichever it is.
- A header that comes again with another body is refused: one of the two would be lost.
- Bounded by number, bytes and age, the oldest forgotten first. In memory: a restart forgets all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from types import TracebackType

from forwarder.ingest.dialects.errors import MISMATCH, UNAVAILABLE, BadRequest
from forwarder.ingest.operations import Reply
from forwarder.model import Clock

MAX_ANSWERS = 50_000
MAX_BYTES = 16 << 20
MAX_AGE_SECONDS = 300.0
"""What is remembered, at most. SDKs try again within a minute or so: boto waits 60 s for an answer."""

ANSWER_OVERHEAD_BYTES = 600
"""What an answer holds in memory beside its body and its key."""

HEADERS = ("amz-sdk-invocation-id", "Idempotency-Key")
BATCH_ID = "BatchId"

Scope = tuple[str, ...]
"""Who asks for what: address, peer, operation, target, name."""
Key = tuple[Scope, str, str]
Waits = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Within its ``with`` block the argument is called when the peer is gone."""


def values_of(headers: Mapping[str, str], *, names_batch: bool) -> list[tuple[str, str]]:
    """(name, value) by which this request is known again. ``names_batch``: also by its body alone."""
    values = [(name, value) for name in HEADERS if (value := headers.get(name))]
    if names_batch:
        values.append((BATCH_ID, ""))
    return values


class Attempt:
    """A request that may come again. The first runs in its ``with`` block and keeps its answer there."""

    __slots__ = ("_joined", "_outcome", "_repeats", "begun_at", "bytes", "digest", "keys")

    def __init__(self, repeats: Repeats, keys: Sequence[Key], digest: bytes, begun_at: float) -> None:
        self._repeats = repeats
        self._outcome: Reply | BadRequest | None = None
        self._joined: list[asyncio.Future[None]] | None = None
        self.keys = keys
        self.digest = digest
        self.begun_at = begun_at
        self.bytes = ANSWER_OVERHEAD_BYTES * len(keys)
        for _, _, value in keys:
            self.bytes += len(value)

    def keep(self, reply: Reply) -> None:
        """This is the answer, now and again."""
        self._outcome = reply
        self._repeats.grow(self, len(reply.body))

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outcome is None:
            self._outcome = problem if isinstance(problem, BadRequest) else _unanswered()
            self._repeats.forget(self)
        if self._joined is not None:
            for ended in self._joined:
                _resolve(ended)
            self._joined = None

    async def again(self, waits: Waits) -> Reply:
        """The first answer, for a repeat; BadRequest when the first was refused."""
        if self._outcome is None:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._joined = [*(self._joined or ()), ended]
            with waits(partial(_resolve, ended)):
                await ended
        if isinstance(self._outcome, Reply):
            return self._outcome
        raise _refused_too(self._outcome or _unanswered())


class Repeats:
    """The answers that may be asked for again, and the requests that are being answered."""

    __slots__ = ("_attempts", "_bytes", "_clock", "_max_age", "_max_answers", "_max_bytes")

    def __init__(
        self,
        clock: Clock,
        *,
        max_answers: int = MAX_ANSWERS,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE_SECONDS,
    ) -> None:
        self._clock = clock
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._attempts: OrderedDict[Key, Attempt] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def claim(self, scope: Scope, values: Sequence[tuple[str, str]], body: bytes) -> tuple[Attempt, bool]:
        """The attempt that this request is, and whether it is a repeat.

        BadRequest: one of the headers came before, with another body.
        """
        digest = sha256(body).digest()
        now = self._clock.monotonic()
        self._forget_until(now - self._max_age)
        keys = [(scope, name, value or digest.hex()) for name, value in values]
        for key in keys:
            known = self._attempts.get(key)
            if known is not None:
                if known.digest != digest:
                    raise _other_body(key[1])
                return known, True
        self._make_room()
        attempt = Attempt(self, keys, digest, now)
        for key in keys:
            self._attempts[key] = attempt
        self._bytes += attempt.bytes
        return attempt, False

    def grow(self, attempt: Attempt, size: int) -> None:
        if self._attempts.get(attempt.keys[0]) is attempt:
            attempt.bytes += size
            self._bytes += size

    def forget(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.keys[0]) is attempt:
            for key in attempt.keys:
                del self._attempts[key]
            self._bytes -= attempt.bytes

    def _forget_until(self, before: float) -> None:
        while self._attempts and (oldest := self._oldest()).begun_at <= before:
            self.forget(oldest)

    def _make_room(self) -> None:
        while self._attempts and (len(self._attempts) >= self._max_answers or self._bytes >= self._max_bytes):
            self.forget(self._oldest())

    def _oldest(self) -> Attempt:
        return next(iter(self._attempts.values()))


def _other_body(name: str) -> BadRequest:
    message = f"{name} came before with another body; another request needs another {name}."
    return BadRequest(422, MISMATCH, message)


def _unanswered() -> BadRequest:
    return BadRequest(503, UNAVAILABLE, "The request that this one repeats got no answer; try again.")


def _refused_too(first: BadRequest) -> BadRequest:
    """The same refusal for another request; its events were counted with the first."""
    return BadRequest(
        first.status,
        first.code,
        first.message,
        reason=first.reason,
        headers=first.headers,
        refusals=first.refusals,
        events=0,
    )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
