"""Talks to a running daemon, for the command line only: sends, asks, and tells it what to do."""

from forwarder.client.connecting import Unreachable
from forwarder.client.control import (
    Later,
    Refused,
    count_queue,
    listener,
    operate,
    purge,
    purge_queue,
    replay,
)
from forwarder.client.sending import CHUNK_EVENTS, Chunks, Sender, UnknownTarget, send
from forwarder.client.status import render_status, status
from forwarder.client.watching import watch

__all__ = [
    "CHUNK_EVENTS",
    "Chunks",
    "Later",
    "Refused",
    "Sender",
    "UnknownTarget",
    "Unreachable",
    "count_queue",
    "listener",
    "operate",
    "purge",
    "purge_queue",
    "render_status",
    "replay",
    "send",
    "status",
    "watch",
]
