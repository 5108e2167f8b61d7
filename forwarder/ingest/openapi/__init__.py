"""The OpenAPI document of what is ours on the data listener, and the operation that serves it."""

from forwarder.ingest.openapi.document import CLOUDEVENTS, EVENTS, TARGETS, document
from forwarder.ingest.openapi.serving import OpenApiDocument

__all__ = ["CLOUDEVENTS", "EVENTS", "TARGETS", "OpenApiDocument", "document"]
