"""CloudEvents 1.0 over HTTP: read in each of its modes, and made into entries of PutEvents."""

from forwarder.ingest.dialects.cloudevents.attributes import InvalidEvent
from forwarder.ingest.dialects.cloudevents.identity import identity
from forwarder.ingest.dialects.cloudevents.mapping import entry_of
from forwarder.ingest.dialects.cloudevents.modes import Bounds, CloudEvent, check_media, is_batch, steps

__all__ = ["Bounds", "CloudEvent", "InvalidEvent", "check_media", "entry_of", "identity", "is_batch", "steps"]
