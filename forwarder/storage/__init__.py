"""The one SQLite file: ``Storage`` owns and writes it, ``open_read_only`` reads it from outside.

Invariants:
- sqlite3 is imported in this package and nowhere else; its errors leave it as StorageError.
"""

from forwarder.storage.connection import Connection, has_room, no_room
from forwarder.storage.errors import StorageError
from forwarder.storage.file import holds_storage
from forwarder.storage.owner import Storage
from forwarder.storage.reading import open_read_only, salvaged
from forwarder.storage.transaction import Work

__all__ = [
    "Connection",
    "Storage",
    "StorageError",
    "Work",
    "has_room",
    "holds_storage",
    "no_room",
    "open_read_only",
    "salvaged",
]
