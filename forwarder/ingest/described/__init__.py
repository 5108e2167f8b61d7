"""The OpenAPI document of what is ours on the data listener, and the operation that serves it."""

from forwarder.ingest.described.document import CLOUDEVENTS, EVENTS, TARGETS, document
from forwarder.ingest.described.serving import Described

__all__ = ["CLOUDEVENTS", "EVENTS", "TARGETS", "Described", "document"]
