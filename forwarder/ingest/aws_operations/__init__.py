"""The AWS operations: each call to the targets its names are bound to."""

from forwarder.ingest.aws_operations.put_events import PutEventsOperation
from forwarder.ingest.aws_operations.put_project_events import PutProjectEventsOperation
from forwarder.ingest.aws_operations.put_rum_events import PutRumEventsOperation

__all__ = ["PutEventsOperation", "PutProjectEventsOperation", "PutRumEventsOperation"]
