"""What a comparison of two commits claims and finds: one line a figure, the exit code, and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.ratios import FEWEST_ROUNDS, Ratio, Verdict, ratio_of, verdict_of

PASSED, DEARER, NOT_DECIDED = 0, 1, 3
"""Exit codes; argparse has 2."""


@dataclass
class Claim:
    """That one figure of one variant is at most ``bound`` times that commit's; with all rounds of both."""

    row: str
    variant: str
    figure: str
    unit: str
    bound: float
    this: list[float] = field(default_factory=list)
    that: list[float] = field(default_factory=list)
    ratio: Ratio | None = None
    verdict: Verdict = Verdict.NOT_DECIDED
    why: str = ""

    def add(self, this: float, that: float) -> None:
        """One more round of both."""
        self.this.append(this)
        self.that.append(that)
        if len(self.this) >= FEWEST_ROUNDS:
            self.ratio = ratio_of(self.this, self.that)
            self.verdict = verdict_of(self.ratio, len(self.this), self.bound)

    def fail(self, why: str) -> None:
        self.verdict, self.why = Verdict.FAILED, why

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "row": self.row,
            "variant": self.variant,
            "figure": self.figure,
            "unit": self.unit,
            "bound": self.bound,
            "ratio": self.ratio._asdict() if self.ratio else None,
            "verdict": self.verdict.value,
            "why": self.why,
            "this": self.this,
            "that": self.that,
        }


def exit_code(claims: Iterable[Claim]) -> int:
    """0 only when every claim holds; DEARER outweighs what is not decided."""
    verdicts = {claim.verdict for claim in claims}
    if Verdict.DEARER in verdicts:
        return DEARER
    return PASSED if verdicts == {Verdict.AT_MOST} else NOT_DECIDED


COLUMNS = "{:<13} {:<32} {:<20} {:>9} {:>9} {:>6}  {:<14} {:>6}  {}"
HEAD = COLUMNS.format(
    "row", "variant", "figure", "this", "that", "ratio", "95 % interval", "rounds", "verdict"
)


def line(claim: Claim) -> str:
    """One line under ``HEAD``."""
    figures = [f"{statistics.median(some):.2f}" if some else "" for some in (claim.this, claim.that)]
    ratio = interval = ""
    if claim.ratio:
        ratio = f"{claim.ratio.median:.3f}"
        interval = f"{claim.ratio.low:.3f} to {claim.ratio.high:.3f}"
    verdict = f"{claim.verdict}: {claim.why}" if claim.why else claim.verdict
    return COLUMNS.format(
        claim.row, claim.variant, claim.unit, *figures, ratio, interval, len(claim.this), verdict
    )
