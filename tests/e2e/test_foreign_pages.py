"""Web pages that nobody configured, in a real browser: they can neither send events nor read from the daemon.

Invariants:
- Web security is on. Made-up names resolve to 127.0.0.1, so the pages are as near to the daemon as its own.
- Whether something was sent is judged by what arrived at the sandbox, not by what a page may see.
- Each attack is tried on a daemon that allows it as well, so that a refusal means something.
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.devtools import Tab, a_tab
from tests.e2e.processes import Daemon, Sandbox, a_daemon, ask, until

MONITOR = "00000000-0000-4000-8000-0000000000aa"
RESOLVED = (
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP *.localhost 127.0.0.1",
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebRTC",
)
"""Newer browsers ask the user before a page reaches this machine; here the user said yes."""
TARGETS = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", default: true}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{url}", app_monitors: [{monitor}]}}
  flags: {{kind: evidently, region: eu-west-1, endpoint_url: "{url}", projects: [shop]}}
"""

ENTRY = {"Source": "a.page", "DetailType": "Attack", "Detail": '{"n": "="}'}
CLOUD = {"specversion": "1.0", "id": "1", "source": "a.page", "type": "Attack", "data": {"n": "="}}
RUM_EVENT = {
    "id": "00000000-0000-4000-8000-000000000001",
    "timestamp": 1700000000,
    "type": "attack",
    "details": '{"n": "="}',
}
RUM = {
    "BatchId": "00000000-0000-4000-8000-0000000000bb",
    "AppMonitorDetails": {"id": MONITOR, "version": "1"},
    "UserDetails": {"sessionId": "00000000-0000-4000-8000-0000000000cc"},
    "RumEvents": [RUM_EVENT],
}
FLAG = {"timestamp": 1700000000, "type": "aws.evidently.custom", "data": '{"n": "="}'}

SENT: dict[str, tuple[str, object]] = {
    "native": ("/v1/targets/orders/events", ENTRY),
    "native of RUM": ("/v1/targets/web/events", {**RUM_EVENT, "UserDetails": RUM["UserDetails"]}),
    "CloudEvents": ("/v1/cloudevents/orders", CLOUD),
    "PutEvents": ("/", {"Entries": [ENTRY]}),
    "PutProjectEvents": ("/events/projects/shop", {"events": [FLAG]}),
    "PutRumEvents": (f"/appmonitors/{MONITOR}", RUM),
}
"""What is sent where. Each body has one "=", where a form can be cut into its name and its value."""

WAYS = {
    "fetch": "fetch(url, {method: 'POST', body}).then(() => 'read', () => 'hidden')",
    "fetch of JSON": """fetch(url, {method: 'POST', body, headers: {'Content-Type': 'application/json'}})
        .then(() => 'read', () => 'hidden')""",
    "fetch no-cors": """fetch(url, {method: 'POST', mode: 'no-cors', body})
        .then((it) => it.type, () => 'closed')""",
    "sendBeacon": "Promise.resolve(navigator.sendBeacon(url, body))",
    "form": """new Promise((done) => {
        const frame = document.createElement('iframe');
        frame.name = 'sink' + Date.now();
        document.body.appendChild(frame);
        const form = document.body.appendChild(document.createElement('form'));
        Object.assign(form, {action: url, method: 'POST', enctype: 'text/plain', target: frame.name});
        const field = form.appendChild(document.createElement('input'));
        const cut = body.indexOf('=');
        Object.assign(field, {name: body.slice(0, cut), value: body.slice(cut + 1)});
        frame.onload = () => done('sent');
        form.submit();
    })""",
}
"""How a page sends ``body`` to ``url``."""

UNSENT = {"fetch of JSON"}
"""The browser asks first and, being refused, sends no event."""

PAGES = ("http://evil.test:{port}/", "http://evil.localhost:{port}/", "http://localhost:{port}/")


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    async with a_tab(*RESOLVED) as made:
        yield made


@pytest.fixture
async def page_port() -> AsyncIterator[int]:
    """Where a server answers every name with an empty page."""
    app = web.Application()

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>x</title><body></body>", content_type="text/html")

    app.router.add_get("/", page)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port is not None
        yield server.port


