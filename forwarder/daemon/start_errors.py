"""Why a daemon cannot start, in a sentence."""

from __future__ import annotations

import errno

from forwarder.files import LASTING


class StartError(Exception):
    """The daemon cannot start; the message is for the operator. ``lasting``: only a person can mend it."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


def cannot_open(name: str, problem: OSError) -> StartError:
    """``name``: the setting."""
    return StartError(f"{name}: {problem}", lasting=problem.errno in LASTING)


def cannot_listen(name: str, problem: OSError) -> StartError:
    """``name``: the setting and its value."""
    message, lasting = f"{name}: {problem.strerror or problem}", problem.errno in LASTING
    if problem.errno == errno.EACCES and "unix:" not in name:
        message += ": ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port"
    elif lasting and "unix:" in name:
        message += ": the directory must exist, and the daemon's user must be able to write to it"
    return StartError(message, lasting=lasting)
