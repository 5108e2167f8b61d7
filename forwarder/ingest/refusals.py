"""Makes requests for a full queue wait for room, up to a second, before they are refused.

A refusal costs nearly as much CPU as accepting an event, so senders that retry at once would leave no CPU for
delivery. The wait limits how fast a connection can be refused, and most waiting requests find room.

Invariants:
- A connection that was refused less than a second ago (the least that Retry-After says) waits longer each
  time, 50 ms to 1 s; one that heeds Retry-After waits 50 ms at most.
- While a request waits, its body is neither read nor held nor decoded. If it finds no room, it is refused
  unread. A few each second are read all the same, and get the answer that they would get without this module:
  a known event needs no room, and the sender of one that can never fit learns so.
- Peers get room in turn, each in the order of its requests; a waiting request is never overtaken.
- At most MAX_WAITING requests wait; one more is refused at once, and its connection is closed.
- Room promised to a request that was let in stays reserved until its events are in the queue.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from forwarder.ingest.bindings import Bindings, Route
from forwarder.ingest.errors import THROTTLING, BadRequest
from forwarder.ingest.fair_line import FairLine
from forwarder.ingest.http.manners import FIRST_PAUSE, Manners

LOOK_SECONDS = 0.01
"""How often those that wait look for room."""

READ_PER_SECOND = 20.0
READ_BYTES = 16 * 1024
"""So many requests of so many bytes are read each second though they have found no room; larger ones count
for several."""

MAX_WAITING = 1024
USUAL_BYTES = 300.0
"""Bytes of a body per event, before the first that was seen."""


class Place(asyncio.Future[None]):
    """A request's place in the line, and what it was promised of the room, until the ``with`` block ends."""

    def __init__(self, line: Line, need: int, until: float) -> None:
        super().__init__()
        self.line = line
        self.need = need
        self.until = until
        self.promised = 0

    @property
    def over(self) -> bool:
        return self.done()

    def let_in(self) -> None:
        self.promised = self.need
        self.line.promised += self.need
        self.set_result(None)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        self.line.promised -= self.promised
        self.promised = 0


class Line:
    """Those that wait for room in the queue of one target, or in that of any of several."""

    def __init__(self, *routes: Route[Any]) -> None:
        self.waiting: FairLine[Place] = FairLine()
        self.promised = 0
        self.is_tight = False  # its queue has refused events, and was not seen with room since
        self._routes = routes
        self._bytes_per_event = USUAL_BYTES

    def is_full(self) -> bool:
        """Whether no queue has room for even one event."""
        return all(route.queue.room() <= 0 for route in self._routes)

    def room(self) -> int:
        """The number of events for which there is room that is not promised."""
        return max(route.queue.room() for route in self._routes) - self.promised

    def need(self, size: int) -> int:
        """Events that a body of this size has, about."""
        return max(1, int(size / self._bytes_per_event))

    def learn(self, size: int, events: int) -> None:
        """A body of this size had so many events."""
        if size and events:
            self._bytes_per_event += (size / events - self._bytes_per_event) / 16

    def refusal(self, *, close: bool = False) -> BadRequest:
        """A refusal of an unread request, which counts as one event."""
        target, events = "Targets of every bus", 1
        if len(self._routes) == 1:
            route = self._routes[0]
            target, events = f"Target {route.name}", 0
            route.metrics.add_refused("queue_full")
        message = f"{target}: the queue is full (queue_limits)."
        return BadRequest(429, THROTTLING, message, close=close, reason="queue_full", events=events)

    def look(self, now: float) -> None:
        """Let in those for whom there is room, and those that have waited long enough."""
        room = self.room()
        found = True
        while found:
            found = False
            for peer, place in self.waiting.firsts():
                if place.need <= room:
                    room -= place.need
                    self.waiting.pop(peer).let_in()
                    found = True
                elif place.until <= now:
                    self.waiting.pop(peer).set_result(None)
                    found = True


class Refusals:
    """Lines by the name of their target; that of a call whose names are in its body is at ""."""

    def __init__(self, bindings: Bindings) -> None:
        self._lines = {route.name: Line(route) for route in bindings.routes}
        routes = [route for route in bindings.routes if route.api.target]
        if routes:
            self._lines[""] = self._lines[routes[0].name] if len(routes) == 1 else Line(*routes)
        self._waiting = 0
        self._reads, self._read_at = READ_PER_SECOND, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def must_wait(self, name: str) -> bool:
        """Whether a request to this target has to ``wait`` for room; only after a queue refused events."""
        line = self._lines.get(name)
        if line is None or not line.is_tight:
            return False
        line.is_tight = len(line.waiting) > 0 or line.is_full()
        return line.is_tight

    async def wait(self, name: str, size: int, peer: str, manners: Manners) -> Place:
        """Wait for room; BadRequest when there is none. ``size``: bytes of the body."""
        loop, line = asyncio.get_running_loop(), self._lines[name]
        if self._waiting >= MAX_WAITING:
            raise line.refusal(close=True)
        place = Place(line, line.need(size), loop.time() + manners.asked(loop.time()))
        line.waiting.add(peer, place)
        self._waiting += 1
        if self._timer is None:
            self._timer = loop.call_later(LOOK_SECONDS, self._look)
        try:
            await place
        except asyncio.CancelledError:
            place.give_back()
            raise
        finally:
            self._waiting -= 1
        manners.has_waited = True
        if not place.promised and place.need > line.room() and not self._may_read(size, loop.time()):
            raise line.refusal()
        return place

    def learn(self, name: str, size: int, events: int) -> None:
        """A body of this size had so many events."""
        line = self._lines.get(name)
        if line is not None:
            line.learn(size, events)

    async def refused(self, name: str, problem: BadRequest, manners: Manners) -> None:
        """Wait before this refusal is answered, if it has not waited and another was answered just now."""
        if problem.status != 429:
            return
        if name in self._lines:
            self._lines[name].is_tight = True
        loop = asyncio.get_running_loop()
        if not manners.has_waited and (pause := manners.asked(loop.time())) > FIRST_PAUSE:
            if self._waiting >= MAX_WAITING:
                problem.close = True
            else:
                self._waiting += 1
                try:
                    await asyncio.sleep(pause)
                finally:
                    self._waiting -= 1
        manners.refused(loop.time())

    def _may_read(self, size: int, now: float) -> bool:
        """Whether a request that found no room is read all the same."""
        self._reads = min(READ_PER_SECOND, self._reads + (now - self._read_at) * READ_PER_SECOND)
        self._read_at = now
        cost = max(1.0, size / READ_BYTES)
        if cost > self._reads:
            return False
        self._reads -= cost
        return True

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for line in self._lines.values():
            if line.waiting:
                line.look(loop.time())  # that of one target twice, where it is the only one for buses
        if any(line.waiting for line in self._lines.values()):
            self._timer = loop.call_later(LOOK_SECONDS, self._look)
