"""How a configuration is read: what is refused, with which sentence, and what is filled in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from forwarder.config import Bytes, Config, ConfigError, Duration, Problem, load, parse


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    max_events: Annotated[int, msgspec.Meta(ge=1, le=10)] = 10
    max_wait: Duration = Duration(0.1)


class Role(msgspec.Struct, frozen=True, kw_only=True):
    arn: str
    external_id: str | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="bus"):
    region: str
    batch: Batch = msgspec.field(default_factory=lambda: Batch(max_wait=Duration(7.0)))
    role: Role | None = None
    queue: Literal["memory"] = "memory"
    names: list[str] = []
    verify: bool = True
    workers: int = 8
    size: Bytes = Bytes(1024)

    def problems(self) -> Iterator[Problem]:
        if self.region == "mars":
            yield Problem("region", "there is no AWS on mars")


KINDS = {"bus": Options}
MINIMAL = "targets:\n  orders:\n    kind: bus\n    region: eu-west-1\n"


def read(text: str, **environ: str) -> Config:
    return parse(text, KINDS, environ)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return [str(problem) for problem in caught.value.problems]


def target(options: str) -> str:
    return f"targets:\n  orders: {{kind: bus, region: eu-west-1, {options}}}\n"


def test_four_lines_are_a_configuration_and_the_rest_are_the_designs_defaults() -> None:
    config = read(MINIMAL)
    assert config.targets == {"orders": Options(region="eu-west-1")}
    assert config.ingest.listen == ("127.0.0.1:2780",)
    assert config.admin.listen == ("127.0.0.1:2781",)
    assert config.ingest.max_body == 8 * 1024 * 1024
    assert config.ingest.max_header_bytes == 16 * 1024
    assert config.ingest.memory_budget == 256 * 1024 * 1024
    assert (config.ingest.read_timeout, config.ingest.keep_alive) == (30.0, 75.0)
    assert config.ingest.max_connections == 1024
    assert config.storage.dead_letters.max_bytes == 256 * 1024 * 1024
    assert config.storage.dead_letters.max_age == 14 * 24 * 3600.0
    assert (config.shutdown.input_grace, config.shutdown.drain_timeout) == (2.0, 20.0)
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_durations_and_sizes_become_numbers_of_their_types() -> None:
    options = read(target("batch: {max_wait: 250ms}, size: 2KiB")).targets["orders"]
    assert isinstance(options.batch.max_wait, Duration)
    assert options.batch.max_wait == 0.25
    assert isinstance(options.size, Bytes)
    assert options.size == 2048


def test_keys_that_are_not_given_keep_the_kinds_own_defaults() -> None:
    options = read(target("batch: {max_events: 3}")).targets["orders"]
    assert (options.batch.max_events, options.batch.max_wait) == (3, 7.0)


def test_an_empty_section_is_its_defaults() -> None:
    assert read(MINIMAL + "admin:\n").admin.listen == ("127.0.0.1:2781",)
    assert read(target("batch: ")).targets["orders"].batch.max_wait == 7.0


def test_every_problem_is_said_at_once_and_names_its_path() -> None:
    said = problems(
        """
        targets:
          orders: {kind: bus, regoin: eu-west-1, workers: many, batch: {max_events: 11, max_wait: 5}}
          web: {kind: rumm}
          Web: {kind: bus, region: x}
        ingest: {listen: 2780, max_connections: 0}
        log: {level: loud}
        sandbox: {}
        """
    )
    assert said == [
        'targets.orders.regoin: unknown key. Did you mean "region"?',
        'targets.orders.workers: must be a whole number, got "many"',
        "targets.orders.batch.max_events: must be at least 1 and at most 10, got 11",
        "targets.orders.batch.max_wait: must be a duration with a unit, such as 100ms, 2s, 5m, 1h or 14d, "
        "got 5. Did you mean 5s?",
        "targets.orders.region: is required",
        'targets.web.kind: must be "bus", got "rumm"',
        'targets.Web: the name must be 1 to 64 of a-z, 0-9, _ and -, got "Web"',
        "ingest.listen: must be host:port, [IPv6]:port, :port for all addresses of both families, or "
        'unix:/path, got 2780. Did you mean ":2780" (all addresses) or "127.0.0.1:2780" (this machine only)?',
        "ingest.max_connections: must be at least 1, got 0",
        'log.level: must be "debug", "info", "warning" or "error", got "loud"',
        "sandbox: unknown key; known: targets, ingest, admin, storage, shutdown, log",
    ]


@pytest.mark.parametrize(
    "text", ["", "targets:\n", "targets: {}", "targets: []", "ingest: {}", "- a", "just text"]
)
def test_a_file_without_targets_is_refused(text: str) -> None:
    assert len(problems(text)) == 1


def test_what_an_options_type_checks_itself_is_told_with_its_path() -> None:
    assert problems("targets: {a: {kind: bus, region: mars}}") == [
        "targets.a.region: there is no AWS on mars"
    ]


def test_a_nested_optional_section_may_be_null_or_given_but_not_half() -> None:
    assert read(target("role: null")).targets["orders"].role is None
    assert read(target("role: {arn: 'a'}")).targets["orders"].role == Role(arn="a")
    assert problems(target("role: {external_id: x}")) == ["targets.orders.role.arn: is required"]


def test_a_number_where_text_is_expected_is_told_to_be_quoted() -> None:
    assert problems(target("role: {arn: a, external_id: 123456789012}")) == [
        "targets.orders.role.external_id: must be text, got 123456789012; put it in quotes"
    ]
    assert problems(target("names: [a, 1]")) == [
        "targets.orders.names[1]: must be text, got 1; put it in quotes"
    ]


def test_a_key_given_twice_is_refused_beside_all_else_with_both_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        read(MINIMAL + "log: {level: info}\nlog: {level: loud}\n")
    assert list(caught.value.lines("f")) == [
        "f:6: log: is set twice; it is already set on line 5",
        'f:6: log.level: must be "debug", "info", "warning" or "error", got "loud"',
    ]


def test_text_that_is_not_yaml_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        read("targets: {a: [\n")
    (line,) = caught.value.lines("f")
    assert line.startswith("f:2: column 1: is not valid YAML: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: \x00",
        "a: !!python/object:os.system {}",
        "? {a: 1}\n: 2",
        "a: *nothing",
        "[" * 9999,
        "a: 2024-99-99",
    ],
)
def test_strange_yaml_is_a_problem_and_not_a_crash(text: str) -> None:
    assert problems(text)


def test_the_environment_fills_string_leaves_after_parsing() -> None:
    text = target(
        "names: ['${A}', 'x-${B:-b}', '${EMPTY:-e}', '$${A}', '$A'], workers: '${N}', verify: '${V}'"
    )
    options = read(text, A="1}, kind: {evil: 1", EMPTY="", N="3", V="false").targets["orders"]
    assert options.names == ["1}, kind: {evil: 1", "x-b", "e", "${A}", "$A"]
    assert (options.workers, options.verify) == (3, False)


def test_text_from_the_environment_is_checked_like_any_other() -> None:
    assert problems(target("workers: '${N}'"), N="many") == [
        'targets.orders.workers: must be a whole number, got "many"'
    ]
    assert problems(target("size: '${N}'"), N="big")[0].startswith("targets.orders.size: must be a size")


def test_a_name_the_environment_lacks_is_told_once() -> None:
    assert problems(target("size: '${SIZE}'")) == [
        "targets.orders.size: environment variable SIZE is not set; set it, or write ${SIZE:-default}"
    ]


def test_text_in_quotes_is_not_read_as_a_number() -> None:
    assert problems(target("workers: '3'")) == [
        'targets.orders.workers: must be a whole number, got "3". Did you mean 3, without quotes?'
    ]


def test_a_file_that_cannot_be_read_is_a_problem_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the configuration cannot be read: No such file"):
        load(tmp_path / "no-such-file", KINDS)
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load(tmp_path / "latin", KINDS)


@pytest.mark.parametrize(
    ("path", "environ", "directory"),
    [
        ("/data", {"STATE_DIRECTORY": "/var/lib/forwarder"}, "/data"),
        (
            None,
            {"STATE_DIRECTORY": "/var/lib/forwarder:/other", "XDG_STATE_HOME": "/x"},
            "/var/lib/forwarder",
        ),
        (None, {"XDG_STATE_HOME": "/x"}, "/x/forwarder"),
    ],
)
def test_the_storage_is_where_the_first_of_path_systemd_and_xdg_says(
    path: str | None, environ: dict[str, str], directory: str
) -> None:
    config = read(MINIMAL + (f"storage: {{path: {path}}}" if path else ""))
    assert config.storage.parent(environ) == Path(directory)
    assert config.storage.directory(environ) == Path(directory) / "data"
