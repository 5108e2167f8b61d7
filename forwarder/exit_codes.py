"""The exit codes of every command, those of sysexits.h where it has one that fits."""

EXIT_OK = 0

EXIT_INCOMPLETE = 1
"""Not all of it could be done: events refused, dead letters or a target not there, damage found, not well."""

EXIT_USAGE = 2
EXIT_LOST = 3
"""The daemon stopped, and events were lost."""

EXIT_UNAVAILABLE = 69
"""No daemon answers."""

EXIT_INTERNAL = 70
EXIT_IO = 74
"""The storage cannot be read, or the output cannot be written."""

EXIT_NOT_NOW = 75
"""The daemon cannot start now; a later start may succeed."""

EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
"""By Ctrl-C, as shells say it."""
