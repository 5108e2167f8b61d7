"""The page of the admin listener in a real browser: the right numbers, by themselves, and nobody's markup."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from forwarder.admin.server import AdminServer
from forwarder.config import Listens
from forwarder.metrics import Metrics
from forwarder.metrics.history import SAMPLE_SECONDS, History, Reading
from tests.e2e.devtools import Tab, a_browser, a_tab_in
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


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    with a_browser() as made:
        yield made


@pytest.fixture
async def tab(browser: str) -> AsyncIterator[Tab]:
    async with a_tab_in(browser) as made:
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


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to which nothing is sent."""
    with a_daemon(tmp_path_factory.mktemp("idle"), TARGETS.format(url="http://127.0.0.1:1")) as made:
        yield made


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
    await tab.shows(ROWS, lambda rows: rows["orders"][STATE] == "■ held (credentials)")
    text = await tab.evaluate(TEXT)
    assert "Action needed, not delivering: orders" in text
    assert f"Expired. {ATTACK}" in text
    assert await tab.evaluate("document.querySelector('#summary').getAttribute('role')") == "status"
    sandbox.mend()  # the role of the target beside it is never to be had here
    await tab.shows(ROWS, lambda rows: rows["orders"][STATE] == "● open")
    assert await tab.evaluate("window.owned ?? null") is None
    assert tab.complaints == []


async def test_the_configuration_in_force_is_there_without_its_secrets(tab: Tab, idle: Daemon) -> None:
    await tab.open(f"{idle.admin}/")
    text = await tab.shows("document.querySelector('#config').textContent")
    assert "  audit:\n    kind: eventbridge\n" in text
    assert "      external_id: ***\n" in text
    assert "an-id-that-two-share" not in await tab.evaluate("document.documentElement.outerHTML")


@dataclass
class Crowd:
    """The real page of a daemon with many targets, of which the test says how they are, at any time."""

    status: dict[str, Any]
    named: list[str]
    server: AdminServer
    fails: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.server.address}/"

    def answer(self) -> dict[str, Any]:
        if self.fails:
            raise RuntimeError("a bug")
        return self.status

    def set(self, name: str, **values: Any) -> None:
        self.status["targets"][name].update(values)

    async def look_again(self, tab: Tab) -> None:
        """Wait until the page shows a status that it did not have when this was called."""
        self.status["uptime_seconds"] += 86_400.0
        days = self.status["uptime_seconds"] // 86_400
        await tab.shows(TEXT, lambda text: f"up {days:.0f}d" in text)


@pytest.fixture
async def crowd(idle: Daemon) -> AsyncIterator[Crowd]:
    """200 open targets, ``t000`` to ``t199``, each with every field that a real one has."""
    named = [f"t{n:03}" for n in range(200)]
    status = json.loads(ask(f"{idle.admin}/status"))
    one = status["targets"]["orders"]
    status |= {"targets": {name: deepcopy(one) for name in named}, "uptime_seconds": 0.0}
    metrics, seconds = Metrics(), iter(range(0, 10_000, int(SAMPLE_SECONDS)))
    metrics.history = History(
        lambda: dict.fromkeys(named, Reading(9, 9, 1, 1, 0, 1, 4)), lambda: next(seconds)
    )
    for _ in range(3):
        metrics.history.read_if_due()
    server = AdminServer(metrics, lambda: made.answer(), lambda: True, max_age=0.0)
    made = Crowd(status, named, server)
    await server.start(Listens.parse("127.0.0.1:0"))
    yield made
    await server.close()


def troubled(state: str, reason: str, message: str, **more: Any) -> dict[str, Any]:
    cure = f"Cure of {reason}."
    return {"state": state, "reason": reason, "message": message, "since": 1e9, "cure": cure, **more}


def held(reason: str, message: str, **more: Any) -> dict[str, Any]:
    return troubled("held", reason, message, **more)


REFUSED = troubled("backing_off", "unreachable", "refused")
SENTENCES = (
    "[...document.querySelectorAll('#sentences > li')].map((each) => each.innerText.replace(/\\n+/g, '\\n'))"
)
NAMES = "[...document.querySelectorAll('#targets th')].map((each) => each.textContent)"


async def press(tab: Tab, button: str) -> None:
    await tab.evaluate(f"document.querySelector('#more-{button}').click()")


async def filter_by(tab: Tab, text: str) -> None:
    await tab.evaluate("document.querySelector('#filter').select()")
    await tab.tell("Input.insertText", text=text)


