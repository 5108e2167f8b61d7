"""A mutation, and what judges it: copies of the tree, each with a server that runs tests in it.

A mutation is a change of text in a copy, never in the checkout. It is killed when the tests chosen for it
turn red or do not end; when they stay green it survives.

Invariants:
- A mutation meets only tests that were green in the copies before.
- What is compiled never hides a mutation: it is checked by the hash of its source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from compileall import compile_dir
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

from tests.support.forked import Runs

ROOT = Path(__file__).parents[1]
COPIED = ("forwarder", "tests", "config", "docs", "pyproject.toml")
DEADLINE = "8"
"""Seconds that a test waits for what a mutation may have made impossible."""

AT_ONCE = 2
GREEN, RED = 0, 1
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")
"""Plain, as only red and green count: the tests are compiled once, not by each run."""

GREEN_SECONDS = 180.0
"""After which the tests without a mutation are said not to end."""


@dataclass(frozen=True)
class Mutation:
    """``changes``: (before, after) pairs in ``file``. ``words``: pytest's ``-k`` for ``tests``."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: str
    words: str = ""

    def applied_to(self, text: str) -> str:
        for before, after in self.changes:
            if text.count(before) != 1:
                raise LookupError(f"its text is there {text.count(before)} times, not once")
            text = text.replace(before, after)
        return text


@dataclass(frozen=True)
class Verdict:
    killed: bool
    what: str
    seconds: float = 0.0


class Tree:
    """A copy of what the tests need, to be broken and mended. One run at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._output = folder, folder.with_suffix(".out")
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "TEST_DEADLINE": DEADLINE}
        self._assert_that_it_is_imported()
        self._runs = Runs(folder, self._environment)

    def close(self) -> None:
        self._runs.close()

    def test(self, tests: str, words: str, seconds: float) -> tuple[int | None, str]:
        """Run these tests until the first fails: pytest's exit code, or None after these seconds."""
        chosen = [tests, *(("-k", words) if words else ())]
        results = f"--basetemp={self._folder.with_suffix('.t')}"
        code = self._runs.run([*PYTEST, results, *chosen], self._output, seconds)
        return code, self._output.read_text(errors="replace")

    def judge(self, mutation: Mutation, seconds: float) -> Verdict:
        """Break, test, mend."""
        began, path = time.monotonic(), self._folder / mutation.file
        whole = path.read_text()
        try:
            path.write_text(mutation.applied_to(whole))
            code, output = self.test(mutation.tests, mutation.words, seconds)
        except LookupError as wrong:
            return Verdict(False, f"ERROR: {wrong}")
        finally:
            path.write_text(whole)
        killed, what = _meaning(code, output)
        return Verdict(killed, what, time.monotonic() - began)

    def _assert_that_it_is_imported(self) -> None:
        """The checkout is installed; the tests must see the copy."""
        command = [sys.executable, "-c", "import forwarder; print(forwarder.__file__)"]
        seen = subprocess.run(
            command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert seen.startswith(str(self._folder)), f"the tests would see {seen}"


def _meaning(code: int | None, output: str) -> tuple[bool, str]:
    if code is None:
        return True, "killed: the tests did not end"
    if code == RED:
        return True, f"killed: {_first_failure(output)}"
    return False, "SURVIVED" if code == GREEN else f"ERROR: pytest ended with {code}\n{output[-2000:]}"


def _first_failure(output: str) -> str:
    for line in output.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" - ")[0].rpartition("::")[2]
    return "?"


@contextmanager
def copies() -> Iterator[SimpleQueue[Tree]]:
    """Trees for as many tests as run at once. The first is copied and compiled, the others are its copies."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as made, ExitStack() as stack:
        trees: SimpleQueue[Tree] = SimpleQueue()
        folders = [Path(made).resolve() / str(number) for number in range(AT_ONCE)]
        _copy(folders[0])
        for folder in folders[1:]:
            shutil.copytree(folders[0], folder)
        for folder in folders:
            tree = Tree(folder)
            stack.callback(tree.close)
            trees.put(tree)
        yield trees


def _copy(folder: Path) -> None:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(source, folder / name)
    compile_dir(folder, quiet=1, workers=AT_ONCE, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def run(chosen: Sequence[Mutation]) -> int:
    """Judge all of them and print each verdict; an exit code."""
    began = time.monotonic()
    with copies() as trees, ThreadPoolExecutor(AT_ONCE) as pool:
        green = _seconds_without(chosen, trees, pool)
        if green is None:
            return 1
        timeouts = {tests: _timeout(seconds) for tests, seconds in green.items()}

        def judge(mutation: Mutation) -> Verdict:
            with _borrowed(trees) as tree:
                return tree.judge(mutation, timeouts[mutation.tests])

        print(f"  green without a mutation after {time.monotonic() - began:.0f} s", flush=True)
        survivors = 0
        for each, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
            survivors += not verdict.killed
            print(f"  {each.name:<60} {verdict.seconds:5.1f} s  {verdict.what}", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(chosen)} mutations, {len(chosen) - survivors} killed, {survivors} not; {seconds:.0f} s")
    return 1 if survivors or not chosen else 0


def _timeout(green_seconds: float) -> float:
    """Seconds after which tests do not end, when without a mutation they took so long."""
    return 15.0 + 4 * green_seconds


def _seconds_without(
    chosen: Sequence[Mutation], trees: SimpleQueue[Tree], pool: ThreadPoolExecutor
) -> dict[str, float] | None:
    """How long each file's chosen tests take when nothing is broken; None when they are not green."""

    def measured(choice: tuple[str, str]) -> tuple[str, float, int | None, str]:
        with _borrowed(trees) as tree:
            began = time.monotonic()
            code, output = tree.test(*choice, GREEN_SECONDS)
            return choice[0], time.monotonic() - began, code, output

    seconds: dict[str, float] = {}
    for tests, took, code, output in pool.map(measured, _by_tests(chosen)):
        seconds[tests] = took
        if code != GREEN:
            print(f"{tests}: not green without a mutation ({code}):\n{output}", file=sys.stderr)
            return None
    return seconds


def _by_tests(chosen: Sequence[Mutation]) -> list[tuple[str, str]]:
    """Each file of tests once, with all tests in it that are chosen for any mutation."""
    words: dict[str, dict[str, None]] = {}
    for each in chosen:
        words.setdefault(each.tests, {})[each.words] = None
    return [
        (tests, "" if "" in some else " or ".join(f"({one})" for one in some))
        for tests, some in words.items()
    ]


@contextmanager
def _borrowed(trees: SimpleQueue[Tree]) -> Iterator[Tree]:
    tree = trees.get()
    try:
        yield tree
    finally:
        trees.put(tree)
