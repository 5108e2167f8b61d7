"""Bearer tokens: how they are made, kept and known again."""

from __future__ import annotations

from hashlib import sha256

import pytest

from forwarder.ingest.auth.errors import AuthError
from forwarder.ingest.auth.tokens import MAX_TOKENS, make, parse

DIGEST = sha256(b"a token").hexdigest()


def test_a_token_that_was_made_is_known_by_its_line_and_by_no_other() -> None:
    (first, one), (second, two) = make("shop"), make("shop")
    assert first != second
    assert len(first) >= 40
    assert first not in one
    assert parse(one).sender(first) == "shop"
    with pytest.raises(AuthError):
        parse(two).sender(first)


def test_the_line_holds_the_sha256_that_everybody_can_make() -> None:
    token, line = make("shop")
    assert line == f"shop {sha256(token.encode()).hexdigest()}"


def test_several_tokens_are_known_at_once_and_two_may_have_one_name() -> None:
    (old, first), (new, second), (other, third) = make("shop"), make("shop"), make("till")
    tokens = parse(f"# rotated in March\n{first}\n\n  {second}  \n{third}\n")
    assert [tokens.sender(token) for token in (old, new, other)] == ["shop", "shop", "till"]


def test_a_flipped_bit_anywhere_is_refused() -> None:
    token, line = make("shop")
    tokens = parse(line)
    for place in range(len(token)):
        for bit in range(8):
            data = bytearray(token.encode())
            data[place] ^= 1 << bit
            with pytest.raises(AuthError):
                tokens.sender(data.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("token", ["", " ", DIGEST, f"shop {DIGEST}", "\udcff"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(AuthError):
        parse(f"shop {DIGEST}").sender(token)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no token"),
        ("# only words\n", "it has no token"),
        (f"shop {DIGEST}\nPLANTED {DIGEST[1:]}", "line 2 must be a name and the SHA-256 of a token"),
        (f"{DIGEST}", "line 1 must be"),
        ("shop PLANTED", "line 1 must be"),
        (f"shop {DIGEST.upper()}", "line 1 must be"),
        (f"a\u00e9 {DIGEST}", "line 1 must be"),
        (f"shop {DIGEST}\n" * (MAX_TOKENS + 1), f"it must have at most {MAX_TOKENS}"),
    ],
)
def test_a_bad_file_is_told_by_its_line_and_never_by_its_words(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse(text)
    assert "PLANTED" not in str(caught.value)
