"""``make bench``: the rows, measured, printed as tables, and written as JSON and plots when asked to.

With ``--against REV`` the checkout is compared with another commit instead, row by row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.against import compare
from benchmarks.machine import about
from benchmarks.report import show, write
from benchmarks.rows import ROUND_SHARES, ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument(
        "--rounds", type=int, default=2, help="of a measurement; a comparison decides by itself"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of events")
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="write the results there")
    parser.add_argument("--against", metavar="REV", help="compare the checkout with this commit")
    parser.add_argument("--bound", type=float, default=1.05, help="most that a ratio may be (default: 1.05)")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(", ".join(f"{name} {value}" for name, value in about().items()))
    rows = options.rows or list(ROWS)
    if options.against:
        plans = {name: ROWS[name](options.share * ROUND_SHARES[name]) for name in rows}
        return compare(options.against, plans, options.bound, options.into)
    measured = {}
    for name in rows:
        measured[name] = ROWS[name](options.share).measure(options.rounds)
        show(measured[name])
        if options.into:
            write(options.into, measured)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
