"""What the first bytes of a body say, where JSON is expected.

Invariants:
- Pure, and only the first bytes are looked at. What begins as JSON does is not judged here.
- A UTF-8 byte order mark is taken off: nothing else can be meant by it (RFC 8259, section 8.1).
- So is the record separator that begins a JSON text sequence (RFC 7464).
- A packed body, and one in another encoding, is refused by its name, with what to send instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.ingest.errors import SERIALIZATION, BadRequest

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
RECORD_SEPARATOR = b"\x1e"
_JSON = frozenset(b' \t\r\n{["-0123456789tfn')
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x78\x01": "deflate (zlib)",
    b"\x78\x5e": "deflate (zlib)",
    b"\x78\x9c": "deflate (zlib)",
    b"\x78\xda": "deflate (zlib)",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"PK\x03\x04": "ZIP",
}
"""By the bytes with which each begins."""
_ENCODED = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_ACCEPTED = {"gzip": "gzip", "deflate (zlib)": "deflate"}
_MAX_MAGIC = 10


def json_of(body: bytes, codings: Sequence[str] = ()) -> bytes:
    """The body without a byte order mark; BadRequest when it is packed or not in UTF-8.

    ``codings``: what was undone already, by its Content-Encoding.
    """
    if not body or (body[0] in _JSON and body[1:2] != b"\0"):
        return body
    if body.startswith(RECORD_SEPARATOR):
        return body[len(RECORD_SEPARATOR) :]
    if body.startswith(BYTE_ORDER_MARK):
        return json_of(body[len(BYTE_ORDER_MARK) :], codings)
    start = body[:_MAX_MAGIC]
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise BadRequest(400, SERIALIZATION, _packed(name, magic, codings))
    if (encoding := _encoding(start)) is not None:
        raise BadRequest(400, SERIALIZATION, f"The body is in {encoding}. Send JSON in UTF-8.")
    return body


def _encoding(start: bytes) -> str | None:
    """An encoding that is not UTF-8, by its byte order mark, else by the zeros beside an ASCII character."""
    for mark, name in _ENCODED.items():
        if start.startswith(mark):
            return name
    zeros = [byte == 0 for byte in start[:4]]
    if zeros in ([True, True, True, False], [False, True, True, True]):
        return "UTF-32"
    return "UTF-16" if zeros[:2] in ([True, False], [False, True]) else None


def _packed(name: str, magic: bytes, codings: Sequence[str]) -> str:
    begins = f"it begins with the bytes {magic.hex(' ')}"
    if codings:
        said = ", ".join(codings)
        undone = f"after {said} (Content-Encoding) was unpacked"
        return f"The body is {name}, not JSON, {undone}: {begins}. Pack it once."
    coding = _ACCEPTED.get(name)
    if coding is None:
        return f"The body is {name}, not JSON: {begins}. Send it as gzip, deflate, or uncompressed."
    return (
        f"The body is {name}, not JSON: {begins}. Send the header Content-Encoding: {coding} with it, or do "
        "not pack it."
    )
