"""What a target's options become when its way into the daemon is built."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.config import default_of_kind, parse
from forwarder.daemon.lanes import only_bound
from forwarder.model import Refusal
from forwarder.targets import option_types


def targets_of(text: str) -> dict[str, Any]:
    return dict(parse(f"targets: {{orders: {text}}}", option_types(), {}).targets)


@pytest.mark.parametrize(
    ("text", "default", "refuses"),
    [
        ("{kind: eventbridge, region: eu-west-1}", True, False),
        ("{kind: eventbridge, region: eu-west-1, buses: [a]}", False, False),
        ("{kind: eventbridge, region: eu-west-1, buses: [a], only_bound: true}", False, True),
        ("{kind: evidently, endpoint_url: 'http://x', projects: [a], only_bound: true}", False, True),
    ],
)
def test_a_target_that_takes_only_bound_names_is_no_default(text: str, default: bool, refuses: bool) -> None:
    targets = targets_of(text)
    assert default_of_kind(targets, "orders") == default
    only = only_bound("orders", targets["orders"])
    assert (only is not None) == refuses
    if only is not None:
        assert targets["orders"].bound == ("a",)
        assert only.refusal("a") is None
        assert isinstance(only.refusal("b"), Refusal)
