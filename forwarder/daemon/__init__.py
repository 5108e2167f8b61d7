"""The composition root: knows every package. ``main`` runs a daemon until it is told to stop."""

from forwarder.daemon.process import Daemon
from forwarder.daemon.serving import main

__all__ = ["Daemon", "main"]
