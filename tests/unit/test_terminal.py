"""What goes to a terminal cannot move its cursor, and is still the same JSON."""

from __future__ import annotations

import json

import pytest

from forwarder.cli.terminal import json_for_terminal


@pytest.mark.parametrize(
    "hostile",
    [
        "\x7f",
        "\x9b31m",
        "\x9d0;title\x9c",
        "\u202e\u2066",
        "\u200b",
        "\u2028",
        "\ufeff",
        "\u061c",
        "\xad",
        "\u180e",
        "\ufff9",
        "\U000e0041",
    ],
    ids=ascii,
)
def test_a_character_that_controls_a_terminal_is_shown_as_its_escape(hostile: str) -> None:
    text = json.dumps({"message": f"a{hostile}b"}, ensure_ascii=False, indent=2)
    shown = json_for_terminal(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert json.loads(shown) == {"message": f"a{hostile}b"}


def test_other_text_stays_as_it_is() -> None:
    text = json.dumps({"message": "Größe\t日本 😀 עברית"}, ensure_ascii=False, indent=2)
    assert json_for_terminal(text) == text
