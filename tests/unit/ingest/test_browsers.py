"""Web pages send to RUM's paths if their origin is configured, else nowhere; rebound names read nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.ingest import ENTRY, EVENT, MONITOR, NATIVE, PUT_EVENTS, Ingest, code, serving
from tests.unit.ingest.test_aws import rum_call

EVIL = "https://evil.test"
RUM = f"/appmonitors/{MONITOR}"
CLOUDEVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t"}
PATHS: Mapping[str, tuple[str, object, Mapping[str, str]]] = {
    "native": (NATIVE, EVENT, {}),
    "native as text": (NATIVE, EVENT, {"Content-Type": "text/plain"}),
    "put_events": ("/", {"Entries": [ENTRY]}, PUT_EVENTS),
    "evidently": ("/events/projects/shop", {"events": []}, {}),
    "cloudevents": ("/v1/cloudevents/orders", b"{}", CLOUDEVENT),
}
PAGES: Mapping[str, Mapping[str, str]] = {
    "of another origin": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    "of an opaque origin": {"Origin": "null"},
    "of the same origin": {"Origin": "http://localhost"},
    "that hides its origin": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "of a neighbour": {"Sec-Fetch-Site": "same-site"},
}


def refused(ingest: Ingest) -> int:
    return ingest.metrics.unbound.refused["browser"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("path", PATHS)
async def test_a_page_sends_nothing_to_other_paths_than_those_of_rum(path: str, page: str) -> None:
    url, body, headers = PATHS[path]
    async with serving(origins=["*"]) as ingest:
        answer = await ingest.post(url, body, {**headers, **PAGES[page]})
        assert (answer.status, code(answer)) == (403, "AccessDeniedException")
        assert b"ingest.browsers" in answer.body
        assert refused(ingest) == 1
        assert ingest.count() == ingest.count("lab") == 0


@pytest.mark.parametrize("path", PATHS)
async def test_what_programs_send_is_accepted_as_before(path: str) -> None:
    url, body, headers = PATHS[path]
    async with serving() as ingest:
        for added in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Mode": "cors"}):  # Node sends the last
            assert (await ingest.post(url, body, {**headers, **added})).status < 300
        assert refused(ingest) == 0


@pytest.mark.parametrize("path", ["native", "cloudevents"])
async def test_pages_may_send_everywhere_where_that_is_configured(path: str) -> None:
    url, body, headers = PATHS[path]
    async with serving(browsers="allow") as ingest:
        assert (await ingest.post(url, body, {**headers, "Origin": EVIL})).status == 202


async def test_of_rum_s_paths_the_configured_origins_decide_and_not_the_site() -> None:
    async with serving(origins=["https://shop.example.com"]) as ingest:
        good = {"Origin": "https://shop.example.com", "Sec-Fetch-Site": "cross-site"}
        assert (await ingest.post(RUM, rum_call(), good)).status == 200
        for origin in (EVIL, "null"):
            answer = await ingest.post(RUM, rum_call(), {"Origin": origin})
            assert (answer.status, code(answer)) == (403, "AccessDeniedException")
            assert b"ingest.cors.origins" in answer.body
        assert refused(ingest) == 2
        assert ingest.count("web") == 1


async def test_the_handshake_of_webhooks_goes_on() -> None:
    async with serving() as ingest:
        asked = {"WebHook-Request-Origin": "eventemitter.example.com"}
        answer = await ingest.post("/v1/cloudevents/orders", b"", asked, "OPTIONS")
        assert answer.status == 200
        assert answer.headers["webhook-allowed-origin"] == "eventemitter.example.com"


async def test_a_rebound_name_reads_nothing_and_may_still_send() -> None:
    rebound = {"Host": "evil.test:2780"}
    async with serving() as ingest:
        answer = await ingest.post("/v1/openapi.json", b"", rebound, "GET")
        assert answer.status == 421
        assert b"ingest.hosts" in answer.body
        assert (await ingest.post("/v1/openapi.json", b"", {}, "GET")).status == 200
        assert (await ingest.post(NATIVE, EVENT, rebound)).status == 202
    async with serving(hosts=["evil.test"]) as ingest:
        assert (await ingest.post("/v1/openapi.json", b"", rebound, "GET")).status == 200
