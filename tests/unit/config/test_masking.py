"""What others see of the configuration, and of words that have a secret in them."""

from __future__ import annotations

import json

import msgspec
import pytest
import yaml

from forwarder.config import ConfigError, Secret, parse, redacted, without_secrets
from forwarder.targets import option_types

EXTERNAL_ID = "an-id-that-two-share"
CONFIG = f"""
targets:
  orders:
    kind: eventbridge
    region: eu-west-1
    role: {{arn: "arn:aws:iam::123456789012:role/r", external_id: {EXTERNAL_ID}}}
    timeouts: {{connect: 1500ms}}
    queue_limits: {{max_bytes: 32MiB}}
storage: {{path: /var/lib/forwarder}}
"""


def test_a_secret_is_hidden_and_all_else_is_as_it_would_be_written() -> None:
    told = redacted(parse(CONFIG, option_types(), {}))
    orders = told["targets"]["orders"]
    assert orders["kind"] == "eventbridge"
    assert orders["role"] == {
        "arn": "arn:aws:iam::123456789012:role/r",
        "external_id": "***",
        "session_name": "event-forwarder",
    }
    assert orders["timeouts"] == {"connect": "1500ms", "read": "15s"}
    assert orders["queue_limits"]["max_bytes"] == "32MiB"
    assert told["storage"]["path"] == "/var/lib/forwarder"
    assert EXTERNAL_ID not in json.dumps(told)


def test_what_is_shown_can_be_read_as_a_configuration() -> None:
    config = parse(CONFIG, option_types(), {})
    told = redacted(config)
    told["targets"]["orders"]["role"]["external_id"] = EXTERNAL_ID
    assert parse(yaml.safe_dump(told), option_types(), {}) == config


def test_a_secret_that_is_not_set_is_shown_as_not_set() -> None:
    role = "role: {arn: 'arn:aws:iam::123456789012:role/r'}"
    config = parse(f"targets: {{a: {{kind: eventbridge, {role}}}}}", option_types(), {})
    assert redacted(config)["targets"]["a"]["role"]["external_id"] is None


class Optional(msgspec.Struct):
    plain: str
    first: Secret
    second: Secret | None = None
    url: str = ""


def test_a_secret_is_known_by_its_type_in_every_form() -> None:
    told = redacted(Optional("seen", "hidden-1", "hidden-2", "https://me:hidden-3@host/path?sig=hidden-4"))
    assert told == {"plain": "seen", "first": "***", "second": "***", "url": "https://***@host/path?***"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('could not connect to "http://me:pass@host/" now', 'could not connect to "http://***@host/" now'),
        ("https://me:p@ss@host:1/", "https://***@host:1/"),
        ("x-amz-security-token:a-long-token\nhost:b", "x-amz-security-token:***\nhost:b"),
        ("'X-Amz-Security-Token': 'another+token/=='", "'X-Amz-Security-Token': '***'"),
        ("x-amz-security-token:another\nx-amz-date:1", "x-amz-security-token:***\nx-amz-date:1"),
        ("The key ASIAQWERTYUIOPASDFGH is old.", "The key *** is old."),
        ("the word short stays", "the word short stays"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_words_of_others_are_told_without_the_secrets_in_them(text: str, told: str) -> None:
    assert without_secrets(text, ("a-long-token", "short", None, "")) == told


def test_an_endpoint_with_a_user_is_refused_without_telling_the_password() -> None:
    text = "targets: {a: {kind: eventbridge, region: eu-west-1, endpoint_url: 'https://me:pass-word@host'}}"
    with pytest.raises(ConfigError) as caught:
        parse(text, option_types(), {})
    assert 'without a user, got "https://***@host"' in str(caught.value)
