"""When a certificate ends: the one thing that Python's ssl tells of a peer's certificate, but not of our own.

X.509 (RFC 5280, section 4.1) in DER: every value is a tag, a length, and what it holds.

Invariants:
- Whatever the bytes are, the answer is a time or a ValueError.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

SEQUENCE, UTC_TIME, GENERALIZED_TIME, VERSION = 0x30, 0x17, 0x18, 0xA0
_BEGIN = "-----BEGIN CERTIFICATE-----"
_PEM = re.compile(rf"{_BEGIN}.*?-----END CERTIFICATE-----", re.DOTALL)


def ends_at(chain: str) -> float:
    """The end, in seconds since 1970, of the first certificate in PEM: the one that is ours."""
    found = _PEM.search(chain)
    if found is None:
        raise ValueError("it holds no certificate in PEM")
    certificate = ssl.PEM_cert_to_DER_cert(found[0])
    _, whole, _ = _value(certificate)
    tag, fields, _ = _value(whole)
    if fields[:1] == bytes([VERSION]):
        _, _, fields = _value(fields)
    for _ in ("serial number", "signature algorithm", "issuer"):
        _, _, fields = _value(fields)
    tag, validity, _ = _value(fields)
    _, _, rest = _value(validity)
    tag, end, _ = _value(rest)
    return _seconds(tag, end)


def _value(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first value, and what comes after it."""
    if len(data) < 2:
        raise ValueError("the certificate is truncated")
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start])
    if start + size > len(data):
        raise ValueError("the certificate is truncated")
    return tag, data[start : start + size], data[start + size :]


def _seconds(tag: int, time: bytes) -> float:
    text = time.decode("ascii", "replace")
    if tag == UTC_TIME:  # two digits of the year: 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("the certificate is cut off: its last line is missing")
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError("the certificate is cut off: its last line is missing") from None