async def test_of_200_targets_those_that_need_a_person_come_first_with_the_cure_beside_the_sentence(
    tab: Tab, crowd: Crowd
) -> None:
    crowd.set("t150", **held("credentials", "ExpiredToken", runbook="docs/runbook.md#held-credentials"))
    crowd.set("t020", **held("operator", "paused by an operator"))
    crowd.set("t120", **REFUSED)
    crowd.set("t080", message="2 events are set aside: no bus", cure="Create it.")
    await tab.open(crowd.url)
    names = await tab.shows(NAMES)
    assert names[:6] == ["t150", "t120", "t080", "t020", "t000", "t001"]
    sentences = await tab.evaluate(SENTENCES)
    assert [each.split("\n") for each in sentences] == [
        [
            "t150, held (credentials) since 2001-09-09 01:46:40 UTC: ExpiredToken",
            "What to do: Cure of credentials. (docs/runbook.md#held-credentials)",
        ],
        [
            "t120, backing off (unreachable) since 2001-09-09 01:46:40 UTC: refused",
            "What to do: Cure of unreachable.",
        ],
        ["t080: 2 events are set aside: no bus", "What to do: Create it."],
        [
            "t020, held (operator) since 2001-09-09 01:46:40 UTC: paused by an operator",
            "What to do: Cure of operator.",
        ],
    ]
    summary = await tab.evaluate("document.querySelector('#summary').textContent")
    assert summary == ("Action needed, not delivering: t150. Paused by an operator: t020. Backing off: t120.")


async def test_what_the_status_says_of_no_target_has_its_cure_too(tab: Tab, crowd: Crowd) -> None:
    crowd.status["clock"] = "the wall clock moved"
    crowd.status["storage"].update(
        trouble="No space left", reason="file_system", cure="Make room.", stranded={"old": 7}
    )
    bus = {"name": "shop", "events": 3, "at_least": False, "since": 1e9, "until": 1e9}
    crowd.set("t007", unconfirmed_buses=[bus])
    await tab.open(crowd.url)
    sentences = [each.split("\n") for each in await tab.shows(SENTENCES)]
    assert [said.split(":")[0] for said, _ in sentences] == ["storage (file_system)", "t007", "old", "clock"]
    assert all(todo.startswith("What to do: ") for _, todo in sentences)
    assert sentences[0][1] == "What to do: Make room."
    assert "docs/runbook.md#forwardereventsunconfirmed" in sentences[1][1]
    assert "7 events on disk" in sentences[2][0]


async def test_one_trouble_of_many_targets_is_one_sentence_and_many_sentences_are_folded(
    tab: Tab, crowd: Crowd
) -> None:
    for name in crowd.named[:150]:
        crowd.set(name, **held("credentials", "ExpiredToken"))
    await tab.open(crowd.url)
    (sentence,) = await tab.shows(SENTENCES)
    assert sentence.startswith("t000, t001, t002 and 147 more targets, held (credentials) since ")
    for number, name in enumerate(crowd.named[:150]):
        crowd.set(name, message=f"another message: {number}")
    await tab.shows(SENTENCES, lambda sentences: len(sentences) == 8)
    await press(tab, "sentences")
    assert len(await tab.evaluate(SENTENCES)) == 150


async def test_many_rows_and_plots_are_folded_and_stay_as_a_person_left_them(tab: Tab, crowd: Crowd) -> None:
    plots = "document.querySelectorAll('#plots > details').length"
    drawn = "document.querySelectorAll('#plots svg[role=img]').length"
    await tab.open(crowd.url)
    assert await tab.shows(NAMES) == crowd.named[:25]
    assert (await tab.shows(plots), await tab.evaluate(drawn)) == (25, 5 * 3)
    await press(tab, "targets")
    await press(tab, "plots")
    await crowd.look_again(tab)
    assert await tab.evaluate(NAMES) == crowd.named
    assert (await tab.evaluate(plots), await tab.evaluate(drawn)) == (200, 5 * 3)
    await press(tab, "targets")
    await crowd.look_again(tab)
    assert await tab.evaluate(NAMES) == crowd.named[:25]
    assert tab.complaints == []


async def test_rows_plots_and_reasons_are_those_that_the_filter_finds_in_the_order_that_was_chosen(
    tab: Tab, crowd: Crowd
) -> None:
    crowd.set("t150", **held("credentials", "ExpiredToken"), waiting=3)
    crowd.set("t120", **REFUSED)
    crowd.set(
        "t130",
        waiting=9,
        reasons={**crowd.status["targets"]["t130"]["reasons"], "refused": {"queue_full": 4}},
    )
    crowd.set("t140", region="us-east-1")
    await tab.open(crowd.url)
    await tab.shows(NAMES)
    for text, found in (
        ("unreach", ["t120"]),
        ("BACKING OFF", ["t120"]),
        ("t1", ["t150", "t120", *(name for name in crowd.named[100:] if name not in ("t150", "t120"))]),
        ("us-east", ["t140"]),
        ("nothing has this", []),
    ):
        await filter_by(tab, text)
        assert await tab.evaluate(NAMES) == found[:25], text
        counted = await tab.evaluate("document.querySelector('#counted').textContent")
        assert counted == f"{len(found)} of 200 targets"
    await crowd.look_again(tab)
    assert (await tab.evaluate(NAMES), len(await tab.evaluate(SENTENCES))) == ([], 2), "what is wrong stays"
    await filter_by(tab, "t13")
    assert (
        await tab.evaluate("document.querySelector('#reasons').innerText")
        == "t130\trefused to the sender\tqueue_full\t4"
    )
    assert (
        await tab.evaluate("[...document.querySelectorAll('#plots summary')].map((each) => each.textContent)")
        == (crowd.named[130:140])
    )
    await filter_by(tab, " ")
    await tab.evaluate("""(() => {
      const order = document.querySelector('#order');
      order.value = 'waiting';
      order.dispatchEvent(new Event('change'));
    })()""")
    assert (await tab.evaluate(NAMES))[:3] == ["t130", "t150", "t000"]


