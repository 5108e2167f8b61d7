"""The page of the admin listener in a real browser: the right numbers, by themselves, and nobody's markup."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from forwarder.admin.server import AdminServer
from forwarder.config import Listen
from forwarder.metrics import Metrics
from tests.e2e.devtools import Tab, a_tab
from tests.e2e.processes import Daemon, Sandbox, a_daemon, a_sandbox, ask, until

TARGETS = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", hold: {{probe: 1s, probe_cap: 1s}}}}
  audit: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", buses: [audit], queue: disk,
          role: {{arn: "arn:aws:iam::123456789012:role/audit", external_id: an-id-that-two-share}}}}
"""
EVENT = {"Source": "my.app", "DetailType": "Hello", "Detail": {"n": 1}}
ATTACK = "<img src=x onerror=\"window.owned='image'\"><script>window.owned='script'</script>"

ROWS = """Object.fromEntries([...document.querySelectorAll('#targets tr')].map(
  (row) => [row.cells[0].textContent, [...row.cells].slice(1).map((cell) => cell.textContent)]))"""
TEXT = "document.body.innerText"
LABELS = "[...document.querySelectorAll('svg[role=img]')].map((each) => each.getAttribute('aria-label'))"
STATE, WAITING, DELIVERED = 0, 1, 6


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    async with a_tab() as made:
        yield made


@pytest.fixture
def sandbox(tmp_path: Path) -> Any:
    with a_sandbox(tmp_path) as made:
        yield made


@pytest.fixture
def daemon(sandbox: Sandbox, tmp_path: Path) -> Any:
    with a_daemon(tmp_path, TARGETS.format(url=sandbox.url)) as made:
        yield made
        sandbox.mend()


def send(daemon: Daemon, count: int, **more: object) -> None:
    ask(f"{daemon.url}/v1/targets/orders/events", [{**EVENT, **more}] * count, "POST")


async def test_it_shows_the_numbers_as_they_are_and_goes_on_by_itself(tab: Tab, daemon: Daemon) -> None:
    send(daemon, 30)
    await tab.open(f"{daemon.admin}/")
    await tab.shows(ROWS, lambda rows: rows.get("orders", [""] * 7)[DELIVERED] == "30")
    send(daemon, 4, Detail={"sandbox": "reject"})
    send(daemon, 8)
    rows = await tab.shows(ROWS, lambda rows: rows["orders"][DELIVERED] == "38")
    assert (rows["orders"][STATE], rows["orders"][WAITING]) == ("● open", "0")
    text = await tab.shows(TEXT, lambda text: "Dead letters kept in" in text)
    assert "orders 4 (" in text
    assert [line.split("\t") for line in text.splitlines() if "\trejected\t" in line] == [
        ["orders", "dead letter", "rejected", "4"]
    ]
    labels = await tab.shows(LABELS, lambda labels: any("at most" in each for each in labels))
    assert sum(each.startswith("events/s: accepted ") for each in labels) == 2
    assert tab.complaints == []


async def test_a_target_that_is_held_is_seen_with_aws_s_sentence_and_so_is_its_end(
    tab: Tab, daemon: Daemon, sandbox: Sandbox
) -> None:
    await tab.open(f"{daemon.admin}/")
    await tab.shows(TEXT, lambda text: "All targets are open." in text)
    sandbox.order({"fault": "credentials", "api": "eventbridge", "message": f"Expired. {ATTACK}"})
    send(daemon, 5)
    await tab.shows(ROWS, lambda rows: rows["orders"][STATE] == "■ held")
    text = await tab.evaluate(TEXT)
    assert "Held, only a person can help: orders" in text
    assert f"Expired. {ATTACK}" in text
    assert await tab.evaluate("document.querySelector('#summary').getAttribute('role')") == "status"
    sandbox.mend()  # the role of the target beside it is never to be had here
    await tab.shows(ROWS, lambda rows: rows["orders"][STATE] == "● open")
    assert await tab.evaluate("window.owned ?? null") is None
    assert tab.complaints == []


