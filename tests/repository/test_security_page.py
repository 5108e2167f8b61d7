"""``docs/security.md`` has a row for every attack of ``make abuse``, and its generator writes no more."""

from __future__ import annotations

from tests.abuse.run import attacks
from tests.abuse.table import NOT_RUN, PAGE, rewritten, rows_of


def test_the_page_has_one_row_for_each_attack() -> None:
    assert rows_of(PAGE.read_text()) == [attack.name for attack in attacks()]


def test_no_two_attacks_have_the_same_name() -> None:
    names = [attack.name for attack in attacks()]
    assert len(names) == len(set(names))


def test_the_generator_writes_the_table_and_nothing_else() -> None:
    page = PAGE.read_text()
    written = rewritten(page, [])
    assert NOT_RUN in written
    assert rows_of(written) == rows_of(page)
    assert written.partition("<!-- attacks: begin")[0] == page.partition("<!-- attacks: begin")[0]
    assert written.partition("<!-- attacks: end -->")[2] == page.partition("<!-- attacks: end -->")[2]


def test_a_broken_bound_is_shown_as_broken() -> None:
    figure = {"what": "CPU in one step", "value": 90.0, "bound": 50.0, "unit": "ms", "holds": False}
    name = attacks()[0].name
    page = rewritten(PAGE.read_text(), [{"attack": name, "problem": "", "figures": [figure]}])
    assert "**broken** CPU in one step 90 ms (50 ms)" in page


def test_a_figure_that_is_not_judged_is_shown_with_its_control_run_where_it_is_listed() -> None:
    figure = {"what": "answered in", "value": 3.3, "bound": None, "unit": "ms", "holds": True}
    figures = [{**figure, "detail": "3 ms without", "listed": True}, {**figure, "what": "other"}]
    result = {"attack": attacks()[0].name, "problem": "", "figures": figures}
    page = rewritten(PAGE.read_text(), [result])
    assert "| answered in 3.3 ms (3 ms without, not judged) |" in page