async def test_names_that_are_set_aside_are_unfolded_and_stay_so_with_the_keyboard_on_them(
    tab: Tab, crowd: Crowd
) -> None:
    def aside(events: int) -> dict[str, Any]:
        largest = [
            {"message": f"bus {name} does not exist", "events": events, "cure": cure}
            for name, cure in (("shop", "Create it."), ("mail", "Allow it."))
        ]
        names = {"names": 30, "events": 2 * events, "reasons": {"missing": events}, "largest": largest}
        return {"message": f"{2 * events} events are set aside", "cure": "Create it.", "set_aside": names}

    crowd.set("t007", **aside(5))
    await tab.open(crowd.url)
    (folded,) = await tab.shows(SENTENCES)
    assert "mail" not in folded
    await tab.evaluate("document.querySelector('#sentences summary').focus()")
    await tab.evaluate("document.querySelector('#sentences summary').click()")
    crowd.set("t007", **aside(6))
    await crowd.look_again(tab)
    (sentence,) = await tab.evaluate(SENTENCES)
    assert "bus shop does not exist: 6 events\n" in sentence
    assert "bus mail does not exist: 6 events. What to do: Allow it." in sentence
    assert "and 28 more" in sentence
    assert await tab.evaluate("document.activeElement.parentElement.open") is True


async def test_while_no_answer_comes_what_was_there_stays_and_can_be_filtered(tab: Tab, crowd: Crowd) -> None:
    crowd.set("t150", **held("credentials", "ExpiredToken"))
    await tab.open(crowd.url)
    await tab.shows(LABELS)
    await crowd.server.close()
    summary = "document.querySelector('#summary').textContent"
    said = await tab.shows(summary, lambda text: text.startswith("No answer from the daemon since 20"))
    assert "UTC; what is below is from then" in said
    assert said.endswith(" See docs/runbook.md#forwarderdown.")
    await press(tab, "targets")
    assert len(await tab.evaluate(NAMES)) == 200
    await filter_by(tab, "held")
    assert await tab.evaluate(NAMES) == ["t150"]
    assert len(await tab.evaluate(SENTENCES)) == 1
    assert await tab.evaluate(LABELS)
    assert await tab.evaluate(summary) == said


async def test_a_page_that_never_had_an_answer_says_so(tab: Tab, crowd: Crowd) -> None:
    crowd.fails = True
    await tab.open(crowd.url)
    await tab.shows(TEXT, lambda text: "No answer from the daemon yet (" in text)
    crowd.fails = False
    await tab.shows(TEXT, lambda text: "All targets are open." in text)


async def test_an_answer_that_the_page_cannot_show_is_not_called_none(tab: Tab, crowd: Crowd) -> None:
    del crowd.status["storage"]
    await tab.open(crowd.url)
    await tab.shows(TEXT, lambda text: "This page cannot show the daemon's answer (" in text)


async def test_the_page_of_another_version_is_loaded_again(tab: Tab, crowd: Crowd) -> None:
    await tab.open(crowd.url)
    await tab.shows(NAMES)
    await tab.evaluate("window.old = true")
    crowd.status["version"] = "the next"
    await tab.shows("window.old === undefined && document.querySelectorAll('#targets th').length === 25")
    assert "version the next" in await tab.evaluate(TEXT)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")]
)
async def test_it_can_be_read_on_every_screen_and_in_both_schemes(
    tab: Tab, crowd: Crowd, width: int, scheme: str
) -> None:
    crowd.set("t150", **held("credentials", "ExpiredToken: " + "x" * 300))
    crowd.set("t120", **REFUSED)
    await tab.look(width, 800, scheme=scheme)
    await tab.open(crowd.url)
    await tab.shows(LABELS)
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = await tab.evaluate(CONTRASTS)
    assert len(contrasts) > 300
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
async def hostile(idle: Daemon) -> AsyncIterator[str]:
    """The real page over a status whose every text is an attack: no name of ours could be one."""
    until(lambda: json.loads(ask(f"{idle.admin}/history"))["targets"], "a first reading", idle.log)
    async with aiohttp.ClientSession() as http:
        real: dict[str, Any] = {}
        for name in ("status", "history", "config"):
            async with http.get(f"{idle.admin}/{name}") as told:
                real[name] = await told.json()
    page = AdminServer(Metrics(), dict, lambda: True)
    await page.start(Listens.parse("127.0.0.1:0"))

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
