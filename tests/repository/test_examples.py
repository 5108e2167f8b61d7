"""Every file in ``config/`` is one that the daemon takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from forwarder.config import Config, load
from forwarder.config.kinds import kinds_of
from forwarder.config.reading import struct_in
from forwarder.targets import TARGETS, option_types
from forwarder.targets.options import TargetOptions

CONFIGS = Path(__file__).parents[2] / "config"
FULL = yaml.safe_load((CONFIGS / "full.yaml").read_text())


def read(name: str) -> Config:
    return load(CONFIGS / name, option_types(), {})


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_every_example_is_read_checked_and_built(name: str) -> None:
    config = read(name)
    for target, options in config.targets.items():
        assert TARGETS[options.kind].build(target, options).kind == options.kind


def test_the_minimal_example_has_four_lines() -> None:
    assert len((CONFIGS / "minimal.yaml").read_text().splitlines()) == 4


def paths(type_: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(type_):
        struct = struct_in(field.type)
        if struct is None or kinds_of(field.type) is not None:
            yield prefix + field.encode_name
        else:
            yield from paths(struct, f"{prefix}{field.encode_name}.")


def is_set(raw: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(raw, dict) or key not in raw:
            return False
        raw = raw[key]
    return True


def test_the_full_example_sets_every_field() -> None:
    missing = [path for path in paths(Config) if not is_set(FULL, path)]
    by_kind = {target["kind"]: target for target in FULL["targets"].values()}
    assert set(by_kind) == set(TARGETS)
    for kind, options in option_types().items():
        own = set(paths(options)) - (set() if kind == "eventbridge" else set(paths(TargetOptions)))
        missing += [f"{kind}: {path}" for path in sorted(own) if not is_set(by_kind[kind], path)]
    assert missing == []


def test_the_full_example_says_which_values_are_not_the_default() -> None:
    """A section of it that is said to be the default is the default."""
    config = read("full.yaml")
    ingest = replace(config.ingest, auth=replace(config.ingest.auth, tokens=None, access_keys=None), tls=None)
    assert (ingest, config.admin, config.shutdown, config.log) == (
        Config(targets={}).ingest,
        Config(targets={}).admin,
        Config(targets={}).shutdown,
        Config(targets={}).log,
    )
    for options in config.targets.values():
        default = type(options)(endpoint_url="https://example.com")
        for field in (
            "batch",
            "retry",
            "hold",
            "timeouts",
            "queue_limits",
            "workers",
            "min_workers",
            "queue",
        ):
            assert getattr(options, field) == getattr(default, field), (options.kind, field)
