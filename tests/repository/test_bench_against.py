"""How two commits are compared: rounds in turns, as many as it takes, each with its own code."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import revisions
from benchmarks.against import compare, decide, in_turn, rounds
from benchmarks.claims import Claim
from benchmarks.machine import CHECKOUT, Code
from benchmarks.measuring import Figures, Once, Plan
from benchmarks.ratios import FEWEST_ROUNDS, MOST_ROUNDS, Verdict
from benchmarks.revisions import Sides, both, imported
from benchmarks.rows import ROWS

SIDES = Sides(Code(Path("this"), ""), Code(Path("that"), ""), ("this", "that"))


@dataclass
class Counted:
    """A variant that notes who was opened and measured; ``cost`` says what a round costs."""

    cost: Callable[[str, int], float]
    judged: tuple[str, ...] = ("value",)
    opened_for: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        self.opened_for.append(code.tree.name)

        def once() -> Figures:
            self.measured.append(code.tree.name)
            return {"value": self.cost(code.tree.name, len(self.measured))}

        yield once


def claim() -> Claim:
    return Claim("row", "variant", "value", "us", 1.05)


def plan(variant: Counted) -> Plan:
    return Plan("title", "us", "nothing", {"variant": variant}, lambda values: True)


def test_rounds_go_in_turns_and_neither_is_always_first() -> None:
    order: list[str] = []

    def noted(name: str) -> Once:
        return lambda: order.append(name) or {"value": 1.0}  # type: ignore[func-returns-value]

    for number in range(4):
        in_turn(number, noted("a"), noted("b"))
    assert "".join(order) == "abbaabba"


def test_a_quiet_comparison_ends_after_ten_rounds() -> None:
    variant = Counted(lambda name, number: 2.0)
    made = claim()
    decide([made], rounds(variant, SIDES, 5))
    assert (made.verdict, len(made.this)) == (Verdict.AT_MOST, FEWEST_ROUNDS)


def test_both_are_started_again_after_some_rounds_unless_they_are_kept() -> None:
    often, kept = Counted(lambda name, number: 2.0), Counted(lambda name, number: 2.0)
    decide([claim()], rounds(often, SIDES, 5))
    decide([claim()], rounds(kept, SIDES, MOST_ROUNDS))
    assert often.opened_for == ["this", "that"] * 2
    assert kept.opened_for == ["this", "that"]


def test_a_noisy_comparison_ends_after_40_rounds_not_decided() -> None:
    made = claim()
    decide([made], rounds(Counted(lambda name, number: 1.0 + number * 7 % 5), SIDES, 5))
    assert (made.verdict, len(made.this)) == (Verdict.NOT_DECIDED, MOST_ROUNDS)


def test_what_cannot_be_measured_is_no_pass() -> None:
    def broken(name: str, number: int) -> float:
        raise SystemExit("the server ended with exit code 78 before it listened")

    made = claim()
    decide([made], rounds(Counted(broken), SIDES, 5))
    assert made.verdict is Verdict.FAILED
    assert "exit code 78" in made.why


@pytest.mark.parametrize(("cost", "code"), [(1.0, 0), (1.2, 1)])
def test_a_comparison_of_rows_prints_and_writes_every_claim(
    cost: float,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.against.both", lambda revision: contextlib.nullcontext(SIDES))
    variant = Counted(lambda name, number: cost if name == "this" else 1.0)
    assert compare("REV", {"one": plan(variant), "again": plan(variant)}, 1.05, tmp_path) == code
    assert len(variant.measured) == 2 * FEWEST_ROUNDS, "the same variant is measured once"
    assert f"{cost:.3f} to {cost:.3f}" in capsys.readouterr().out
    assert f'"median": {cost}' in (tmp_path / "against.json").read_text()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_a_variant_that_two_commits_are_compared_by(name: str) -> None:
    assert any(variant.judged for variant in ROWS[name](0.1).variants.values())


def test_handlers_that_are_not_the_forwarder_are_not_compared() -> None:
    compared = [name for name, variant in ROWS["arrays"](0.1).variants.items() if variant.judged]
    assert compared == ["forwarder", "forwarder, the SDK's put_events"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository in place of the checkout: two commits, and a change that is not committed."""
    root = tmp_path / "checkout"
    shutil.copytree(CHECKOUT.tree / "benchmarks", root / "benchmarks")
    (root / "forwarder").mkdir()
    (root / "requirements.lock").write_text("")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for text in ("first", "second"):
        (root / "forwarder" / "__init__.py").write_text(f"{text} = 1\n")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", text]):
            subprocess.run([*git, *command], cwd=root, check=True)
    (root / "forwarder" / "__init__.py").write_text("edited = 1\n")
    monkeypatch.setattr(revisions, "CHECKOUT", Code(root, sys.executable))
    return root


def test_each_side_runs_its_own_package_and_nothing_is_left(checkout: Path) -> None:
    with both("HEAD~1") as sides:
        assert "edited" in (imported(sides.this) / "__init__.py").read_text()
        assert "first" in (imported(sides.that) / "__init__.py").read_text()
        assert "not committed" in sides.names[0]
        folder = sides.this.tree.parent
    assert not folder.exists()


def test_an_interrupted_comparison_leaves_nothing(checkout: Path) -> None:
    with pytest.raises(KeyboardInterrupt), both("HEAD") as sides:
        raise KeyboardInterrupt
    assert not sides.this.tree.parent.exists()


def test_code_that_would_not_be_measured_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Path("/elsewhere/forwarder")
    monkeypatch.setattr(revisions, "imported", lambda code: elsewhere)
    with pytest.raises(SystemExit, match="/elsewhere/forwarder would be measured"), both("HEAD"):
        pass


def test_a_revision_that_there_is_not_ends_with_a_sentence(checkout: Path) -> None:
    with pytest.raises(SystemExit, match="no such commit: nowhere"), both("nowhere"):
        pass
