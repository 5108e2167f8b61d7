"""One target of any kind: its client, its API, and what is known of its names.

A kind's own file says what differs: its options, the request that a batch becomes, and who finds out about
names.

Invariants:
- Building a target neither calls AWS nor looks for credentials.
- ``send`` raises nothing but cancellation; see ``client``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from forwarder.apis.api import Api
from forwarder.metrics import CredentialsView
from forwarder.model import Batch, Limits, Results
from forwarder.queues.queue import Queue
from forwarder.states import Reason
from forwarder.targets.asking import Asker, Hold, Prober
from forwarder.targets.client import AwsClient
from forwarder.targets.facts import Facts
from forwarder.targets.idle import IdleCredentials
from forwarder.targets.names import CalledNames, TargetNames
from forwarder.targets.options import TargetOptions

NAMES, CREDENTIALS = "names", "credentials"
"""Who holds a target here: what is known of its names, and the look-ups of its credentials."""

HoldBy = Callable[[str, str | None, Reason], None]
"""Hold the whole target by this owner, for this sentence and reason; None ends this owner's hold."""

Request = Callable[[Batch], tuple[Mapping[str, Any], bytes]]
"""What decides where the call of a batch goes, and its body."""


class Asking(NamedTuple):
    """How the doctor asks AWS about what a target names, with this or another client. ``right``: what that
    needs; ``why``: to give it."""

    ask: Callable[[AwsClient], Awaitable[Mapping[str, Results]]]
    right: str
    why: str


async def _nothing(client: AwsClient) -> Mapping[str, Results]:
    return {}


NOT_ASKED = Asking(_nothing, "", "")
Watch = Callable[[Queue, Hold], Awaitable[None]]
Weigh = Callable[[Batch, Results], Results]
"""What the results of a batch's entries say of the call."""


def client_of(name: str, options: TargetOptions) -> AwsClient:
    """The client of a target: it calls the service of the target's API."""
    api = options.api
    return AwsClient(api.service, options, options.workers, name, codec=api.codec, codes=api.codes)


def called_names(options: TargetOptions) -> CalledNames:
    """Names that only calls with events tell something about."""
    return CalledNames(
        options.api.noun,
        options.bound,
        default=options.takes_others,
        probe=float(options.hold.probe),
        cap=float(options.hold.probe_cap),
    )


class AwsTarget:
    """A target. ``region`` is "" when it takes events of any; ``transport``: how it makes its calls, ``fast``
    or ``plain``, "" before the first.

    ``asker`` asks AWS about names; without one, calls with events tell which may be sent to. ``asking`` is
    for the doctor, and ``unasked`` says why it asks nothing. ``is_idle``: without events it makes no calls,
    so its credentials are looked for beside (see ``idle``).
    """

    def __init__(
        self,
        name: str,
        options: TargetOptions,
        api: Api,
        limits: Limits,
        request: Request,
        *,
        client: AwsClient | None = None,
        asker: Asker | None = None,
        asking: Asking = NOT_ASKED,
        weigh: Weigh | None = None,
        unasked: str = "",
        is_idle: bool = True,
    ) -> None:
        self.api = api
        self.limits = limits
        self.asker = asker
        self.names: TargetNames
        if asker is None:
            self.names = called = called_names(options)
            self._watch: Watch = Prober(name, called).run
        else:
            self.names, self._watch = asker.names, asker.run
        self._client = client or client_of(name, options)
        self._request = request
        self._weigh = weigh
        self.asking = asking
        self.unasked = unasked
        probe = float(options.hold.probe)
        self._idle = IdleCredentials(self._client.credentials, probe) if is_idle else None

    @property
    def kind(self) -> str:
        return self.api.kind

    @property
    def region(self) -> str:
        return self._client.region

    @property
    def transport(self) -> str:
        return self._client.transport

    async def send(self, batch: Batch) -> Results:
        params, body = self._request(batch)
        api = self.api
        results = await self._client.call(api.operation, params, len(batch.events), api.read_results, body)
        return results if self._weigh is None else self._weigh(batch, results)

    async def watch(self, queue: Queue, hold: HoldBy) -> None:
        """Until cancelled: find out about names, and tell the queue which events may be sent."""
        async with asyncio.TaskGroup() as tasks:
            if self._idle is not None:
                tasks.create_task(self._idle.run(partial(hold, CREDENTIALS)))
            await self._watch(queue, partial(hold, NAMES))

    def hurry(self) -> None:
        """Find out again, as soon as the rates allow, what holds the target or sets its events aside."""
        self.names.hurry()
        if self._idle is not None:
            self._idle.hurry()

    def is_asking(self) -> bool:
        """Whether an answer is about to come that may let events go."""
        return self.names.is_asking() or (self._idle is not None and self._idle.is_looking)

    async def answered(self, name: str, seconds: float) -> None:
        """Wait until the name was asked about, at most so long; at once where nobody asks."""
        if self.asker is not None:
            await self.asker.answered(name, seconds)

    def credentials(self) -> CredentialsView:
        return self._client.credentials.view()

    async def examine(self) -> Facts:
        """What can be found out without a call."""
        return await self._client.examine(self.api.operation)

    async def ask(self, through: AwsTarget | None = None) -> Mapping[str, Results]:
        """AWS's answer about each thing that the target names, if AWS may be asked; sends no event.

        ``through``: the target whose client asks in place of its own, which must go the same way.
        """
        return await self.asking.ask((through or self)._client)

    async def close(self) -> None:
        await self._client.close()
