"""The RUM web client, old and new, in pages of a real browser: what it sends arrives as it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browsers import MONITOR, Browser, Sent, a_browser
from tests.e2e.processes import Daemon, Sandbox, a_daemon, ask, free_port, until

TARGET = '  web: {{kind: rum, region: eu-west-1, endpoint_url: "{url}"{more}}}\n'
HELD = {"fault": "credentials", "api": "rum"}
ALL = ["errors", "performance", "http"]
LARGE = {"note": "Zoë ☂ " * 1000}
ROOM = 8

client = pytest.mark.parametrize("client", ["new", "old"])
signing = pytest.mark.parametrize("signing", [False, True], ids=["unsigned", "signed"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with a_browser(tmp_path_factory.mktemp("browser") / "driver.log") as browser:
        yield browser


@pytest.fixture(scope="module")
def daemon(
    browser: Browser, a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon to which pages of the browser's origin may send."""
    targets = TARGET.format(url=a_running_sandbox.url, more="")
    with a_daemon(tmp_path_factory.mktemp("daemon"), targets, more=cors(browser)) as daemon:
        yield daemon


def cors(browser: Browser) -> str:
    return f", cors: {{origins: ['{browser.origin}']}}"


Events = dict[str, tuple[dict[str, Any], dict[str, Any]]]


def events_of(sent: Sequence[Sent]) -> Events:
    """Every event, and the envelope it was sent in, by its id."""
    events: Events = {}
    for batch in (each.batch for each in sent):
        envelope = {"Id": MONITOR, **{name: value for name, value in batch.items() if name != "RumEvents"}}
        events |= {event["id"]: (envelope, event) for event in batch["RumEvents"]}
    return events


def arrives(sandbox: Sandbox, daemon: Daemon, sent: Sequence[Sent]) -> None:
    """What the daemon took arrives, as it was sent and once; of the rest the page cannot know."""
    taken = events_of([each for each in sent if each.status == 200 or each.by == "beacon"])
    maybe = events_of([each for each in sent if each.status is None])

    def arrived() -> Events:
        return {each["entry"]["id"]: (each["envelope"], each["entry"]) for each in sandbox.arrived("rum")}

    until(lambda: taken.keys() <= arrived().keys(), f"{len(taken)} events", daemon.log)
    daemon.deliver("web")
    seen = arrived()
    assert seen == {id: event for id, event in {**maybe, **taken}.items() if id in seen}
    assert len(sandbox.arrived("rum")) == len(seen)


def is_taken(sent: Sent) -> bool:
    return sent.status == 200


def has(type: str) -> Callable[[Sent], bool]:
    """A request with an event of this type, that was taken."""
    return lambda sent: sent.status == 200 and type in sent.types


@client
@signing
def test_what_a_page_sends_arrives_as_it_was_sent(
    client: str, signing: bool, browser: Browser, daemon: Daemon, sandbox: Sandbox
) -> None:
    options: dict[str, Any] = {"telemetries": ALL, "alias": "shop", "dispatchInterval": 0}
    with browser.page(client, daemon.url, signing=signing, **options) as page:
        page.dispatch()
        page.until(has("com.amazon.rum.page_view_event"))
        page.record("order", **LARGE)
        page.dispatch()
        fetched = page.until(has("order"))
        page.leave("goodbye", n=1)
        sent = page.until(lambda each: each.by == "beacon" and "goodbye" in each.types)
    assert {each.by for each in fetched} == {"fetch"}
    assert any(each.packed for each in fetched) is (client == "new")
    assert all(each.outcome["headers"]["x-amzn-requestid"] for each in fetched), "the page may read it"
    assert all(each.url.partition("?")[0].endswith(f"/appmonitors/{MONITOR}") for each in sent)
    for each in sent:
        assert ("authorization" in each.headers or "X-Amz-Signature=" in each.url) is signing
    arrives(sandbox, daemon, sent)


@client
def test_the_browser_lets_no_page_of_another_origin_send(
    client: str, browser: Browser, daemon: Daemon, sandbox: Sandbox
) -> None:
    with browser.page(client, daemon.url, host="other", retries=0, useBeacon=False) as page:
        page.record("order", n=1)
        sent = page.until(lambda each: each.failed)
    assert not [each for each in sent if each.status]
    assert sandbox.arrived("rum") == []


@client
def test_a_batch_that_is_refused_is_all_that_the_page_loses(
    client: str, browser: Browser, daemon: Daemon, sandbox: Sandbox
) -> None:
    with browser.page(client, daemon.url) as page:
        page.until(is_taken)
        page.record("x" * 257, n=1)
        refused = [each for each in page.until(lambda each: each.status == 400) if each.status == 400]
        assert refused[0].outcome["headers"]["x-amzn-errortype"] == "ValidationException"
        page.record("order", n=2)
        sent = page.until(has("order"))
    arrives(sandbox, daemon, sent)


