"""The figures of a torture: one line per round, and a table per target at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.torture.events import TARGETS
from tests.torture.judge import Account, Verdict
from tests.torture.plans import Round
from tests.torture.stage import Life


@dataclass
class Row:
    """One round in numbers."""

    number: int
    disk: str
    ends: Counter[str]
    scrapes: int
    accounts: dict[str, Account]
    violations: int
    seconds: float

    def total(self, name: str, queue: str = "") -> int:
        every = [self.accounts[target.name] for target in TARGETS if queue in ("", target.queue)]
        return sum(getattr(account, name) for account in every)


@dataclass
class Figures:
    rows: list[Row] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def add(self, round_: Round, lives: Sequence[Life], verdict: Verdict, statuses: Counter[int], seconds: float) -> None:
        ends = Counter(life.how for life in lives)
        scrapes = sum(life.scrapes for life in lives)
        self.rows.append(
            Row(
                round_.number,
                round_.disk,
                Counter(ends),
                scrapes,
                verdict.accounts,
                len(verdict.violations),
                seconds,
            )
        )
        self.statuses += statuses

    def line(self) -> str:
        """The last round."""
        row = self.rows[-1]
        ends = ", ".join(f"{count} {how}" for how, count in sorted(row.ends.items()))
        again = sum(sum(a.repeated_later.values()) + a.repeated_in_life for a in row.accounts.values())
        return (
            f"  round {row.number:>3}  {row.disk:<6} {ends:<18} promised {row.total('promised'):>7}"
            f"  lost on disk {row.total('lost', 'disk')}, in memory {row.total('lost', 'memory')}"
            f"  dead {row.total('dead')}  again {again}  scrapes {row.scrapes}  {row.seconds:.0f} s"
        )


def show(figures: Figures) -> None:
    """The table of all rounds, per target."""
    ends: Counter[str] = sum((row.ends for row in figures.rows), Counter())
    print(f"\n  {ends['kill']} kills, {ends['term']} stops; {sum(r.scrapes for r in figures.rows)} scrapes")
    print(f"  answers to senders: {dict(sorted(figures.statuses.items()))}\n")
    print(f"  {'target':<16}{'promised':>10}{'arrived':>10}{'unpromised':>12}{'dead':>7}{'lost':>7}", end="")
    print(f"{'again: in life':>16}{'kill':>7}{'stop':>6}{'oldest ms':>11}")
    for target in TARGETS:
        every = [row.accounts[target.name] for row in figures.rows]
        later: Counter[str] = sum((account.repeated_later for account in every), Counter())
        ages = [age for account in every for ages in account.by_life.values() for age in ages]
        numbers = [sum(getattr(a, n) for a in every) for n in ("promised", "arrived", "unpromised")]
        print(f"  {target.name:<16}{numbers[0]:>10}{numbers[1]:>10}{numbers[2]:>12}", end="")
        print(f"{sum(a.dead for a in every):>7}{sum(a.lost for a in every):>7}", end="")
        print(f"{sum(a.repeated_in_life for a in every):>16}{later['kill']:>7}{later['term']:>6}", end="")
        print(f"{1000 * max(ages, default=0):>11.0f}")
    print()
