"""What is found in a configuration before a daemon starts with it, in one round and with lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.config import ConfigError
from forwarder.validation import Validated, validate

MISTAKES = """\
ingest:
  listen: 2780
  max_body: 8MB
  memory_budjet: 1GiB
storage:
  path: ~no-such-user/x
  linger: 5s
log:
  level: warn
targets:
  orders:
    kind: eventbrige
    region: eu_west_1a
    queue: Disk
    workers: 0
    hold: {probe: 0s}
  web:
    kind: rum
    region: eu-west-1
    app_monitors: [not-a-uuid]
    role: {arn: "arn:aws:iam::123:role/x"}
    default: "yes"
    batch: {max_events: 0}
    retry: {base: 1m, cap: 10s}
    timeouts: {read: 3}
"""
SAID = {
    "ingest.listen": (2, 'Did you mean ":2780" (all addresses) or "127.0.0.1:2780" (this machine only)?'),
    "ingest.max_body": (3, 'got "8MB". Did you mean 8MiB?'),
    "ingest.memory_budjet": (4, 'unknown key. Did you mean "memory_budget"?'),
    "storage.path": (6, 'got "~no-such-user/x", and there is no user "no-such-user" on this host'),
    "storage.linger": (7, "must be at most 1s, got 5s"),
    "log.level": (9, 'got "warn". Did you mean "warning"?'),
    "targets.orders.kind": (12, 'got "eventbrige". Did you mean "eventbridge"?'),
    "targets.orders.region": (13, 'got "eu_west_1a". Did you mean "eu-west-1"?'),
    "targets.orders.queue": (14, 'must be "memory" or "disk", got "Disk". Did you mean "disk"?'),
    "targets.orders.workers": (15, "must be at least 1, got 0"),
    "targets.orders.hold.probe": (16, "must be greater than 0, got 0s"),
    "targets.web.app_monitors[0]": (20, 'got "not-a-uuid"'),
    "targets.web.role.arn": (21, 'got "arn:aws:iam::123:role/x"'),
    "targets.web.default": (22, 'must be true or false, got "yes"'),
    "targets.web.batch.max_events": (23, "must be at least 1, got 0"),
    "targets.web.retry.base": (24, "must be at most cap, which is 10s, got 1m"),
    "targets.web.timeouts.read": (25, "got 3. Did you mean 3s?"),
}


@pytest.fixture(autouse=True)
def no_settings_of_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))


def write(directory: Path, text: str) -> Path:
    path = directory / "forwarder.yaml"
    path.write_text(text)
    return path


def refused(directory: Path, text: str) -> list[str]:
    """Every problem, without the name of the file."""
    path = write(directory, text)
    with pytest.raises(ConfigError) as caught:
        validate(path)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines(path)]


def accepted(directory: Path, text: str) -> Validated:
    return validate(write(directory, f"ingest: {{memory_budget: 2GiB}}\n{text}"))


def test_seventeen_mistakes_are_said_in_one_run_each_with_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, MISTAKES)
    found = {path: (int(line), words) for line, path, words in (each.split(": ", 2) for each in said)}
    assert list(found) == list(SAID)
    for path, (line, words) in SAID.items():
        assert (found[path][0], words in found[path][1]) == (line, True), found[path]


def test_check_json_says_the_same_with_paths_and_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, MISTAKES)
    assert main(["check", "--json", "-c", str(path)]) == 78
    report = json.loads(capsys.readouterr().out)
    assert (report["good"], report["file"], report["warnings"]) == (False, str(path), [])
    assert {each["path"]: each["line"] for each in report["problems"]} == {
        path: line for path, (line, _) in SAID.items()
    }


def test_check_json_has_the_warnings_of_a_good_file_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = "{kind: eventbridge, region: eu-west-1}"
    path = write(tmp_path, f"targets:\n  a: {target}\n  b: {target}\n")
    assert main(["check", "--json", "-c", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["good"], report["targets"], report["problems"]) == (True, 2, [])
    (warning,) = report["warnings"]
    assert (warning["path"], warning["line"]) == ("targets.a", 2)


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", ["targets.a"]),
        (", default: false", []),
        (", buses: [b]", []),
    ],
)
def test_targets_of_one_kind_that_no_sdk_call_reaches_are_one_warning(
    tmp_path: Path, more: str, warned: list[str]
) -> None:
    names = "ab" if "buses" in more else "abcdefgh"
    targets = "".join(
        f"  {name}: {{kind: eventbridge, region: eu-west-1{more.replace('[b]', f'[{name}]')}}}\n"
        for name in names
    )
    warnings = accepted(tmp_path, f"targets:\n{targets}").warnings
    assert [each.path for each in warnings] == warned
    for each in warnings:
        assert "SDK calls for this target are refused" in each.message
        assert "(the same for b, c, d and 4 more)" in each.message


FILES = """\
ingest:
  auth: {tokens: tokens, access_keys: keys}
  tls: {certificate: cert, key: key, client_ca: ca}
