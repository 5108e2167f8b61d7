"""A stand-in for what knows which names may be sent to: a set that the test changes."""

from __future__ import annotations


class FakeNames:
    """``closed``: names that are not open; those in ``free`` have no share. ``asked``: by whom, in order."""

    def __init__(self, *closed: str) -> None:
        self.closed = set(closed)
        self.free: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def is_open(self, name: str, peer: str) -> bool:
        self.asked.append((name, peer))
        return not name or name not in self.closed

    def has_share(self, name: str) -> bool:
        return name not in self.free

    def reason(self, name: str) -> str:
        return f"bus {name} does not exist" if name in self.closed else ""
