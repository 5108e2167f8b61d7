"""Requests that botocore signed: the judge of what this side takes for a signature."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.credentials import Credentials
from multidict import CIMultiDict, CIMultiDictProxy

from forwarder.ingest.auth.signature import Request

KEY_ID, SECRET, SESSION_TOKEN = (
    "AKIDEXAMPLE",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "IQoJb3/JpZ2luX2Vj+A==",
)
HOST = "127.0.0.1:2780"
REGION = "eu-west-1"
JSON_1_1 = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
BODY = b'{"Entries":[{"Source":"shop","DetailType":"order","Detail":"{}"}]}'


def by_header(
    url: str = f"http://{HOST}/",
    body: bytes = BODY,
    headers: Mapping[str, str] = JSON_1_1,
    service: str = "events",
    *,
    says_hash: bool = False,
    session_token: str | None = None,
    secret: str = SECRET,
    method: str = "POST",
) -> Request:
    """``says_hash``: with X-Amz-Content-Sha256, as SDKs of some languages do."""
    more = {"X-Amz-Content-SHA256": sha256(body).hexdigest()} if says_hash else {}
    request = AWSRequest(method, url, headers={**headers, **more}, data=body)
    SigV4Auth(Credentials(KEY_ID, secret, session_token), service, REGION).add_auth(request)
    parts = urlsplit(url)
    signed = CIMultiDict({"Host": parts.netloc, **dict(request.headers.items())})
    return Request(method, parts.path, parts.query, CIMultiDictProxy(signed))


def by_query(
    body: bytes = BODY, expires: int = 60, *, says_hash: bool = True, session_token: str | None = None
) -> Request:
    """A presigned URL as the RUM web client makes it for its beacons, signed by botocore's parts.

    botocore's own presigner moves the body into the query, so only its canonical form and key are used.
    """
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    path = "/appmonitors/00000000-0000-4000-8000-0000000000aa"
    now = get_current_datetime().strftime("%Y%m%dT%H%M%SZ")
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        **({"X-Amz-Content-Sha256": sha256(body).hexdigest()} if says_hash else {}),
        "X-Amz-Credential": f"{KEY_ID}/{now[:8]}/{REGION}/rum/aws4_request",
        "X-Amz-Date": now,
        "X-Amz-Expires": str(expires),
        **({"X-Amz-Security-Token": session_token} if session_token else {}),
        "X-Amz-SignedHeaders": "content-type;host",
    }
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query.items())
    request = AWSRequest("POST", f"http://{HOST}{path}?{text}", headers=headers, data=body)
    request.context["timestamp"] = now
    auth = SigV4Auth(Credentials(KEY_ID, SECRET), "rum", REGION)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    signed = CIMultiDictProxy(CIMultiDict({"Host": HOST, **headers}))
    return Request("POST", path, f"{text}&X-Amz-Signature={signature}", signed)
