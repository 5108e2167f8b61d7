"""From a target's options to its lane: the target, its queue, its gate, and the route that leads to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from forwarder.apis.codes import EntryCodes
from forwarder.clock import ClockWatch, this_boot
from forwarder.config import Config, default_of_kind
from forwarder.control.operations import TargetHandle
from forwarder.daemon.asides import SetAside
from forwarder.dead_letters import DeadLetters
from forwarder.delivery.disposition import Policy
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.delivery.lane import Lane
from forwarder.ingest.bindings import OnlyBound, Route
from forwarder.metrics import Metrics, NamesView, TargetMetrics
from forwarder.model import Clock, Limits
from forwarder.queues.building import QueueParts
from forwarder.queues.kinds import QUEUES
from forwarder.queues.queue import Queue
from forwarder.receipts import MAX_WAIT_SECONDS, Receipts
from forwarder.storage import Storage
from forwarder.targets import TARGETS, AwsTarget
from forwarder.targets.buses import BusNames
from forwarder.targets.names import TargetNames
from forwarder.targets.remembered import RememberedNames


class Shared(msgspec.Struct, frozen=True):
    """What all lanes share."""

    config: Config
    clock: Clock
    metrics: Metrics
    storage: Storage
    letters: DeadLetters
    receipts: Receipts
    clock_watch: ClockWatch


class TargetParts(msgspec.Struct, frozen=True):
    """One target's parts. ``remembered``: its names on the disk, where it has any."""

    lane: Lane
    target: AwsTarget
    route: Route[Any]
    remembered: RememberedNames | None
    set_aside: SetAside

    @property
    def handle(self) -> TargetHandle:
        """By which an operator acts on the target."""
        lane, target = self.lane, self.target
        return TargetHandle(
            lane.name,
            lane.queue,
            lane.gate,
            target.limits,
            target.api.batch_of,
            target.api.name_of,
            lane.metrics,
            target.hurry,
            target.is_asking,
            target.api.codec.stored,
            self._aside,
        )

    def _aside(self) -> tuple[str, str]:
        """Why events wait while the target is open, and the cure."""
        cure = self.set_aside.cure()
        return self.set_aside.sentence(), cure.text if cure is not None else ""


def build(shared: Shared, name: str) -> TargetParts:
    """Build one target's lane. Raises ConfigError when the kind refuses its options."""
    options = shared.config.targets[name]
    target = TARGETS[options.kind].build(name, options)
    metrics = shared.metrics.for_target(name)
    queue = _queue(shared, name, options, target, metrics)
    gate = Gate(name, _gate_options(options, target.api.codes), shared.clock)
    shared.metrics.watch(name, queue.view, gate.view, lambda: target.transport)
    shared.metrics.watch_credentials(name, target.credentials)
    policy = _policy(options, target.limits)
    lane = Lane(
        name,
        target,
        queue,
        gate,
        policy,
        shared.letters,
        metrics,
        shared.clock,
        receipts=shared.receipts,
        names=target.names,
    )
    route: Route[Any] = Route(
        name=name,
        api=target.api,
        region=target.region,
        queue=queue,
        metrics=metrics,
        max_event_bytes=target.limits.max_event_bytes,
        names=options.bound,
        default=default_of_kind(shared.config.targets, name),
        only=only_bound(name, options),
        ack_timeout=MAX_WAIT_SECONDS if options.ack == "delivered" else 0.0,
        at_aws=target.names,
        answered=target.answered,
    )
    set_aside = SetAside(queue, target.names, shared.clock)
    shared.metrics.watch_names(name, partial(_names_view, target.names, set_aside))
    remembered = _remembered(shared, name, options, target)
    return TargetParts(lane, target, route, remembered, set_aside)


def _names_view(names: TargetNames, set_aside: SetAside) -> NamesView:
    return NamesView(set_aside.counts(), names.questions, names.unconfirmed, names.unverified)


def _remembered(shared: Shared, name: str, options: Any, target: AwsTarget) -> RememberedNames | None:
    """What the target knew of its names before, where it asks about them."""
    names = target.names
    if not isinstance(names, BusNames):
        return None
    place = f"{target.region} {options.endpoint_url or ''}"
    return RememberedNames(name, place, names, shared.storage, shared.clock)


def _queue(shared: Shared, name: str, options: Any, target: AwsTarget, metrics: TargetMetrics) -> Queue:
    parts = QueueParts(
        target=name,
        target_kind=options.kind,
        limits=target.limits,
        max_events=options.queue_limits.max_events,
        max_bytes=options.queue_bytes,
        clock=shared.clock,
        watch=shared.clock_watch,
        metrics=metrics,
        storage=shared.storage,
        codec=target.api.codec.stored,
        names=target.names,
        name_of=target.api.name_of,
        boot=this_boot(),
    )
    return QUEUES[options.queue.kind].build(options.queue, parts)


def only_bound(name: str, options: Any) -> OnlyBound | None:
    """What refuses names that the options do not list, where they say so."""
    return OnlyBound(name, options.api, options.bound) if options.only_bound else None


def _gate_options(options: Any, codes: EntryCodes) -> GateOptions:
    return GateOptions(
        slots=options.workers,
        min_slots=options.min_workers,
        pace=options.max_calls_per_second,
        backoff_base=options.retry.base,
        backoff_cap=options.retry.cap,
        probe=options.hold.probe,
        probe_cap=options.hold.probe_cap,
        overloaded=codes.overloaded,
    )


def _policy(options: Any, limits: Limits) -> Policy:
    retry = options.retry
    return Policy(retry.max_age, limits.whole, retry.max_attempts, retry.base, retry.cap)
