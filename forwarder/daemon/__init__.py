"""The composition root: knows every room; ``main`` runs a daemon until told to stop."""

from forwarder.daemon.process import Daemon
from forwarder.daemon.serving import main

__all__ = ["Daemon", "main"]