@pytest.fixture(scope="module")
def daemon(a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    targets = TARGETS.format(url=a_running_sandbox.url, monitor=MONITOR)
    with a_daemon(tmp_path_factory.mktemp("daemon"), targets) as made:
        yield made


@pytest.fixture(scope="module")
def open_daemon(a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to which every page may send."""
    targets = TARGETS.format(url=a_running_sandbox.url, monitor=MONITOR)
    more = ", browsers: allow, cors: {origins: ['*']}"
    with a_daemon(tmp_path_factory.mktemp("open"), targets, more=more) as made:
        yield made


async def attack(tab: Tab, way: str, url: str, body: object) -> Any:
    script = f"((url, body) => {WAYS[way]})({json.dumps(url)}, {json.dumps(json.dumps(body))})"
    return await tab.evaluate(script)


def arrived(sandbox: Sandbox) -> int:
    return sum(len(sandbox.arrived(api)) for api in ("eventbridge", "rum", "evidently"))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_page_that_nobody_configured_sends_no_event(
    tab: Tab, page_port: int, daemon: Daemon, sandbox: Sandbox, way: str, page: str
) -> None:
    await tab.open(page.format(port=page_port))
    before = daemon.refused("browser")
    for what, (path, body) in SENT.items():
        assert await attack(tab, way, daemon.url + path, body) != "read", what
    attempts = 0 if way in UNSENT else len(SENT)
    until(lambda: daemon.refused("browser") == before + attempts, "each attempt to be counted", daemon.log)
    for target in ("orders", "web", "flags"):
        daemon.deliver(target)
    assert arrived(sandbox) == 0


@pytest.mark.parametrize("way", sorted(WAYS.keys() - UNSENT))
async def test_the_same_page_does_send_where_every_page_may(
    tab: Tab, page_port: int, open_daemon: Daemon, sandbox: Sandbox, way: str
) -> None:
    """So that the refusals mean something. What needs a header or a media type of its own is left out."""
    await tab.open(PAGES[0].format(port=page_port))
    simple = ("native", "PutProjectEvents", "PutRumEvents")
    for what in simple:
        path, body = SENT[what]
        if what == "PutRumEvents":  # a batch that comes again is answered from memory
            body = {**RUM, "BatchId": str(uuid.uuid4())}
        await attack(tab, way, open_daemon.url + path, body)
    until(lambda: arrived(sandbox) == len(simple), "the events", open_daemon.log)
    assert open_daemon.refused("browser") == 0


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


READ = """fetch(%s).then(async (it) => [it.status, await it.text()], () => null)"""
READS = ("/", "/config", "/status", "/metrics", "/history")
SECRETS = ("orders", "eu-west-1", "forwarder_events")


def refused_reads(daemon: Daemon) -> float:
    lines = ask(f"{daemon.admin}/metrics").decode().splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith("forwarder_admin_requests_refused")
    )


async def test_a_rebound_name_reads_nothing(tab: Tab, daemon: Daemon) -> None:
    """The page's own name resolves to the daemon: the browser takes both for one origin."""
    port = port_of(daemon.admin)
    for path in READS:
        await tab.open(f"http://rebound.test:{port}{path}")
        status, text = await tab.evaluate(READ % json.dumps(path))
        assert status == 421
        assert not [secret for secret in SECRETS if secret in text]
        shown = await tab.evaluate("document.documentElement.outerHTML")
        assert "admin.hosts" in shown
        assert not [secret for secret in SECRETS if secret in shown]
    await tab.open(f"http://rebound.test:{port_of(daemon.url)}/v1/openapi.json")
    status, text = await tab.evaluate(READ % json.dumps("/v1/openapi.json"))
    assert (status, "ingest.hosts" in text, "orders" in text) == (421, True, False)
    until(lambda: refused_reads(daemon) >= 2 * len(READS), "each attempt to be counted", daemon.log)


async def test_a_rebound_page_sends_no_event_either(tab: Tab, daemon: Daemon, sandbox: Sandbox) -> None:
    """To its own origin: no preflight stands in the way, and Sec-Fetch-Site is same-origin."""
    await tab.open(f"http://rebound.test:{port_of(daemon.url)}/v1/openapi.json")
    before = daemon.refused("browser")
    for what, (path, body) in SENT.items():
        headers = {"Content-Type": "application/json"}
        if what == "PutEvents":
            headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
        order = json.dumps({"method": "POST", "headers": headers, "body": json.dumps(body)})
        status = await tab.evaluate(f"fetch({json.dumps(path)}, {order}).then((it) => it.status)")
        assert (what, status) == (what, 403)
    until(lambda: daemon.refused("browser") == before + len(SENT), "each attempt to be counted", daemon.log)
    assert arrived(sandbox) == 0


async def test_another_page_reads_nothing_of_the_admin_listener(
    tab: Tab, page_port: int, daemon: Daemon
) -> None:
    """The names are right here; the browser keeps the answers, as nothing allows the page to have them."""
    await tab.open(PAGES[0].format(port=page_port))
    for url in (*(daemon.admin + path for path in READS), f"{daemon.url}/v1/openapi.json"):
        assert await tab.evaluate(READ % json.dumps(url)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "forwarder.localhost"])
async def test_the_admin_page_works_under_the_names_of_this_machine(
    tab: Tab, daemon: Daemon, host: str
) -> None:
    await tab.open(f"http://{host}:{port_of(daemon.admin)}/")
    await tab.shows("document.body.innerText", lambda text: "All targets are open." in text)
    assert tab.complaints == []


async def test_a_configured_name_reads_what_it_is_configured_for(
    tab: Tab, sandbox: Sandbox, tmp_path: Path
) -> None:
    targets = TARGETS.format(url=sandbox.url, monitor=MONITOR)
    with a_daemon(tmp_path, targets, more=", hosts: [named.test]") as daemon:
        await tab.open(f"http://named.test:{port_of(daemon.url)}/v1/openapi.json")
        status, text = await tab.evaluate(READ % json.dumps("/v1/openapi.json"))
        assert (status, "orders" in text) == (200, True)


def test_a_webhook_is_validated_and_then_sends(daemon: Daemon, sandbox: Sandbox) -> None:
    """As CloudEvents' webhooks do: its headers are not those of a browser."""
    url = f"{daemon.url}/v1/cloudevents/orders"
    headers = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="OPTIONS")) as answer:
        assert answer.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    ask(url, CLOUD, "POST", "application/cloudevents+json")
    until(lambda: arrived(sandbox) == 1, "the event", daemon.log)
