"""An aiohttp or SDK in which a member that we need is missing or changed is found at start, and named."""

from __future__ import annotations

import ast
import asyncio
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.credentials import AioProfileProviderBuilder
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from packaging.requirements import Requirement

from forwarder import aiohttp_private
from forwarder.daemon import serving
from forwarder.exit_codes import EXIT_CONFIG
from forwarder.targets import sdk_private

ROOT = Path(__file__).parents[2]
MEMBERS = ("_messages", "_waiter", "_request_in_progress", "_reading_paused", "_buffer_paused", "_close")
METHODS = ("_pause_transport_reading", "_resume_transport_reading", "_resume_reading_if_drained")
OF_A_LIBRARY = {
    "aiohttp_private.py": "aiohttp",
    "targets/sdk_private.py": "aiobotocore and botocore",
    "targets/session.py": "sdk_private has their names",
    "targets/sources.py": "sdk_private has their names",
}
DOCUMENTED = {"_replace", "_SubParsersAction", "_MutuallyExclusiveGroup", "_Decompress", "_actions"}
"""Of the standard library: documented, or names of types for annotations."""


def problem(**changed: Any) -> str:
    async def ask() -> str:
        return aiohttp_private.problem(asyncio.get_running_loop(), **changed)

    return asyncio.run(ask())


def test_the_installed_libraries_have_all_that_is_needed() -> None:
    assert problem() == ""
    assert sdk_private.problem() == ""


@pytest.mark.parametrize("member", MEMBERS)
def test_a_connection_without_a_member_is_named_with_the_releases_that_were_tested(member: str) -> None:
    class Lacking(web.RequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            delattr(self, member)

    said = problem(connections=Lacking)
    assert f"Lacking has no {member}. " in said
    assert f"aiohttp {version('aiohttp')} cannot be used" in said
    assert said.endswith(f"tested with aiohttp {aiohttp_private.TESTED}. Install {aiohttp_private.ALLOWED}")


def test_a_member_of_another_form_is_shown() -> None:
    class Listing(web.RequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._messages = []  # type: ignore[assignment]

    assert "_messages of Listing is not what is expected: []" in problem(connections=Listing)


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_without_a_method_is_named(method: str) -> None:
    lacking = type("Lacking", (web.RequestHandler,), {method: None})
    assert f"Lacking has no method {method}" in problem(connections=lacking)


def test_a_method_that_we_override_must_have_the_parameters_that_we_know() -> None:
    class Changed(web.RequestHandler):
        async def finish_response(self, request: Any, resp: Any) -> Any:  # type: ignore[override]
            pass

    assert "finish_response of Changed has other parameters: self, request, resp" in problem(
        connections=Changed
    )


def test_a_method_that_is_no_longer_called_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def otherwise(self: Any, *args: Any) -> None: ...

    monkeypatch.setattr(web.RequestHandler, "_handle_request", otherwise)
    said = problem()
    assert "RequestHandler no longer calls finish_response" in said
    assert "no longer calls resume_reading" not in said


def test_a_body_that_is_buffered_in_another_way_is_named() -> None:
    class Elsewhere(StreamReader):
        def feed_data(self, data: bytes, size: int = 0) -> bool:
            return False

    assert "Elsewhere has no member _buffer for the body" in problem(bodies=Elsewhere)


def test_options_that_aiohttp_does_not_know_are_named() -> None:
    class Older(web.RequestHandler):
        def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(manager, loop=loop)

    assert "cannot be created" in problem(connections=Older)


def test_a_request_without_its_version_inside_is_read_by_the_documented_one() -> None:
    class Request:
        version = HttpVersion11

    request: Any = Request()
    assert aiohttp_private.version_of(request) == HttpVersion11
    aiohttp_private.answer_with(request, HttpVersion10)
    assert request.version == HttpVersion11


def test_an_sdk_that_makes_its_sessions_by_another_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(self: Any, request: Any) -> None: ...

    monkeypatch.setattr(AIOHTTPSession, "send", send)
    said = sdk_private.problem()
    assert "AIOHTTPSession no longer calls _get_session" in said
    assert f"aiobotocore {version('aiobotocore')} cannot be used" in said


def test_an_sdk_without_a_member_is_named() -> None:
    class Lacking(AIOHTTPSession):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            del self._verify

    class Builder(AioProfileProviderBuilder):  # type: ignore[misc]
        _create_process_provider = None

    class Provider:
        pass

    provider: Any = Provider
    said = sdk_private.problem(Lacking, Builder, provider)
    assert "Lacking has no _verify" in said
    assert "Builder has no method _create_process_provider" in said
    assert "Provider no longer has _prompter" in said


def test_a_daemon_does_not_start_with_an_aiohttp_that_it_cannot_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    monkeypatch.setattr(serving, "Daemon", lambda *args, **kwargs: made.append(args))
    monkeypatch.setattr(aiohttp_private, "problem", lambda loop: "aiohttp 9 cannot be used: it is another")
    config: Any = None
    assert asyncio.run(serving._serve(config, "")) == EXIT_CONFIG
    assert made == []


def test_the_allowed_range_is_that_of_the_dependencies_and_holds_what_was_tested() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (allowed,) = [each for each in dependencies if each.startswith("aiohttp")]
    assert allowed == aiohttp_private.ALLOWED
    range_ = Requirement(allowed).specifier
    assert aiohttp_private.TESTED in range_
    assert {"3.14.4", "3.15.0", "4.0"}.isdisjoint(range_.filter(["3.14.4", "3.15.0", "4.0"]))


def foreign_members(file: Path) -> Iterator[str]:
    """Members with an underscore that a file uses and does not define."""
    defined: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            by_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (defined if by_itself and isinstance(node.ctx, ast.Store) else used).add(node.attr)
    yield from sorted(used - defined - DOCUMENTED)


def test_no_other_file_uses_undocumented_members_of_a_library() -> None:
    files = {str(file.relative_to(ROOT / "forwarder")): file for file in (ROOT / "forwarder").rglob("*.py")}
    found = {name: members for name, file in files.items() if (members := list(foreign_members(file)))}
    assert set(found) - {"aiohttp_private.py"} <= set(OF_A_LIBRARY), found
    known = (ROOT / "forwarder/targets/sdk_private.py").read_text()
    for name in ("targets/session.py", "targets/sources.py"):
        assert [member for member in found[name] if f'"{member}"' not in known] == []