@client
def test_only_an_app_monitor_that_no_target_binds_switches_the_client_off(
    client: str, browser: Browser, sandbox: Sandbox, tmp_path: Path
) -> None:
    other = ", app_monitors: [00000000-0000-4000-8000-0000000000bb]"
    targets = TARGET.format(url=sandbox.url, more=other)
    with (
        a_daemon(tmp_path, targets, more=cors(browser)) as daemon,
        browser.page(client, daemon.url, dispatchInterval=0) as page,
    ):
        page.dispatch()
        before = page.until(lambda each: each.status == 404)
        page.record("order", n=1)
        page.dispatch()
        assert len(page.sent()) == len(before)


REPLAY = "com.amazon.rum.rrweb_event"
DEFAULTS = ["errors", "performance", "http", "replay"]
"""The telemetries of aws-rum-web 3.x where a page names none."""


def sizes(sent: Sent) -> list[int]:
    return [len(json.dumps(event)) for event in sent.batch["RumEvents"] if event["type"] == REPLAY]


def test_the_session_replay_of_a_page_with_a_long_table_arrives_as_it_was_sent(
    browser: Browser, daemon: Daemon, sandbox: Sandbox
) -> None:
    with browser.page("new", daemon.url, rows=700, telemetries=DEFAULTS, alias="shop") as page:
        page.record("order", n=1)
        sent = page.until(lambda each: each.status is not None and REPLAY in each.types)
    assert max(size for each in sent for size in sizes(each)) > 256 * 1024
    assert {each.status for each in sent if each.by == "fetch"} == {200}
    arrives(sandbox, daemon, sent)


def test_an_event_that_is_too_large_costs_no_other_and_the_page_goes_on(
    browser: Browser, sandbox: Sandbox, tmp_path: Path
) -> None:
    targets = TARGET.format(url=sandbox.url, more=", batch: {max_event_bytes: 100KiB}")
    with (
        a_daemon(tmp_path, targets, more=cors(browser)) as daemon,
        browser.page("new", daemon.url, dispatchInterval=0) as page,
    ):
        page.record("before", n=1)
        page.record("huge", text="x" * 200_000)
        page.record("after", n=2)
        page.dispatch()
        [told] = [each for each in page.until(lambda each: each.status == 400) if "huge" in each.types]
        assert {"before", "huge", "after"} <= told.types
        page.record("later", n=3)
        page.dispatch()
        page.until(has("later"))
        wanted = (told.types - {"huge"}) | {"later"}
        until(
            lambda: wanted <= {e["entry"]["type"] for e in sandbox.arrived("rum")}, "neighbours", daemon.log
        )
        assert "huge" not in {each["entry"]["type"] for each in sandbox.arrived("rum")}
        assert "event refused" in daemon.log.read_text()


def fill(daemon: Daemon, sandbox: Sandbox) -> None:
    """Leave no room in the queue of a daemon whose AWS is in trouble."""
    event = {"type": "filler", "details": {"n": 1}, "AppMonitorId": MONITOR}
    url = f"{daemon.url}/v1/targets/web/events"
    ask(url, event, "POST")
    until(lambda: daemon.status("web")["state"] == "held", "the target to be held", daemon.log)
    ask(url, [event] * (ROOM - 1), "POST")


@client
@signing
def test_a_page_that_is_throttled_tries_again_until_there_is_room(
    client: str, signing: bool, browser: Browser, sandbox: Sandbox, tmp_path: Path
) -> None:
    more = f", queue_limits: {{max_events: {ROOM}}}, hold: {{probe: 100ms, probe_cap: 100ms}}"
    targets = TARGET.format(url=sandbox.url, more=more)
    with a_daemon(tmp_path, targets, more=cors(browser)) as daemon:
        sandbox.order(HELD)
        fill(daemon, sandbox)
        with browser.page(client, daemon.url, signing=signing, retries=5) as page:
            told = next(each for each in page.until(lambda each: each.status == 429) if each.status == 429)
            assert told.outcome["headers"]["x-amzn-errortype"] == "ThrottlingException"
            assert 1 <= int(told.outcome["headers"]["retry-after"]) <= 3
            sandbox.mend()
            daemon.deliver("web")
            sandbox.reset()
            page.until(lambda each: is_taken(each) and each.body == told.body)
            page.record("order", n=1)
            sent = page.until(has("order"))
        arrives(sandbox, daemon, sent)


@client
@signing
def test_a_page_goes_on_when_the_daemon_was_restarted(
    client: str, signing: bool, browser: Browser, sandbox: Sandbox, tmp_path: Path
) -> None:
    targets, port = TARGET.format(url=sandbox.url, more=", queue: disk"), free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        with a_daemon(tmp_path, targets, port, cors(browser)):
            page = stack.enter_context(browser.page(client, url, signing=signing, retries=6))
            page.until(is_taken)
        page.record("meanwhile", n=1)
        page.until(lambda each: each.failed and "meanwhile" in each.types)
        with a_daemon(tmp_path, targets, port, cors(browser)) as daemon:
            page.until(has("meanwhile"))
            page.record("order", n=2)
            arrives(sandbox, daemon, page.until(has("order")))
