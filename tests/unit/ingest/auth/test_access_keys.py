"""The file of access keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.configloader import raw_config_parse

from forwarder.ingest.auth.access_keys import parse

GOOD = """
# of the shop
[shop]
aws_access_key_id = AKIDSHOP
aws_secret_access_key = abc/def+ghi=
[till.2]
aws_access_key_id=AKIDTILL
aws_secret_access_key=%(secret)s;#x
aws_session_token=IQoJb3/JpZ2luX2Vj+A==
"""


def test_a_file_says_what_botocore_reads_in_it(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(GOOD)
    expected = {
        (
            section["aws_access_key_id"],
            name,
            section["aws_secret_access_key"],
            section.get("aws_session_token", ""),
        )
        for name, section in raw_config_parse(str(file)).items()
    }
    read = {(key_id, key.sender, key.secret, key.session_token) for key_id, key in parse(GOOD).items()}
    assert read == expected
    assert len(read) == 2


def section(name: str = "shop", key_id: str = "AKID", secret: str = "secret", more: str = "") -> str:
    return f"[{name}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n{more}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has 0 access keys"),
        ("PLANTED", "line 1 is not in the format"),
        (section() + "PLANTED\n", "line 5 is not in the format"),
        (section(more="PLANTED = 1"), "section 1 must have only"),
        (section(name="PLANTED PLANTED"), "the name of section 1"),
        (section(key_id="PLANTED/x"), "section 1 must have an aws_access_key_id"),
        (section(secret=""), "section 1 must have an aws_secret_access_key"),
        (section(secret="PLANTED PLANTED"), "section 1 must have an aws_secret_access_key"),
        (section(secret="PLANTED\n  PLANTED"), "section 1 must have an aws_secret_access_key"),
        (section(secret="PLANTED\u00e9"), "section 1 must have an aws_secret_access_key"),
        (section() + section(), "line 5 is not in the format"),
        (section() + section("till"), "section 2 has the same aws_access_key_id as another section"),
        (section(more="aws_access_key_id = PLANTED"), "line 4 is not in the format"),
        ("".join(section(f"s{i}", f"A{i}") for i in range(1001)), "it has 1001 access keys"),
    ],
)
def test_a_bad_file_is_told_by_its_place_and_never_by_its_words(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse(text)
    assert "PLANTED" not in f"{caught.value}{caught.value.__cause__}"


def test_a_key_does_not_show_its_secret() -> None:
    [key] = parse(section(secret="PLANTED", more="aws_session_token = PLANTED")).values()
    assert "PLANTED" not in repr(key)
