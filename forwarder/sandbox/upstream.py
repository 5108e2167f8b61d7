"""Another EventBridge behind the sandbox, such as moto: gets every call, and every entry, that no fault hits.

Invariants:
- What it is sent is what came in, without the entries that the sandbox failed and without the headers that
  belong to one connection; what it answers to an entry is answered to the caller.
- An answer of any other kind goes back as it is, and nothing of its call is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import aiohttp
import msgspec

from forwarder.apis.put_events import PutEvents
from forwarder.model import Kind, Refusal
from forwarder.sandbox.answers import JSON_1_1, Answer, error

TIMEOUT = aiohttp.ClientTimeout(total=60.0)
_OF_ONE_CONNECTION = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Upstream:
    """One URL, one pool of connections."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._api = PutEvents()
        self._session = aiohttp.ClientSession(timeout=TIMEOUT, skip_auto_headers=("Accept-Encoding",))

    async def close(self) -> None:
        await self._session.close()

    async def put_events(
        self, headers: Mapping[str, str], body: bytes, places: Sequence[int], total: int
    ) -> list[str | Refusal] | Answer:
        """What upstream says of each of these entries of a call; its whole answer if it is no such thing."""
        if len(places) < total:
            body = only(body, places)
        answer = await self.pass_on(headers, body)
        results = self._read(answer, len(places))
        return answer if results is None else results

    async def pass_on(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """A call, and its answer as it is."""
        kept = {name: value for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        try:
            call = self._session.post(self._url, data=BytesIO(body), headers=kept, allow_redirects=False)
            async with call as answer:
                media = answer.headers.get("Content-Type", JSON_1_1)
                extra = {k: v for k, v in answer.headers.items() if k.lower().startswith("x-amz")}
                return Answer(answer.status, await answer.read(), media, extra)
        except (aiohttp.ClientError, TimeoutError) as problem:
            message = f"Upstream {self._url} does not answer: {problem or type(problem).__name__}"
            return error(PutEvents, "ServiceUnavailable", message, 503)

    def _read(self, answer: Answer, count: int) -> list[str | Refusal] | None:
        if answer.status != 200:
            return None
        try:
            parsed = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return None
        outcomes = self._api.read_results(parsed, count)
        if outcomes is None:
            return None
        return [o.aws_id if o.kind is Kind.DELIVERED else Refusal(o.code, o.message) for o in outcomes]


def only(body: bytes, places: Sequence[int]) -> bytes:
    """A PutEvents body with only these of its entries."""
    request = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    entries = msgspec.json.decode(request["Entries"], type=list[msgspec.Raw])
    return msgspec.json.encode({**request, "Entries": [entries[i] for i in places]})
