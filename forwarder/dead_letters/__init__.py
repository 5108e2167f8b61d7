"""Dead letters: the events given up on; kept by the daemon, read by people, put back or deleted by both."""

from forwarder.dead_letters.keeping import (
    ROW_OVERHEAD_BYTES,
    DeadLetters,
    LettersFull,
    LettersGone,
    purge,
    removal,
    rescue,
)
from forwarder.dead_letters.reading import BatchOf, Letter, Page, Wanted, as_json, counts, export, list_, show

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
