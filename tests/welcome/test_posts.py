"""Programs that post JSON with any HTTP library, CloudEvents SDKs and pages in a browser: none is refused.

Invariants:
- Each form of the README is posted: an object, an array, lines, gzip, chunks, Expect, trace headers.
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.browsers import Browser, a_browser
from tests.e2e.environments import debian_program, environment
from tests.e2e.processes import PATIENCE, surroundings
from tests.e2e.programs import CLOUDEVENTS
from tests.e2e.samples import TEXT
from tests.welcome.calls import BURST, LARGE, name
from tests.welcome.stage import BEARER, PATHS, TRACED, Place

HERE = Path(__file__).parent
PROOFS = {"open": "none", "guarded": "token"}
HEADERS: dict[str, dict[str, str]] = {"open": {}, "guarded": BEARER}
LIBRARIES = ("curl", "requests", "httpx", "aiohttp", "fetch of Node")
JSON, LINES = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}
ALIKE = 1_000
"""Events of a request that is worth packing."""

Judge = Callable[..., None]


class Post(NamedTuple):
    """A request and the names of its events."""

    names: list[str]
    headers: dict[str, str]
    body: bytes
    chunked: bool = False


def event(name: str, size: int = 0) -> dict[str, Any]:
    detail = {"name": name, "text": TEXT, "more": "x" * size}
    return {"Source": "welcome", "DetailType": "über", "Detail": detail}


def array(names: list[str], size: int = 0) -> bytes:
    return json.dumps([event(name, size) for name in names]).encode()


def lines(names: list[str]) -> bytes:
    return b"".join(json.dumps(event(name)).encode() + b"\n" for name in names)


def names_of(count: int) -> list[str]:
    return [name() for _ in range(count)]


def posts() -> Iterator[Post]:
    packed = {"Content-Encoding": "gzip"}
    (one,) = names_of(1)
    yield Post([one], JSON, json.dumps(event(one)).encode())
    for headers, make in ((JSON, array), (LINES, lines)):
        names = names_of(ALIKE)
        yield Post(names, {**headers, **packed}, gzip.compress(make(names)))
        names = names_of(100)
        yield Post(names, headers, make(names))
        names = names_of(100)
        yield Post(names, headers, make(names), chunked=True)
    names = names_of(10)
    yield Post(names, {**JSON, **TRACED, "Idempotency-Key": str(uuid.uuid4())}, array(names, LARGE // 10))
    names = names_of(10)
    yield Post(names, {**JSON, "Expect": "100-continue"}, array(names, LARGE // 10))
    for _ in range(BURST):
        names = names_of(1)
        yield Post(names, JSON, array(names))


Send = Callable[[str, list[Post]], list[int]]


def by_curl(url: str, all_posts: list[Post]) -> list[int]:
    """One curl for all of them, which keeps its connection."""
    command: list[str] = ["curl", "-sS"]
    for post in all_posts:
        file = f"/tmp/{uuid.uuid4()}"
        command += ["--next"] if command[-1] != "-sS" else []
        headers = {**post.headers, **({"Transfer-Encoding": "chunked"} if post.chunked else {})}
        for each in headers.items():
            command += ["-H", ": ".join(each)]
        command += ["-o", "/dev/null", "-w", "%{http_code}\n", "--data-binary", f"@{file}", url]
        Path(file).write_bytes(post.body)
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
    finally:
        for argument in command:
            if argument.startswith("@/tmp/"):
                Path(argument[1:]).unlink()
    assert ran.returncode == 0, ran.stderr
    return [int(line) for line in ran.stdout.split()]


def by_library(library: str) -> Send:
    def send(url: str, all_posts: list[Post]) -> list[int]:
        orders = "".join(
            json.dumps(
                {
                    "url": url,
                    "headers": {
                        each: value
                        for each, value in post.headers.items()
                        if library != "fetch of Node" or each != "Expect"  # which it cannot send
                    },
                    "body": base64.b64encode(post.body).decode(),
                    "chunked": post.chunked,
                }
            )
            + "\n"
            for post in all_posts
        )
        ran = subprocess.run(
            command_of(library),
            input=orders,
            env=surroundings(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line)["status"] for line in ran.stdout.splitlines()]

    return send


def command_of(library: str) -> list[str | Path]:
    if library == "fetch of Node":
        return [debian_program("node", "nodejs", "npm"), HERE / "clients" / "posting.mjs"]
    python = environment("httpx") / "python" if library == "httpx" else Path(sys.executable)
    return [python, HERE / "clients" / "posting.py", library]


@pytest.mark.parametrize(("place", "path"), [("open", "direct"), *[("guarded", path) for path in PATHS]])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_program_that_posts_json_is_accepted(
    library: str, place: str, path: str, places: dict[str, Place], judge: Judge
) -> None:
    url = f"{places[place].ways[path]}/v1/targets/orders/events"
    all_posts = [post._replace(headers={**post.headers, **HEADERS[place]}) for post in posts()]
    send = by_curl if library == "curl" else by_library(library)
    assert send(url, all_posts) == [202] * len(all_posts)
    sent = [each for post in all_posts for each in post.names]
    judge(places[place], (library, PROOFS[place], path), sent, ["eventbridge"], ["orders"])


# --- CloudEvents SDKs

MODES = {
    "go": ("binary", "structured", "batch"),
    "java": ("binary", "structured", "binary HttpClient"),
    "javascript": ("binary", "structured", "batch"),
    "python": ("binary", "structured"),
}


@pytest.mark.parametrize(
    ("place", "path"), [("open", "direct"), *[("guarded", path) for path in ("direct", "nginx", "haproxy")]]
)
@pytest.mark.parametrize("language", CLOUDEVENTS)
def test_a_cloudevents_sdk_is_accepted(
    language: str, place: str, path: str, places: dict[str, Place], judge: Judge
) -> None:
    sent: list[str] = []
    for mode in MODES[language]:
        names = names_of(12)
        order = {
            "url": f"{places[place].ways[path]}/v1/cloudevents/orders",
            "mode": mode,
            "events": [cloud_event(each, LARGE if number == 0 else 0) for number, each in enumerate(names)],
            "patience": 0,
            "pause": 0,
            "headers": {**TRACED, **HEADERS[place]},
        }
        ran = subprocess.run(
            CLOUDEVENTS[language](),
            input=json.dumps(order),
            env=surroundings(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        answers = json.loads(ran.stdout)
        assert {each["status"] for each in answers} == {202}, answers
        sent += names
    judge(places[place], (f"CloudEvents {language}", PROOFS[place], path), sent, ["eventbridge"], ["orders"])


def cloud_event(name: str, size: int = 0) -> dict[str, Any]:
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "https://example.com/shop?a=1#b",
        "type": "order.placed",
        "time": "2026-11-21T12:00:00.250000+00:00",
        "datacontenttype": "application/json",
        "traceparent": TRACED["traceparent"],
    }
    return {"attributes": attributes, "data": {"name": name, "more": "x" * size}}


# --- the RUM web client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with a_browser(tmp_path_factory.mktemp("browser") / "driver.log") as browser:
        yield browser


SHOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("open", {}),
    "access key": ("guarded", {"signing": True}),
    "token": ("guarded", {"headers": BEARER}),
}
PAGES = [
    *[("new", proof, "direct") for proof in SHOWN],
    *[("old", proof, "direct") for proof in ("none", "access key")],
    *[(client, "access key", path) for client in ("new", "old") for path in ("nginx", "haproxy")],
]
"""The old client sets no headers, so it gives no token."""


@pytest.mark.parametrize(("client", "proof", "path"), PAGES)
def test_a_page_with_the_rum_web_client_is_accepted(
    client: str, proof: str, path: str, browser: Browser, places: dict[str, Place], judge: Judge
) -> None:
    place, config = SHOWN[proof]
    names = names_of(30)
    with browser.page(client, places[place].ways[path], useBeacon=False, **config) as page:
        for number, each in enumerate(names):
            page.record("order", name=each, note="ä☂" * (2_000 if number < 10 else 1))
        wanted = set(names)

        def is_sent() -> bool:
            posted = "".join(str(each.batch) for each in page.sent() if each.status == 200)
            return all(each in posted for each in wanted)

        page.until(lambda _: is_sent())
        assert {each.status for each in page.sent()} <= {200, None}
    judge(places[place], (f"RUM web client, {client}", proof, path), names, ["rum"], ["web"])