"""
TARGET = "targets: {orders: {kind: eventbridge, region: eu-west-1}}\n"


def test_every_file_of_auth_and_tls_that_is_missing_is_a_problem_with_its_full_path(tmp_path: Path) -> None:
    why = "cannot be read: No such file or directory"
    assert refused(tmp_path, FILES + TARGET) == [
        f"2: ingest.auth.tokens: {tmp_path}/tokens {why}",
        f"2: ingest.auth.access_keys: {tmp_path}/keys {why}",
        f"3: ingest.tls.certificate: {tmp_path}/cert {why}",
        f"3: ingest.tls.key: {tmp_path}/key {why}",
        f"3: ingest.tls.client_ca: {tmp_path}/ca {why}",
    ]


def test_a_file_of_tokens_with_a_bad_line_is_a_problem_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("no token\n")
    (tmp_path / "tokens").chmod(0o600)
    (said,) = refused(tmp_path, "ingest: {auth: {tokens: tokens}}\n" + TARGET)
    assert said.startswith(f"1: ingest.auth.tokens: {tmp_path}/tokens: ")


def test_files_of_another_host_are_not_looked_for_when_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, FILES + TARGET)
    assert main(["check", "--no-files", "-c", str(path)]) == 0
    assert "1 target (orders)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("forwarder.yaml", "must be a directory, but {}/forwarder.yaml is a file"),
        ("forwarder.yaml/below", "must be a directory, but {}/forwarder.yaml is a file"),
        ("./link", "must be a directory, but {}/link is a symbolic link to nothing"),
    ],
)
def test_a_storage_path_that_can_be_no_directory_exits_78_for_check_and_run(
    tmp_path: Path, storage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    path = write(tmp_path, f"storage: {{path: {storage}}}\n{TARGET}")
    assert main(["check", "-c", str(path)]) == 78
    assert f"{path}:1: storage.path: {said.format(tmp_path)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("unix:forwarder.yaml", "must be free for a socket, but {}/forwarder.yaml is a file"),
        ("unix:.", "must be free for a socket, but {} is a directory"),
        ("unix:forwarder.yaml/a.sock", "must be in a directory, but {}/forwarder.yaml is not one"),
    ],
)
def test_a_socket_where_something_else_is_is_a_problem_of_its_setting(
    tmp_path: Path, listen: str, said: str
) -> None:
    text = f"admin:\n  listen:\n  - 127.0.0.1:0\n  - {listen}\n{TARGET}"
    assert refused(tmp_path, text) == [f"4: admin.listen[1]: {said.format(tmp_path)}"]


BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/orders"


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:events:eu-west-1:123:event-bus/orders",
        "arn:aws:sqs:eu-west-1:123456789012:orders",
        "arn:aws:events:eu-west-1:123456789012:rule/orders",
        "arn:aws:events:eu-west-9:123:event-bus/orders",
        "two words",
    ],
)
def test_a_malformed_arn_is_said_once_by_its_index(tmp_path: Path, name: str) -> None:
    targets = f"targets: {{orders: {{kind: eventbridge, region: eu-west-1, buses: [{BUS}, '{name}']}}}}\n"
    (said,) = refused(tmp_path, targets)
    assert said.startswith("1: targets.orders.buses[1]: must be the name of an event bus ")
    assert said.endswith(f'got "{name}"')


def test_a_bus_of_another_region_is_named_by_its_index(tmp_path: Path) -> None:
    targets = f"targets: {{orders: {{kind: eventbridge, region: us-east-1, buses: [a, '{BUS}']}}}}\n"
    assert refused(tmp_path, targets) == [
        "1: targets.orders.buses[1]: must be in the region of the target, us-east-1, got "
        f'"{BUS}", which is in eu-west-1'
    ]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://events.example/?a=b", "without a query"),
        ("https://events.example/#a", "without a fragment"),
        ("https://user:secret@events.example/", "without a user"),
        ("events.example", "complete"),
        ("https://events.example:http/", "with a valid host and port"),
    ],
)
def test_an_endpoint_url_that_no_call_can_use_is_a_problem(tmp_path: Path, url: str, why: str) -> None:
    (said,) = refused(
        tmp_path, f"targets: {{orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: '{url}'}}}}"
    )
    assert said.startswith("1: targets.orders.endpoint_url: must be http:// or https:// with a host")
    assert why in said
    assert "secret" not in said
    assert "a=b" not in said


def test_a_region_that_the_sdk_does_not_know_is_one_warning_with_the_nearest(tmp_path: Path) -> None:
    targets = "".join(
        f"  {name}: {{kind: eventbridge, region: eu-wset-1, buses: [{name}]}}\n" for name in "abcdef"
    )
    (warning,) = accepted(tmp_path, f"targets:\n{targets}").warnings
    assert (warning.path, warning.line) == ("targets.a.region", 3)
    assert warning.message.startswith(
        '"eu-wset-1" is not a region that the AWS SDK knows. Did you mean "eu-west-1"?'
    )
    assert warning.message.endswith("(the same for b, c, d and 2 more)")


def test_the_region_of_an_endpoint_of_ones_own_is_not_judged(tmp_path: Path) -> None:
    target = "{kind: eventbridge, region: my-own-place-1, endpoint_url: 'http://localhost:4566'}"
    assert accepted(tmp_path, f"targets: {{a: {target}}}\n").warnings == []


def test_a_profile_that_is_nowhere_is_a_warning_with_the_files_and_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "AWS_CONFIG_FILE"
    config.write_text("[profile production]\nregion = eu-west-1\n")
    target = "{kind: eventbridge, region: eu-west-1, profile: prodution}"
    (warning,) = accepted(tmp_path, f"targets:\n  a: {target}\n").warnings
    assert (warning.path, warning.line) == ("targets.a.profile", 3)
    assert f'there is no profile "prodution" in {config} and ' in warning.message
    assert warning.message.endswith('Did you mean "production"?')
    assert accepted(tmp_path, f"targets: {{a: {target.replace('prodution', 'production')}}}\n").warnings == []
    monkeypatch.setenv("AWS_PROFILE", "gone")
    (warning,) = accepted(tmp_path, "targets: {a: {kind: eventbridge, region: eu-west-1}}\n").warnings
    assert 'there is no profile "gone"' in warning.message
