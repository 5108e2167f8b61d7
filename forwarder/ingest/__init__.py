"""The data listener: HTTP in, events in queues out."""
