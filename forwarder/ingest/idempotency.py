"""A repeated request gets the first answer again, and its events are accepted once.

A request is known by a header that its client keeps for its own retries, or, where the API's body names its
batch (``names_batch``), by its body; always within one sender, operation and target.

Invariants:
- Only requests whose events were accepted are remembered: after a refusal, the next try counts as the first.
- A repeat that arrives before the first is answered waits for that answer, whatever it is.
- The same header with another body is refused, because one of the two would be lost.
- Bounded by number, bytes and age. When there is no room, the oldest answer of the peer that holds most is
  forgotten, so that no peer can flush another's. In memory: a restart forgets all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from operator import attrgetter
from types import TracebackType

from forwarder.ingest.errors import MISMATCH, UNAVAILABLE, VALIDATION, BadRequest
from forwarder.ingest.operations.operation import Reply
from forwarder.model import Clock

MAX_ANSWERS = 50_000
MAX_BYTES = 16 << 20
MAX_AGE_SECONDS = 300.0
"""What is remembered, at most. SDKs try again within a minute or so: boto waits 60 s for an answer."""

ANSWER_OVERHEAD_BYTES = 600
"""What an answer holds in memory beside its body and its key."""

HEADERS = ("amz-sdk-invocation-id", "Idempotency-Key")
BATCH_ID = "BatchId"

MAX_KEY_BYTES = 255
"""Longest value of a header that names a request. Clients use UUIDs; keys of other services reach 255."""

MAX_PEERS_COMPARED = 1_024
"""With more peers than this the oldest answer of all is forgotten: comparing them would take too long."""

FORGOTTEN_AT_ONCE = 500
"""Answers that are too old and are forgotten in one step: 1 ms. 28,000 would take 50 ms."""

Scope = tuple[str, ...]
"""Within what a key is unique: peer, operation, target, name, and the sender where a peer is several."""
Key = tuple[Scope, str, str]
Waits = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Within its ``with`` block the argument is called when the peer is gone."""


def values_of(headers: Mapping[str, str], *, names_batch: bool) -> list[tuple[str, str]]:
    """(name, value) by which this request is known again. ``names_batch``: also by its body alone.

    BadRequest: a value is longer than MAX_KEY_BYTES.
    """
    values = [(name, value) for name in HEADERS if (value := headers.get(name))]
    for name, value in values:
        size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogateescape"))
        if size > MAX_KEY_BYTES:
            message = f"{name} must have at most {MAX_KEY_BYTES} bytes, got {size}."
            raise BadRequest(400, VALIDATION, message)
    if names_batch:
        values.append((BATCH_ID, ""))
    return values


class IdempotencyEntry:
    """A request that may come again. The first runs in its ``with`` block and keeps its answer there."""

    __slots__ = ("_joined", "_outcome", "_repeats", "begun_at", "bytes", "digest", "keys")

    def __init__(
        self, repeats: IdempotencyCache, keys: Sequence[Key], digest: bytes, begun_at: float
    ) -> None:
        self._repeats = repeats
        self._outcome: Reply | BadRequest | None = None
        self._joined: list[asyncio.Future[None]] | None = None
        self.keys = keys
        self.digest = digest
        self.begun_at = begun_at
        self.bytes = ANSWER_OVERHEAD_BYTES * len(keys)
        for _, _, value in keys:
            self.bytes += len(value)

    @property
    def peer(self) -> str:
        return self.keys[0][0][0]

    def keep(self, reply: Reply) -> None:
        """This is the answer, now and again."""
        self._outcome = reply
        self._repeats.grow(self, len(reply.body))

    def __enter__(self) -> IdempotencyEntry:
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


class Held:
    """The answers that are remembered for one peer, the oldest first, and the bytes they hold."""

    __slots__ = ("attempts", "bytes")

    def __init__(self) -> None:
        self.attempts: dict[IdempotencyEntry, None] = {}
        self.bytes = 0


_bytes_of = attrgetter("bytes")


class IdempotencyCache:
    """The answers that may be asked for again, and the requests that are being answered."""

    __slots__ = ("_attempts", "_bytes", "_clock", "_held", "_max_age", "_max_answers", "_max_bytes")

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
        self._attempts: OrderedDict[Key, IdempotencyEntry] = OrderedDict()
        self._bytes = 0
        self._held: dict[str, Held] = {}  # by peer

    def __len__(self) -> int:
        return len(self._attempts)

    def claim(
        self, scope: Scope, values: Sequence[tuple[str, str]], body: bytes
    ) -> tuple[IdempotencyEntry, bool]:
        """The attempt that this request is, and whether it is a repeat.

        BadRequest: one of the headers came before, with another body.
        """
        digest = sha256(body).digest()
        now = self._clock.monotonic()
        self._forget_until(now - self._max_age)
        keys = [(scope, name, value or digest.hex()) for name, value in values]
        for key in keys:
            known = self._attempts.get(key)
            if known is not None and known.begun_at <= now - self._max_age:
                self.forget(known)
            elif known is not None:
                if known.digest != digest:
                    raise _other_body(key[1])
                return known, True
        attempt = IdempotencyEntry(self, keys, digest, now)
        self._make_room(attempt.peer)
        for key in keys:
            self._attempts[key] = attempt
        self._bytes += attempt.bytes
        held = self._held.setdefault(attempt.peer, Held())
        held.attempts[attempt] = None
        held.bytes += attempt.bytes
        return attempt, False

    def grow(self, attempt: IdempotencyEntry, size: int) -> None:
        if self._attempts.get(attempt.keys[0]) is attempt:
            attempt.bytes += size
            self._bytes += size
            self._held[attempt.peer].bytes += size

    def forget(self, attempt: IdempotencyEntry) -> None:
        if self._attempts.get(attempt.keys[0]) is attempt:
            for key in attempt.keys:
                del self._attempts[key]
            self._bytes -= attempt.bytes
            held = self._held[attempt.peer]
            del held.attempts[attempt]
            held.bytes -= attempt.bytes
            if not held.attempts:
                del self._held[attempt.peer]

    def _forget_until(self, before: float) -> None:
        """Forget what is too old, a bounded number at once: one request must not pay for all before it."""
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._attempts or (oldest := self._oldest()).begun_at > before:
                return
            self.forget(oldest)

    def _make_room(self, peer: str) -> None:
        while self._attempts and (len(self._attempts) >= self._max_answers or self._bytes >= self._max_bytes):
            self.forget(self._least_needed(peer))

    def _least_needed(self, peer: str) -> IdempotencyEntry:
        """The oldest answer of ``peer`` if it holds more than its share, else of the peer that holds most."""
        own = self._held.get(peer)
        if own is not None and own.bytes * len(self._held) >= self._bytes:
            return next(iter(own.attempts))
        if len(self._held) > MAX_PEERS_COMPARED:
            return self._oldest()
        return next(iter(max(self._held.values(), key=_bytes_of).attempts))

    def _oldest(self) -> IdempotencyEntry:
        return next(iter(self._attempts.values()))


def _other_body(name: str) -> BadRequest:
    message = f"{name} was used before with another body; send each request with its own {name}."
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
