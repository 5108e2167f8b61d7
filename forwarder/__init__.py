"""event-forwarder: takes events from programs on a host and gets every one of them into AWS."""

__version__ = "0.1.0"
