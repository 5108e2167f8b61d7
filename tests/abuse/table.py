"""The table "attack, bound, measured" in ``docs/security.md``, made from what a run of ``make abuse`` wrote.

    python -m tests.abuse.table [FILE]

Invariants:
- Only what stands between the two marks is written again.
- Every attack of the list has a row, in the list's order; one that the run did not have says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.abuse.figures import number
from tests.abuse.run import RESULTS, attacks
from tests.abuse.stage import ROOT

PAGE = ROOT / "docs/security.md"
BEGIN, END = "<!-- attacks: begin (python -m tests.abuse.table) -->", "<!-- attacks: end -->"
HEAD = "| attack | principle | measured (bound) |\n|---|---|---|"
NOT_RUN = "not measured yet"


def row(name: str, principles: str, result: Mapping[str, Any] | None) -> str:
    return f"| {name} | {principles} | {_measured(result) if result else NOT_RUN} |"


def _measured(result: Mapping[str, Any]) -> str:
    if result["problem"]:
        return "not measured: the attack failed"
    shown = []
    for figure in result["figures"]:
        if figure["bound"] is not None:
            value, bound = (number(figure[name], figure["unit"]) for name in ("value", "bound"))
            mark = "" if figure["holds"] else "**broken** "
            shown.append(f"{mark}{figure['what']} {value} ({bound})")
        elif figure.get("listed"):
            value = number(figure["value"], figure["unit"])
            shown.append(f"{figure['what']} {value} ({figure['detail']}, not judged)")
    return "; ".join(shown)


def block(results: Sequence[Mapping[str, Any]]) -> str:
    measured = {result["attack"]: result for result in results}
    rows = [row(attack.name, attack.principles, measured.get(attack.name)) for attack in attacks()]
    return "\n".join([BEGIN, "", HEAD, *rows, "", END])


def rewritten(page: str, results: Sequence[Mapping[str, Any]]) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + block(results) + after


def rows_of(page: str) -> list[str]:
    """The attacks that the page's table names."""
    _, _, rest = page.partition(BEGIN)
    lines = rest.partition(END)[0].splitlines()
    return [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")][1:]


def main(argv: Sequence[str]) -> int:
    results = json.loads(Path(argv[0]).read_text() if argv else RESULTS.read_text())
    PAGE.write_text(rewritten(PAGE.read_text(), results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
