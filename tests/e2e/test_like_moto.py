"""The same requests to the daemon and to moto, an EventBridge not written by us: equal answers, or why not.

Invariants:
- A difference that is listed and is none any more is a failure too, and so is one that the docs do not tell.
"""

from __future__ import annotations

import gzip
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws_cases import Request, compact
from tests.aws_cases.put_events import ENTRIES, GOOD, HEADERS, SILENTLY_DROPPED, SIZE_LIMIT, WHOLE_CALLS
from tests.e2e.processes import PATIENCE, REGION, a_daemon, a_moto, a_sandbox

TARGET = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}"}}
"""
SIGNED = {
    "Authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20261121/{REGION}/events/aws4_request, "
    "SignedHeaders=host, Signature=00",
}


def of(entries: Any, path: str = "/", method: str = "POST", **more: str) -> Request:
    """A request with these entries, or this body."""
    body = entries if isinstance(entries, bytes) else compact({"Entries": entries})
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in more.items()}}
    return {"method": method, "path": path, "headers": headers, "body": body}


REQUESTS: dict[str, Request] = {
    **{case["name"]: case["request"] for case in (*ENTRIES, *WHOLE_CALLS, *SIZE_LIMIT, *SILENTLY_DROPPED)},
    "a time in whole seconds": of([{**GOOD, "Time": 1767323045}]),
    "a time in ISO 8601": of([{**GOOD, "Time": "2026-01-02T03:04:05Z"}]),
    "a time long ago": of([{**GOOD, "Time": 0}]),
    "JSON 1.0": of([GOOD], Content_Type="application/x-amz-json-1.0"),
    "plain JSON": of([GOOD], Content_Type="application/json"),
    "a charset": of([GOOD], Content_Type="application/x-amz-json-1.1; charset=utf-8"),
    "a bus by its ARN": of(
        [{**GOOD, "EventBusName": f"arn:aws:events:{REGION}:123456789012:event-bus/default"}]
    ),
    "letters of four bytes": of([{**GOOD, "Detail": '{"a":"\U0001f600"}', "Source": "\U0001f600"}]),
    "half a surrogate pair in Detail": of([{**GOOD, "Detail": '{"a":"\\ud83d"}'}]),
    "a name twice in Detail": of([{**GOOD, "Detail": '{"a":1,"a":2}'}]),
    "a name twice in an entry": of(
        b'{"Entries":[{"Source":"","Source":"a","DetailType":"b","Detail":"{}"}]}'
    ),
    "a large number in Detail": of([{**GOOD, "Detail": '{"a":123456789012345678901234567890}'}]),
    "an empty object": of([{**GOOD, "Detail": "{}"}]),
    "blanks around Detail": of([{**GOOD, "Detail": ' {"a":1}\n'}]),
    "blanks only": of([{**GOOD, "Detail": "  "}]),
    "Source is of blanks": of([{**GOOD, "Source": " "}]),
    "all good, bad, good, bad": of([GOOD, {}, GOOD, {**GOOD, "Detail": "{"}]),
    "twelve entries": of([GOOD] * 12),
    "no body": of(b""),
    "a list": of(b"[]"),
    "an entry that is no object": of([1]),
    "Source is a number": of([{**GOOD, "Source": 7}]),
    "a time that is none": of([{**GOOD, "Time": "yesterday"}]),
    "an endpoint that is none": of(compact({"EndpointId": "nobody", "Entries": [GOOD]})),
    "an empty bus": of([{**GOOD, "EventBusName": ""}]),
    "a bus that is no name": of([{**GOOD, "EventBusName": "my bus"}]),
    "an empty trace header": of([{**GOOD, "TraceHeader": ""}]),
    "a thousand and one levels": of([{**GOOD, "Detail": '{"a":' * 1001 + "1" + "}" * 1001}]),
    "gzip": of(gzip.compress(compact({"Entries": [GOOD]})), Content_Encoding="gzip"),
    "another operation": of(b"{}", X_Amz_Target="AWSEvents.PutSurprises"),
    "partner events": of(b'{"Entries":[]}', X_Amz_Target="AWSEvents.PutPartnerEvents"),
    "PUT": of([GOOD], method="PUT"),
}

RECORDED = "AWS says MalformedDetail, as recorded there on 2025-01-08; moto takes any JSON, and NaN"
COUNTED = "AWS refuses calls of 1 MiB and more (user guide); moto does not count"
UNREADABLE = "AWS says SerializationException; moto fails with 500 and a page in HTML"
TYPES = "AWS says SerializationException for members of another type; moto does not look"
FORMS = "AWS's reference gives the member's form; moto does not check it"
DIFFERENT: dict[str, str] = {
    **dict.fromkeys(("Detail is '[]'", "Detail is '\"str\"'", "Detail is 'null'"), RECORDED),
    "Detail is '{\"a\":NaN}'": RECORDED,
    "bad entries cost no good ones, and the order is kept": RECORDED,
    "a thousand and one levels": "the reference allows 1,000 levels; moto fails with 500 and a page in HTML",
    "a source of AWS's own": "AWS says NotAuthorizedForSourceException (reference); moto takes it",
    "no entries": "AWS takes 1 to 10 entries (reference); moto takes none as well",
    "one entry, one byte more than the limit": COUNTED,
    "ten entries, one byte more than the limit": COUNTED,
    "a time tips the scale": COUNTED,
    "one letter more": COUNTED,
    "not JSON": UNREADABLE,
    "no body": UNREADABLE,
    "a list": UNREADABLE,
    "Entries is no list": UNREADABLE,
    "an entry that is no object": UNREADABLE,
    "Detail is an object": TYPES,
    "Source is a number": TYPES,
    "a time that is none": TYPES,
    "an endpoint that is none": FORMS,
    "an empty bus": FORMS,
    "a bus that is no name": FORMS,
    "an empty trace header": FORMS,
    "129 characters of DetailType": "AWS and moto say success, and AWS drops the event: we refuse it",
    "a bus that does not exist": "AWS says success and drops the event (recorded); moto refuses the call",
    "another operation": "AWS says UnknownOperationException; moto fails with 500 and a page in HTML",
    "partner events": "another operation, which is for partners of AWS and not taken here; moto has it",
    "PUT": "the protocol has POST alone; moto does not look at the method",
}
"""What moto says otherwise, and why we do not."""


@dataclass(frozen=True)
class Said:
    """An answer, without what is another in each."""

    status: int
    code: str
    message: str
    results: tuple[tuple[str, str] | None, ...]


def ask(url: str, request: Request) -> Said:
    made = urllib.request.Request(
        url + request["path"], request["body"], {**request["headers"], **SIGNED}, method=request["method"]
    )
    try:
        with urllib.request.urlopen(made, timeout=PATIENCE) as answer:
            return said(answer.status, answer.read())
    except urllib.error.HTTPError as problem:
        with problem:
            return said(problem.code, problem.read())


def said(status: int, body: bytes) -> Said:
    try:
        answer = json.loads(body)
    except ValueError:
        return Said(status, "", body[:200].decode("utf-8", "replace"), ())
    results = tuple(
        (row["ErrorCode"], row["ErrorMessage"]) if "ErrorCode" in row else None
        for row in answer.get("Entries", [])
    )
    code = str(answer.get("__type", "")).rpartition("#")[2]
    message = re.sub(r"Value '\[.*\]' at", "Value '[...]' at", str(answer.get("message", "")))
    return Said(status, code, message, results)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a daemon, which sends to a sandbox, and of moto."""
    folder = Path(tmp_path_factory.mktemp("moto"))
    with (
        a_moto(folder) as moto,
        a_sandbox(folder, "--bus", "no-such-bus") as sandbox,
        a_daemon(folder, TARGET.format(url=sandbox.url)) as daemon,
    ):
        yield daemon.url, moto


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_as_moto_answers_it_or_there_is_a_reason(
    name: str, both: tuple[str, str]
) -> None:
    ours, motos = (ask(url, REQUESTS[name]) for url in both)
    if name in DIFFERENT:
        assert ours != motos, "it is no difference any more"
    else:
        assert ours == motos


def test_the_differences_and_their_reasons_are_told() -> None:
    told = (Path(__file__).parents[2] / "docs" / "aws-wire.md").read_text()
    names: dict[str, list[str]] = {}
    for name, reason in DIFFERENT.items():
        names.setdefault(reason, []).append(name)
    rows = [f"| {'; '.join(of_it)} | {reason} |" for reason, of_it in names.items()]
    assert "\n".join(rows) in told
    assert DIFFERENT.keys() <= REQUESTS.keys()
