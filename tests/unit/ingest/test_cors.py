"""What a browser asks before it sends for a page, and what it needs in answers to show them to the page."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.ingest import EVENT, MONITOR, NATIVE, PUT_EVENTS, Answer, Ingest, serving
from tests.unit.ingest.test_aws import is_aws_error, rum_call

PATH = f"/appmonitors/{MONITOR}"
SHOP = "https://shop.example.com"
UNSIGNED = "content-encoding,content-type"
SIGNED = (
    "amz-sdk-invocation-id,amz-sdk-request,authorization,content-encoding,content-type,"
    "x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent,x-api-key"
)


async def preflight(
    ingest: Ingest, origin: str, names: str = UNSIGNED, path: str = PATH, **more: str
) -> Answer:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,
    }
    return await ingest.post(path, b"", {**asked, **more}, "OPTIONS")


def allows(answer: Answer, origin: str) -> bool:
    """Whether a browser would show the answer to a page of this origin, its id, error and pause among it."""
    headers = answer.headers
    assert headers["vary"] == "Origin"
    if "access-control-allow-origin" not in headers:
        assert not [name for name in headers if name.startswith("access-control-")]
        return False
    assert headers["access-control-expose-headers"] == "x-amzn-RequestId, x-amzn-ErrorType, Retry-After"
    return headers["access-control-allow-origin"] in ("*", origin)


@pytest.mark.parametrize("names", [UNSIGNED, SIGNED])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"/some/mount{PATH}"])
async def test_a_preflight_is_told_what_the_client_may_send(names: str, path: str) -> None:
    async with serving(origins=[SHOP]) as ingest:
        answer = await preflight(ingest, SHOP, names, path)
        assert (answer.status, answer.body) == (204, b"")
        assert allows(answer, SHOP)
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert answer.headers["access-control-allow-headers"] == names
        assert answer.headers["access-control-max-age"] == "7200"
        assert "access-control-allow-private-network" not in answer.headers
        assert "content-type" not in answer.headers


async def test_a_preflight_for_a_place_in_a_private_network_is_told_that_it_may() -> None:
    async with serving(origins=[SHOP]) as ingest:
        answer = await preflight(ingest, SHOP, **{"Access-Control-Request-Private-Network": "true"})
        assert answer.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([SHOP], SHOP, True),
        ([SHOP], "https://shop.example.com:8443", False),
        ([SHOP], "http://shop.example.com", False),
        ([SHOP], "https://shop-example.com", False),
        ([SHOP], f"{SHOP}.evil.test", False),
        ([SHOP], "null", False),
        ([SHOP, "https://*.example.org"], "https://a.b.example.org", True),
        (["https://*.example.com"], SHOP, True),
        (["https://*.example.com"], "https://example.com", False),
        (["https://*.example.com"], "https://badexample.com", False),
        (["https://*.example.com"], "https://evil.test/.example.com", False),
        (["https://*.example.com"], "https://evil.test:1.example.com", False),
        (["http://*.localhost:8080"], "http://shop.localhost:8080", True),
        (["http://*.localhost:8080"], "http://shop.localhost", False),
        (["http://[::1]:3000"], "http://[::1]:3000", True),
        (["capacitor://localhost"], "capacitor://localhost", True),
        (["*"], "https://any.test", True),
        (["*"], "null", True),
    ],
)
async def test_pages_of_the_configured_origins_may_send_and_no_others(
    origins: Sequence[str], origin: str, allowed: bool
) -> None:
    async with serving(origins=origins) as ingest:
        asked = await preflight(ingest, origin)
        assert allows(asked, origin) is allowed
        assert asked.status == (204 if allowed else 403)
        answer = await ingest.post(PATH, rum_call(), {"Origin": origin})
        assert answer.status == (200 if allowed else 403)
        assert allows(answer, origin) is allowed


async def test_a_page_can_read_what_is_wrong() -> None:
    async with serving(origins=[SHOP], budget=100) as ingest:
        bad = await ingest.post(PATH, b"{}", {"Origin": SHOP})
        assert is_aws_error(bad, 400, "SerializationException")
        assert allows(bad, SHOP)
        large = await ingest.post(PATH, b"x" * 101, {"Origin": SHOP})
        assert large.status == 413
        assert allows(large, SHOP)
        unknown = await ingest.post("/appmonitors/nobody", rum_call(), {"Origin": SHOP})
        assert is_aws_error(unknown, 404, "ResourceNotFoundException")
        assert allows(unknown, SHOP)


async def test_a_preflight_says_nothing_of_whether_the_monitor_is_known() -> None:
    async with serving(origins=[SHOP]) as ingest:
        assert (await preflight(ingest, SHOP, path="/appmonitors/nobody")).status == 204


async def test_what_is_no_list_of_header_names_is_not_said_back() -> None:
    async with serving(origins=[SHOP]) as ingest:
        for names in ("", "a b", "a,,b", "a:b", "\xe4"):
            answer = await preflight(ingest, SHOP, names)
            assert answer.status == 204
            assert "access-control-allow-headers" not in answer.headers


async def test_without_origins_nothing_is_said_of_them() -> None:
    async with serving() as ingest:
        answer = await preflight(ingest, SHOP)
        assert is_aws_error(answer, 405, "MethodNotAllowedException")
        posted = await ingest.post(PATH, rum_call(), {"Origin": SHOP})
        assert is_aws_error(posted, 403, "AccessDeniedException")
        for each in (answer, posted):
            assert not [name for name in each.headers if name.startswith("access-control-") or name == "vary"]


async def test_other_paths_than_those_of_rum_are_not_for_pages() -> None:
    async with serving(origins=["*"]) as ingest:
        assert (await preflight(ingest, SHOP, path=NATIVE)).status == 405
        native = await ingest.post(NATIVE, EVENT, {"Origin": SHOP})
        aws = await ingest.post("/", {"Entries": []}, {**PUT_EVENTS, "Origin": SHOP})
        nowhere = await ingest.post("/nowhere", b"", {"Origin": SHOP})
        for answer in (native, aws, nowhere):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_options_that_is_no_preflight_is_a_method_like_any_other() -> None:
    async with serving(origins=[SHOP]) as ingest:
        answer = await ingest.post(PATH, b"", {"Origin": SHOP}, "OPTIONS")
        assert is_aws_error(answer, 405, "MethodNotAllowedException")
