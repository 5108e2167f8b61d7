"""The composition root: knows every room; ``main`` runs a daemon until told to stop."""

from forwarder.daemon.process import Daemon, main

__all__ = ["Daemon", "main"]
