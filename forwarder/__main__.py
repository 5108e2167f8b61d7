"""``python -m forwarder`` and the command ``forwarder``.

Invariants:
- For ``run``, signals are noted before anything else is imported: see ``signals``.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run one command; the exit code."""
    if sys.argv[1:2] == ["run"]:
        from forwarder import signals

        signals.note()
    from forwarder import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
