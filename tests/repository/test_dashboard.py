"""The dashboard asks only for what the daemon tells, and is one that Grafana can show."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import yaml

from forwarder.metrics import FAMILIES
from forwarder.metrics.families import PREFIX
from tests.repository.test_rules import RECORDED, ROOT
from tests.support.dashboard import DASHBOARD, Panel, dashboard, filled_in, panels
from tests.support.promql import wrong_names

PANELS = list(panels())
QUERIES = [(panel.title, query.expression) for panel in PANELS for query in panel.queries]


def test_every_panel_has_an_id_of_its_own_and_every_picture_a_query() -> None:
    assert set(Counter(panel.id for panel in PANELS).values()) == {1}
    assert all(panel.queries for panel in PANELS if panel.type != "row")
    assert all(panel.queries == [] for panel in PANELS if panel.type == "row")


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=lambda text: text[:40])
def test_a_query_names_only_what_exists(title: str, expression: str) -> None:
    assert wrong_names(expression, RECORDED) == [], title


def test_the_annotations_name_only_what_exists() -> None:
    for annotation in dashboard()["annotations"]["list"]:
        assert wrong_names(annotation["expr"], RECORDED) == []


def test_every_core_metric_is_on_the_dashboard() -> None:
    asked = " ".join(expression for _, expression in QUERIES)
    missing = [family.name for family in FAMILIES if family.core and PREFIX + family.name not in asked]
    assert missing == []


def test_no_panel_covers_another() -> None:
    def cells(panel: Panel) -> set[tuple[int, int]]:
        x, y, width, height = panel.place
        assert x + width <= 24
        return {(x + i, y + j) for i in range(width) for j in range(height)}

    for one, other in combinations(PANELS, 2):
        assert not cells(one) & cells(other), (one.title, other.title)


def test_every_variable_that_is_used_is_one_of_the_dashboard() -> None:
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    for _, expression in QUERIES:
        left = expression.replace("$__rate_interval", "").replace("$__range", "")
        used = {word.split('"')[0] for word in left.split("$")[1:]}
        assert used <= variables
        assert "$" not in filled_in(expression)


def test_the_provisioning_finds_the_dashboard_and_its_data_source() -> None:
    folder = ROOT / "deploy" / "grafana"
    provider = yaml.safe_load((folder / "provisioning" / "dashboards" / "forwarder.yml").read_text())
    assert provider["providers"][0]["options"]["path"].endswith(f"/{DASHBOARD.parent.name}")
    source = yaml.safe_load((folder / "provisioning" / "datasources" / "prometheus.yml").read_text())
    (variable,) = (each for each in dashboard()["templating"]["list"] if each["type"] == "datasource")
    assert source["datasources"][0]["type"] == variable["query"]
