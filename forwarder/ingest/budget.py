"""The memory that requests may hold, all together: bodies, events parsed from them, and unwritten answers.

Invariants:
- What was reserved is released exactly once, whatever became of the request: the ``Lease`` sees to it.
- ``used`` never exceeds ``limit + spare``. Queues have their own reserves; this is only for requests.
- Shares are work-conserving: one peer may use everything, until another peer would be refused. Then what can
  be taken back (a body that is still arriving, an answer that nobody reads) goes to the peer that holds less.
- Unproven requests may use everything too, until a proven sender would be refused; they keep
  ``unproven_share``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from forwarder.ingest.bounds import SMALL_BODY as READ_AT_ONCE
from forwarder.ingest.errors import THROTTLING, BadRequest, too_large

PARSED_EVENT_BYTES = 700
"""What a small event holds beside the body it came in, until it is in a queue: its parts, its draft, its id,
itself, its line of the answer."""

SMALL_BODY = 16 * 1024
OBJECT_BYTES = 112
STRING_BYTES = 64
"""The most that a JSON object and a string hold when they are parsed, beside the body they came in."""

ORDINARY_BYTES = 256 * 1024
"""A peer that holds no more than this may use the spare bytes: whatever others hold, its events get in."""

MEMORY = "memory"


class Budget:
    """``limit`` bytes, lent out until they are given back.

    ``unproven_share``: what requests keep whose sender is not proven yet. ``spare``: bytes beyond the limit,
    for peers that hold next to nothing.
    """

    __slots__ = ("_held", "_revocable", "limit", "spare", "unproven", "unproven_share", "used")

    def __init__(self, limit: int, *, unproven_share: int | None = None, spare: int = 0) -> None:
        self.limit = limit
        self.unproven_share = limit // 4 if unproven_share is None else unproven_share
        self.spare = spare
        self.used = 0
        self.unproven = 0
        self._held: dict[str, int] = {}
        self._revocable: dict[Lease, Callable[[], None]] = {}

    def reserve(self, size: int, peer: str = "", *, proven: bool = True) -> bool:
        """Lend ``size`` bytes to a peer; False, and nothing lent, when there are not that many for it."""
        if self.used + size > self.limit and not self._make_room(size, peer, proven):
            return False
        self.used += size
        self._held[peer] = self._held.get(peer, 0) + size
        if not proven:
            self.unproven += size
        return True

    def release(self, size: int, peer: str = "", *, proven: bool = True) -> None:
        self.used -= size
        left = self._held.get(peer, 0) - size
        if left:
            self._held[peer] = left
        else:
            self._held.pop(peer, None)
        if not proven:
            self.unproven -= size

    def prove(self, size: int, before: str, peer: str) -> None:
        """Bytes of a request whose sender is proven now."""
        self.release(size, before, proven=False)
        self.used += size
        self._held[peer] = self._held.get(peer, 0) + size

    def held_by(self, peer: str) -> int:
        return self._held.get(peer, 0)

    def revocable(self, lease: Lease, revoke: Callable[[], None] | None) -> None:
        """From now on the lease may be taken back, by ``revoke``; with None no longer."""
        if revoke is None:
            self._revocable.pop(lease, None)
        else:
            self._revocable[lease] = revoke

    def _make_room(self, size: int, peer: str, proven: bool) -> bool:
        """Take back what others hold beyond their share; all that is needed, or nothing."""
        mine = self._held.get(peer, 0)
        missing, victims = self.used + size - self.limit, []
        if self._revocable:
            for lease in self._of_others(size + mine, peer, proven):
                victims.append(lease)
                missing -= lease.held
                if missing <= 0:
                    break
        if missing <= 0:
            for lease in victims:
                lease.revoke(self._revocable.pop(lease))
            return True
        return mine + size <= ORDINARY_BYTES and self.used + size <= self.limit + self.spare

    def _of_others(self, wanted: int, peer: str, proven: bool) -> Iterator[Lease]:
        """What may be taken back for a peer that would then hold ``wanted`` bytes, the first to go first."""
        largest = sorted((lease for lease in self._revocable if lease.peer != peer), key=_held, reverse=True)
        taken: set[Lease] = set()
        excess = self.unproven - self.unproven_share if proven else 0
        for lease in largest:
            if not lease.proven and 0 < lease.held <= excess:
                excess -= lease.held
                taken.add(lease)
                yield lease
        held = {lease.peer: self._held.get(lease.peer, 0) for lease in largest}
        for lease in taken:
            held[lease.peer] -= lease.held
        while held:
            most = max(held, key=held.__getitem__)
            last = next((each for each in largest if each.peer == most and each not in taken), None)
            if last is None or not last.held or held[most] <= wanted:
                del held[most]
                continue
            held[most] -= last.held
            taken.add(last)
            yield last


class Lease:
    """What one request of ``peer`` has of the budget; given back when the ``with`` block ends.

    ``proven``: nothing remains to be asked about who sends it. ``answer``: how much of it is for the answer.
    ``source``: which sender of the peer, "" where it is one.
    """

    __slots__ = ("_budget", "answer", "held", "peer", "proven", "source")

    def __init__(self, budget: Budget, peer: str = "", *, proven: bool = True, source: str = "") -> None:
        self._budget = budget
        self.peer = peer
        self.source = source
        self.proven = proven
        self.held = 0
        self.answer = 0

    def take(self, size: int) -> None:
        """Reserve ``size`` bytes more, or refuse the request: for now, or for ever."""
        if self._budget.reserve(size, self.peer, proven=self.proven):
            self.held += size
        elif self.held + size > self._budget.limit:
            message = (
                f"The request needs more memory than the {self._budget.limit} bytes for requests. Send less "
                "at once, or raise ingest.memory_budget."
            )
            raise too_large(message)
        else:
            message = "The memory for requests is used up. Try again later, or raise ingest.memory_budget."
            raise BadRequest(429, THROTTLING, message, reason=MEMORY)

    def prove(self, peer: str) -> None:
        """The sender is proven: from now on the request is this peer's."""
        if not self.proven:
            self._budget.prove(self.held, self.peer, peer)
            self.peer, self.proven, self.source = peer, True, ""

    def revocable(self, revoke: Callable[[], None] | None) -> None:
        """Let the budget take all of it back for another peer, by calling ``revoke``; with None no longer."""
        self._budget.revocable(self, revoke)

    def revoke(self, tell: Callable[[], None]) -> None:
        """Taken back. ``tell`` frees what is held, in this step."""
        tell()
        self.keep(0)

    def check_room(self, size: int) -> None:
        """Refuse the request as ``take`` would, but take nothing: for what is over before anybody waits."""
        held = self.held
        self.take(size)
        self.keep(held)

    def check_parsing(self, body: bytes) -> None:
        """Refuse a body that would not fit once it is parsed: three bytes of JSON can become a hundred.

        A larger body is taken apart in steps, each of which is leased by itself.
        """
        if SMALL_BODY < len(body) <= READ_AT_ONCE:
            self.check_room(body.count(b"{") * OBJECT_BYTES + body.count(b'"') // 2 * STRING_BYTES)

    def take_for_events(self, count: int) -> None:
        """Reserve what so many events hold from when they are parsed until they are a queue's."""
        self.take(count * PARSED_EVENT_BYTES)

    def take_for_answer(self, size: int) -> None:
        """Reserve the most that the answer can need, before anything is accepted."""
        self.take(size)
        self.answer += size

    def keep(self, size: int) -> None:
        """Give back all but this much."""
        if self.held > size:
            self._budget.release(self.held - size, self.peer, proven=self.proven)
            self.held = size

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Give back everything."""
        self._budget.revocable(self, None)
        self.keep(0)


def _held(lease: Lease) -> int:
    return lease.held


def taken_back() -> BadRequest:
    """Why a body is refused that was still arriving when another peer needed its memory."""
    message = (
        "The memory for requests is used up, and senders that use less of it are served first. Try again "
        "later, send fewer or smaller bodies at once, or raise ingest.memory_budget."
    )
    return BadRequest(429, THROTTLING, message, reason=MEMORY)
