"""Where commands look for the daemon: the same options and the same precedence for all of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import Mock

import pytest

from forwarder import client
from forwarder.cli import main, place
from forwarder.cli.common import CommandError
from forwarder.control.operations import Operations
from forwarder.control.server import ControlServer

TARGETS = "targets: {orders: {kind: of-another-version}}\n"
SECRETS = "ingest: {tls: {certificate: '${NOT_SET_HERE}', key: k}}\n"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORWARDER_CONFIG", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text + TARGETS)
    return path


def given(listener: str = "control", *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    (place.add_socket if listener == "control" else lambda each: place.add(each, listener))(parser)
    return parser.parse_args(arguments)


def refused(function: object, *arguments: object) -> CommandError:
    assert callable(function)
    with pytest.raises(CommandError) as caught:
        function(*arguments)
    return caught.value


def test_an_option_goes_before_the_environment_and_that_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.socket(given()) == tmp_path / "xdg/forwarder/data/control.sock"
    write(tmp_path / "env.yaml", "storage: {path: of-env}\nadmin: {listen: 127.0.0.1:1}\n")
    monkeypatch.setenv("FORWARDER_CONFIG", "env.yaml")
    assert place.socket(given()) == tmp_path / "of-env/data/control.sock"
    assert place.url(given("admin"), "admin") == "http://127.0.0.1:1"
    other = write(tmp_path / "other.yaml", "storage: {path: of-option}\nadmin: {listen: 127.0.0.1:2}\n")
    assert place.socket(given("control", "-c", str(other))) == tmp_path / "of-option/data/control.sock"
    assert place.url(given("admin", "-c", str(other)), "admin") == "http://127.0.0.1:2"
    assert place.socket(given("control", "--path", "~/x")) == tmp_path / "home/x/data/control.sock"
    assert place.socket(given("control", "--url", "unix:./a.sock")) == tmp_path / "a.sock"
    assert place.socket(given("control", "--socket", "a.sock")) == tmp_path / "a.sock"
    assert place.url(given("admin", "--url", "host:9"), "admin") == "http://host:9"


def test_a_home_in_the_variable_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "home/f.yaml", "storage: {path: state}\n")
    monkeypatch.setenv("FORWARDER_CONFIG", "~/f.yaml")
    assert place.socket(given()) == tmp_path / "home/state/data/control.sock"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("state", "{0}/etc/state"),
        ("~/state", "{0}/home/state"),
        ("/var/x", "/var/x"),
        ("../s", "{0}/etc/../s"),
    ],
)
def test_a_relative_path_starts_at_the_directory_of_the_file_that_has_it(
    tmp_path: Path, written: str, found: str
) -> None:
    (tmp_path / "etc").mkdir()
    file = write(tmp_path / "etc/f.yaml", f"storage: {{path: {written}}}\n")
    assert str(place.storage(given("control", "-c", str(file))).parent()) == found.format(tmp_path)


def test_a_variable_that_only_the_daemon_has_spoils_no_command_that_does_not_need_it(tmp_path: Path) -> None:
    file = str(
        write(tmp_path / "f.yaml", "storage: {path: s}\n" + SECRETS + "admin: {listen: 127.0.0.1:1}\n")
    )
    assert place.storage(given("control", "-c", file)).path == str(tmp_path / "s")
    assert place.url(given("admin", "-c", file), "admin") == "http://127.0.0.1:1"
    assert refused(place.url, given("ingest", "-c", file), "ingest").code == 78


def test_every_address_of_a_list_is_known_and_the_first_is_asked(tmp_path: Path) -> None:
    listen = "admin: {listen: ['0.0.0.0:1', 'unix:a.sock', ':3']}\n"
    arguments = given("admin", "-c", str(write(tmp_path / "f.yaml", listen)))
    assert place.urls(arguments, "admin") == [
        "http://127.0.0.1:1",
        f"unix:{tmp_path}/a.sock",
        "http://localhost:3",
    ]
    assert place.url(arguments, "admin") == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/run/a.sock", 'Did you mean "unix:/run/a.sock"?'),
        ("unix:a.sock", 'a.sock"?'),
        ("http://", "must be http://host:port, host:port, :port or unix:/path"),
        ("ftp://host:1", "must be http://host:port, host:port, :port or unix:/path"),
        ("host:port", "must be http://host:port, host:port, :port or unix:/path"),
        ("http://host:99999", "must be http://host:port, host:port, :port or unix:/path"),
        ("a host:1", "must be http://host:port, host:port, :port or unix:/path"),
    ],
)
def test_a_url_that_is_none_exits_2_with_the_forms_there_are(url: str, words: str) -> None:
    error = refused(place.checked, url)
    assert (error.code, words in error.lines[0]) == (2, True)


@pytest.mark.parametrize("url", [":9", "*:9", "localhost:9", "http://localhost:9"])
def test_a_port_alone_is_one_of_this_host(url: str) -> None:
    assert place.checked(url) == "http://localhost:9"


def test_what_changes_a_daemon_does_not_go_over_http() -> None:
    error = refused(place.socket, given("control", "--url", "http://127.0.0.1:2781"))
    assert (error.code, "this command does not go over HTTP" in error.lines[0]) == (2, True)


@pytest.mark.parametrize("command", ["run", "check", "doctor"])
def test_a_command_that_needs_a_configuration_and_has_none_exits_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command]) == 2
    assert "use -c FILE, or set FORWARDER_CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["send", "orders", "f.yaml"],
        ["pause", "orders"],
        ["resume", "--all"],
        ["flush", "orders"],
        ["dead-letters", "replay"],
        ["queue", "purge", "--target", "orders"],
    ],
)
def test_a_storage_path_without_a_daemon_is_named_in_full_by_every_command(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "f.yaml", "")
    code = main([*command, "--path", "nowhere"])
    said = capsys.readouterr().err
    assert code in (69, 74)
    assert f"{tmp_path}/nowhere/data" in said


@pytest.mark.parametrize("command", [["queue", "stats"], ["queue", "check"], ["dead-letters", "list"]])
def test_a_reader_without_a_storage_says_how_to_name_one(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 74
    assert capsys.readouterr().err == (
        f"there is no forwarder.db in {tmp_path}/xdg/forwarder/data; "
        "name the storage with -c FILE or --path DIRECTORY\n"
    )


def test_an_empty_path_is_an_error_and_not_the_working_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause", "orders", "--path", ""]) == 2
    assert capsys.readouterr().err == "--path: must not be empty\n"


async def test_the_control_socket_tells_every_address_and_the_first_is_asked(tmp_path: Path) -> None:
    listeners = {"admin": ["http://127.0.0.1:1", "unix:/run/admin.sock"], "ingest": ["https://127.0.0.1:2"]}
    server = ControlServer(Mock(spec=Operations), tmp_path / "control.sock", lambda: listeners)
    await server.start()
    try:
        assert await client.listener(server.path, "admin") == "http://127.0.0.1:1"
        assert await client.listener(server.path, "ingest") == "https://127.0.0.1:2"
    finally:
        await server.close()
