"""Settings that are allowed but may not be what the operator wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from forwarder import descriptors
from forwarder.config import Bytes, Config, warnings
from forwarder.doctor.findings import Finding
from forwarder.nearest import listed, plural
from forwarder.targets.surroundings import unknown_regions


def examine(
    config: Config,
    environ: Mapping[str, str] = os.environ,
    open_files: Callable[[], int] = descriptors.most,
) -> Iterator[Finding]:
    names = list(config.targets)
    count = plural(len(names), "target")
    yield Finding("ok", "configuration", f"it is valid and has {count} ({listed(names)})")
    yield from _in_memory(config)
    yield from _room(config)
    yield from _unverified(config)
    if config.ingest.auth.allow_unauthenticated:
        yield Finding(
            "warn",
            "ingest.auth.allow_unauthenticated",
            f"anyone who reaches {config.ingest.listen.text} may send with the daemon's credentials",
            "Configure tokens, access_keys or tls.client_ca, or block access from other hosts.",
        )
    for warning in (*warnings(config), *unknown_regions(config.targets)):
        yield Finding("warn", warning.path, warning.message)
    yield from _pages(config)
    yield from _open_files(config, open_files)
    if environ.get("AWS_ENDPOINT_URL"):
        yield Finding(
            "warn",
            "environment",
            "AWS_ENDPOINT_URL is set, but ignored, because it usually names this daemon",
            "Set endpoint_url of a target to send to another endpoint.",
        )


def _pages(config: Config) -> Iterator[Finding]:
    if config.ingest.browsers == "allow":
        yield Finding(
            "warn",
            "ingest.browsers",
            f"a browser that can reach {config.ingest.listen.text} lets any web page send events with the "
            "daemon's credentials",
            "Set it to `refuse`, and list the origins of your own pages in ingest.cors.origins.",
        )


def _open_files(config: Config, open_files: Callable[[], int]) -> Iterator[Finding]:
    wanted, limit = config.ingest.max_connections, open_files()
    fit = descriptors.for_connections(wanted, limit)
    if limit < (needed := descriptors.needed_for(wanted)):
        yield Finding(
            "warn",
            "ingest.max_connections",
            f"it is {wanted}, and the limit of {limit} open files leaves room for {fit} connections",
            f"Raise the limit to {needed} (ulimit -Hn, or LimitNOFILE={needed} in the unit), or lower "
            "ingest.max_connections.",
        )


def _in_memory(config: Config) -> Iterator[Finding]:
    for name, options in config.targets.items():
        if not options.queue.durable:
            yield Finding(
                "warn",
                f"targets.{name}.queue",
                "queued events are in memory only, so a kill loses them",
                "Set queue: disk if no event may be lost.",
            )


def _room(config: Config) -> Iterator[Finding]:
    wanted = sum(options.queue_bytes for options in config.targets.values() if options.queue.in_storage)
    if wanted > config.storage.max_bytes:
        yield Finding(
            "warn",
            "storage.max_bytes",
            f"it is {config.storage.max_bytes.text}, and the disk queues may hold {Bytes(wanted).text} "
            "together, so senders can get 503 before a queue is full",
            "Raise storage.max_bytes, or lower queue_limits.max_bytes.",
        )


def _unverified(config: Config) -> Iterator[Finding]:
    for name, options in config.targets.items():
        if getattr(options, "verify_buses", True) is False:
            yield Finding(
                "warn",
                f"targets.{name}.verify_buses",
                "AWS reports success for a bus that does not exist, and drops the event",
                "Set it to true.",
            )
