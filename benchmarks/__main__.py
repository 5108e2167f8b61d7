"""``make bench``: the rows, measured, printed as tables, and written as JSON and plots when asked to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.machine import about
from benchmarks.report import show, write
from benchmarks.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of events")
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="write results.json and plots there")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(", ".join(f"{name} {value}" for name, value in about().items()))
    measured = {}
    for name in options.rows or ROWS:
        measured[name] = ROWS[name](options.rounds, options.share)
        show(measured[name])
        if options.into:
            write(options.into, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
