"""Bodies that are nearly good: JSON taken apart, broken in a place or several, and written down again.

Invariants:
- The same ``Random`` gives the same bodies.
- Objects are lists of pairs, so that a name can stand twice; text that holds JSON is broken inside as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

MAX_BODY = 64 * 1024
DEPTHS = (5, 100, 990, 998, 999, 1000, 1001, 1002, 1100, 5000, 20_000)
LENGTHS = (1, 127, 128, 129, 255, 256, 257, 500, 501, 1600, 1601, 2048, 2049, 10_000)
TEXTS = (
    "",
    " ",
    "\0",
    "\u2028",
    "é" * 65,
    "𝄞",
    "NaN",
    "null",
    "{}",
    "[]",
    '{"a":1}}',
    "aws.x",
    "a\nb",
    "\x7f",
)
TIMES = ("2026-11-21T10:00:00Z", "2026-11-21", "0000-01-01", "2026-11-21T10:00:00+99:00", "1e3", "-1", "W53")
TOKENS = (
    *(b"null", b"true", b"0", b"-0", b"-1", b"0.1", b"1767323045.678", b"253402300799", b"253402300800"),
    *(
        b"1e308",
        b"1e309",
        b"-1e309",
        b"1e-999",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"01",
        b"+1",
        b".5",
        b"0x1",
    ),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"9" * 5000),
    *(
        b'"\\ud83d"',
        b'"\\udc00\\ud800"',
        b'"\\uD83D\\uDE00"',
        b'"\\x"',
        b'"\\u12"',
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
    ),
    *(
        b'"\xc0\x80"',
        b'"\xf5\x80\x80\x80"',
        b'"\x01"',
        b"'a'",
        b"{}",
        b"[]",
        b"{,}",
        b"[1,]",
        b"",
        b"//",
        b"undefined",
    ),
)
MARKS = b'{}[]":,\\/ \t\r\n\0u0123456789eE+-.\xff\x80\xc3'


class Token(bytes):
    """JSON, or what looks like it, as it is to be written."""


class Pairs(list[tuple[str, Any]]):
    """An object, in which a name can stand twice."""


def bodies(random: Random, seeds: list[bytes]) -> Callable[[], bytes]:
    """Gives another body at every call."""
    trees = [json.loads(seed, object_pairs_hook=Pairs) for seed in seeds]

    def body() -> bytes:
        kind = random.random()
        if kind < 0.02:
            return random.choice(seeds)
        tree = random.choice(trees)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            tree = broken(random, tree)
        text = dump(tree)
        if kind < 0.3:
            for _ in range(random.choice((1, 1, 2, 5))):
                text = scratched(random, text)[:MAX_BODY]
        return text[:MAX_BODY]

    return body


def lines(random: Random, seeds: list[bytes]) -> Callable[[], bytes]:
    """The same, one to some values a line, most of them unbroken."""
    one = bodies(random, seeds)

    def body() -> bytes:
        many = [
            random.choice(seeds) if random.random() < 0.6 else one() for _ in range(random.randrange(1, 6))
        ]
        return random.choice((b"\n", b"\n", b"\r\n", b"\n\n", b"", b"\r"))[:2].join(many)[:MAX_BODY]

    return body


def broken(random: Random, value: Any) -> Any:
    """A copy of the value, with one thing in it that is other."""
    if isinstance(value, str) and value.startswith("{") and random.random() < 0.6:
        with suppress(ValueError, RecursionError):  # unless it is broken already
            inner = dump(broken(random, json.loads(value, object_pairs_hook=Pairs)))
            return inner.decode("utf-8", "replace")
    if isinstance(value, list) and value and random.random() < 0.85:
        return _inside(random, value)
    return _instead(random, value)


def _inside(random: Random, value: Any) -> Any:
    copy = type(value)(value)
    place = random.randrange(len(copy))
    deed = random.random()
    if deed < 0.07:
        del copy[place]
    elif deed < 0.14:
        part = type(copy)([copy[place]])
        copy[place:place] = part * min(random.choice((1, 2, 10, 50)), MAX_BODY // len(dump(part)))
    elif isinstance(copy, Pairs):
        name, member = copy[place]
        if deed < 0.2:
            copy.insert(random.randrange(len(copy)), (name, broken(random, member)))
        elif deed < 0.26:
            copy[place] = (random.choice((name.lower(), name + "x", "", "n" * 1000, "é")), member)
        else:
            copy[place] = (name, broken(random, member))
    else:
        copy[place] = broken(random, copy[place])
    return copy


def _instead(random: Random, value: Any) -> Any:
    kind = random.randrange(7)
    if isinstance(value, str) and random.random() < 0.6:
        kind = random.choice((1, 2))
    if kind == 0:
        return deep(random)
    if kind == 1:
        return random.choice('aé𝄞\\"{') * random.choice(LENGTHS)
    if kind == 2:
        return random.choice(TEXTS + TIMES)
    if kind == 3:
        return random.choice((Pairs([("a", value)]), [value], dump(value).decode("utf-8", "replace")))
    return Token(random.choice(TOKENS))


def deep(random: Random) -> Any:
    """Nesting around every limit there is, closed or not, as JSON or as the text of it."""
    depth = random.choice(DEPTHS)
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"a":[', b"]}")))
    core = random.choice((b"1", b"", b'"\\"', b'"' + b'\\"' * 300, b'"\\ud800"', b"{"))
    text = opening * depth + core + closing * random.choice((depth, depth, depth, depth - 1, 0))
    return Token(text) if random.random() < 0.4 else text.decode()


def scratched(random: Random, text: bytes) -> bytes:
    """Other bytes, whatever they mean."""
    place, end = sorted(random.randrange(len(text) + 1) for _ in range(2))
    match random.randrange(7):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + bytes([random.choice(MARKS)]) + text[place:]
        case 2:
            flipped = bytes([text[place] ^ 1 << random.randrange(8)]) if place < len(text) else b""
            return text[:place] + flipped + text[place + 1 :]
        case 3:
            return text[:place] + text[end:]
        case 4:
            return text[:end] + text[place:end] * random.choice((1, 2, 20)) + text[end:]
        case 5:
            return random.choice((b"\xef\xbb\xbf", b"\n ", b"\0", b"[", b"{}")) + text
        case _:
            return text + random.choice((b"\0", b"]", b"}", b" \n", b",", b"{}", text[:200]))


def dump(value: Any) -> bytes:
    """Compact JSON of it."""
    if isinstance(value, Token):
        return value
    if isinstance(value, Pairs):
        return b"{%b}" % b",".join(
            [json.dumps(name).encode() + b":" + dump(member) for name, member in value]
        )
    if isinstance(value, list):
        return b"[%b]" % b",".join([dump(member) for member in value])
    return json.dumps(value, ensure_ascii=isinstance(value, str) and len(value) % 2 == 0).encode(
        "utf-8", "surrogatepass"
    )
