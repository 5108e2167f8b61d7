"""The figures of a torture: one line per round, and a table per target at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.torture.events import TARGETS
from tests.torture.judge import Account, Verdict
from tests.torture.stage import Life

NOUNS = {"kill": "kills", "term": "stops", "power": "power cuts"}


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

    def on_disk(self) -> list[Account]:
        return [self.accounts[target.name] for target in TARGETS if target.queue == "disk"]

    def total(self, name: str, queue: str = "") -> int:
        every = [self.accounts[target.name] for target in TARGETS if queue in ("", target.queue)]
        return sum(getattr(account, name) for account in every)


@dataclass
class Figures:
    rows: list[Row] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def add(
        self,
        number: int,
        disk: str,
        lives: Sequence[Life],
        verdict: Verdict,
        statuses: Counter[int],
        seconds: float,
    ) -> None:
        ends: Counter[str] = Counter(life.how for life in lives)
        scrapes = sum(life.scrapes for life in lives)
        violations = len(verdict.violations)
        self.rows.append(Row(number, disk, ends, scrapes, verdict.accounts, violations, seconds))
        self.statuses += statuses

    def total(self, name: str) -> int:
        """Of all rounds, for the targets on disk."""
        return sum(row.total(name, "disk") for row in self.rows)

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


HEADS = ("promised", "arrived", "unpromised", "dead", "lost")


def show(figures: Figures) -> None:
    """The tables of all rounds: of each target, and of the targets on disk by what their disk was."""
    ends: Counter[str] = sum((row.ends for row in figures.rows), Counter())
    nouns = ", ".join(f"{count} {NOUNS[how]}" for how, count in sorted(ends.items()))
    print(f"\n  {nouns}; {sum(row.scrapes for row in figures.rows)} scrapes")
    print(f"  answers to senders: {dict(sorted(figures.statuses.items()))}\n")
    again = ("again: in life", "kill", "power", "stop", "oldest ms")
    print(_cells("target", *HEADS, *again))
    for target in TARGETS:
        print(_cells(target.name, *_numbers([row.accounts[target.name] for row in figures.rows])))
    print("\n" + _cells("on disk, which is", *HEADS, *again))
    for disk in dict.fromkeys(row.disk for row in figures.rows):
        print(_cells(disk, *_numbers([a for row in figures.rows if row.disk == disk for a in row.on_disk()])))
    print()


def _numbers(accounts: Sequence[Account]) -> list[int]:
    later: Counter[str] = sum((account.repeated_later for account in accounts), Counter())
    ages = [age for account in accounts for ages in account.by_life.values() for age in ages]
    totals = [sum(getattr(account, head) for account in accounts) for head in HEADS]
    in_life = sum(account.repeated_in_life for account in accounts)
    oldest = round(1000 * max(ages, default=0.0))
    return [*totals, in_life, later["kill"], later["power"], later["term"], oldest]


def _cells(first: str, *others: object) -> str:
    widths = (10, 10, 12, 7, 9, 16, 8, 8, 8, 11)
    return f"  {first:<17}" + "".join(
        f"{other:>{width}}" for width, other in zip(widths, others, strict=True)
    )