async def test_the_configuration_in_force_is_there_without_its_secrets(tab: Tab, daemon: Daemon) -> None:
    await tab.open(f"{daemon.admin}/")
    text = await tab.shows("document.querySelector('#config').textContent")
    assert "  audit:\n    kind: eventbridge\n" in text
    assert "      external_id: ***\n" in text
    assert "an-id-that-two-share" not in await tab.evaluate("document.documentElement.outerHTML")


async def test_a_daemon_that_is_gone_is_said_and_what_was_there_stays(
    tab: Tab, sandbox: Sandbox, tmp_path: Path
) -> None:
    with a_daemon(tmp_path, TARGETS.format(url=sandbox.url)) as daemon:
        await tab.open(f"{daemon.admin}/")
        await tab.shows(TEXT, lambda text: "All targets are open." in text)
    text = await tab.shows(TEXT, lambda text: "No answer from the daemon since" in text)
    assert "orders" in text


@pytest.mark.parametrize(
    ("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")]
)
async def test_it_can_be_read_on_every_screen_and_in_both_schemes(
    tab: Tab, daemon: Daemon, width: int, scheme: str
) -> None:
    await tab.look(width, 800, scheme=scheme)
    await tab.open(f"{daemon.admin}/")
    await tab.shows(LABELS)
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = await tab.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert min(contrasts) >= 4.5, contrasts


CONTRASTS = """(() => {
  const light = (rgb) => {
    const parts = rgb.match(/[0-9.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const own = (node) => [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
  return [...document.querySelectorAll('body *')].filter(own).filter((node) => node.getClientRects().length)
    .map((node) => {
      const style = getComputedStyle(node);
      const one = light(node.tagName === 'text' ? style.fill : style.color), two = light(behind(node));
      return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    });
})()"""
"""The contrast of every text with what is behind it, as WCAG 2 computes it; 4.5 is wanted."""


@pytest.fixture
async def hostile(daemon: Daemon) -> AsyncIterator[str]:
    """The real page over a status whose every text is an attack: no name of ours could be one."""
    until(lambda: json.loads(ask(f"{daemon.admin}/history"))["targets"], "a first reading", daemon.log)
    async with aiohttp.ClientSession() as http:
        real: dict[str, Any] = {}
        for name in ("status", "history", "config"):
            async with http.get(f"{daemon.admin}/{name}") as told:
                real[name] = await told.json()
    page = AdminServer(Metrics(), dict, lambda: True)
    await page.start(Listen("127.0.0.1:0"))

    async def answer(request: web.Request) -> web.Response:
        name = request.path.strip("/")
        if name in real:
            return web.json_response(poisoned(real[name]))
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{page.address}{request.path}") as found,
        ):
            headers = {"Content-Type": found.headers["Content-Type"]}  # without the policy: the script alone
            return web.Response(body=await found.read(), headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))
    await page.close()


def poisoned(value: Any) -> Any:
    """The same with an attack for every text and in every name of a target."""
    if isinstance(value, dict):
        named = {"orders", "audit"} & value.keys()
        return {f"{k}{ATTACK}" if k in named else k: poisoned(v) for k, v in deepcopy(value).items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return f"{value}{ATTACK}" if isinstance(value, str) else value


async def test_markup_in_anything_that_is_shown_is_text(tab: Tab, hostile: str) -> None:
    await tab.open(hostile)
    text = await tab.shows(TEXT, lambda text: f"orders{ATTACK}" in text and "Only in memory" in text)
    await tab.shows(LABELS)
    assert text.count(ATTACK) > 10
    assert await tab.evaluate("document.querySelectorAll('img').length") == 0
    assert await tab.evaluate("document.querySelectorAll('script').length") == 1
    assert await tab.evaluate("window.owned ?? null") is None
    assert json.dumps(tab.complaints) == "[]"
