"""Where CI is set, a skip is a failure unless its test is listed; the list is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.skips import allowed_skips

ROOT = Path(__file__).parents[2]
CONFTEST = "from tests.support.skips import pytest_runtest_makereport, pytest_terminal_summary"
TESTS = """
import pytest

def test_by_a_call():
    pytest.skip("not here")

@pytest.mark.skip(reason="not today")
def test_by_a_mark():
    pass

@pytest.fixture
def missing():
    pytest.skip("nothing there")

@pytest.mark.parametrize("n", [1, 2])
def test_by_a_fixture(n, missing):
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_expected_to_fail():
    assert False

def test_that_runs():
    pass
"""
NAMES = ["test_by_a_call", "test_by_a_mark", "test_by_a_fixture"]


@pytest.fixture
def some_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_some=TESTS)
    pytester.mkdir("tests")
    listed(pytester, "")
    return pytester


def listed(pytester: pytest.Pytester, text: str) -> None:
    (pytester.path / "tests" / "allowed_skips.txt").write_text(text)


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    return pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:xdist")
    )


def test_in_ci_a_skip_is_a_failure_that_names_the_test(some_tests: pytest.Pytester) -> None:
    result = run(some_tests)
    result.assert_outcomes(failed=1, errors=3, passed=1, xfailed=1)
    for name in NAMES:
        result.stdout.fnmatch_lines([f"*A skip in CI is a failure: test_some.py::{name} is not in *"])
    result.stdout.fnmatch_lines(["*not here*"])


def test_in_ci_a_listed_test_may_be_skipped_with_any_parameters(some_tests: pytest.Pytester) -> None:
    listed(some_tests, "".join(f"test_some.py::{name} as they like\n" for name in NAMES))
    run(some_tests).assert_outcomes(skipped=4, passed=1, xfailed=1)


def test_in_ci_a_listed_test_that_ran_is_told(some_tests: pytest.Pytester) -> None:
    listed(some_tests, "# a comment\n\ntest_some.py::test_that_runs no more\n")
    result = run(some_tests)
    result.stdout.fnmatch_lines(["*allowed_skips.txt: test_some.py::test_that_runs was not skipped here"])


def test_elsewhere_a_skip_is_a_skip(some_tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    run(some_tests).assert_outcomes(skipped=4, passed=1, xfailed=1)


@pytest.mark.parametrize("text", ["a.py::test_a\n", "a.py::test_a one\na.py::test_a another\n"])
def test_a_line_without_a_reason_and_a_test_listed_twice_are_errors(text: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "allowed_skips.txt").write_text(text)
    with pytest.raises(pytest.UsageError, match=r"once, with a reason.*a\.py::test_a"):
        allowed_skips(tmp_path)


def test_every_listed_test_is_there_in_a_file_that_skips() -> None:
    listed_tests = allowed_skips(ROOT)
    assert listed_tests
    for name in listed_tests:
        path, _, test = name.partition("::")
        source = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), name
        assert re.search(r"\bskip(if)?\(", source), name
