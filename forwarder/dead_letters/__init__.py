"""Dead letters: the events given up on; kept by the daemon, read by people, put back or deleted by both."""

from forwarder.dead_letters.query import BatchOf, Letter, Page, Wanted, as_json, counts, export, list_, show
from forwarder.dead_letters.rows import ROW_OVERHEAD_BYTES, rescue
from forwarder.dead_letters.store import DeadLetters, LettersFull, LettersGone, purge, removal

__all__ = [
    "ROW_OVERHEAD_BYTES",
    "BatchOf",
    "DeadLetters",
    "Letter",
    "LettersFull",
    "LettersGone",
    "Page",
    "Wanted",
    "as_json",
    "counts",
    "export",
    "list_",
    "purge",
    "removal",
    "rescue",
    "show",
]
