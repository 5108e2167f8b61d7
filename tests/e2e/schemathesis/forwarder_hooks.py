"""What schemathesis cannot read out of the document: which texts are JSON, and what binary mode needs.

Loaded by schemathesis in its own environment; knows nothing of the forwarder's code.
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3).map(json.dumps)
schemathesis.openapi.format("json-object", OBJECTS)


LISTS = "LISTS" in os.environ
"""Events in lists, or single ones. Of several events a bad one is refused alone, so that the request is
taken: whether bad data is refused, only single events can show."""


@schemathesis.hook  # type: ignore[untyped-decorator] # it lives in another environment
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """OpenAPI cannot say that a media type needs certain headers, what the lines of a text are, that a key
    must not come again with another body, that the region of an ARN is the target's, or that EndpointId
    needs a package which is not installed here."""
    schemas = raw_schema["components"]["schemas"]
    del schemas["eventbridge"]["properties"]["EndpointId"]
    for schema, name in (("eventbridge", "EventBusName"), ("CloudEvent", "eventbusname")):
        schemas[schema]["properties"][name]["anyOf"][0]["pattern"] = r"^[.\-_A-Za-z0-9]+$"
    if "WIDER_DETAIL" in os.environ:  # a lie, for the test that shows that it is found out
        schemas["eventbridge"]["properties"]["Detail"] = {}
    for path in raw_schema["paths"].values():
        post = path["post"]
        post["parameters"] = [each for each in post["parameters"] if each["name"] != "Idempotency-Key"]
        post["requestBody"]["content"] = fitting(post["requestBody"]["content"])
        post["requestBody"]["required"] = True


def fitting(content: dict[str, Any]) -> dict[str, Any]:
    """The media types whose bodies can be made out of their schemas, with lists or without."""
    if "application/json" in content:
        event, events = content["application/json"]["schema"]["anyOf"]
        return {"application/json": {"schema": events if LISTS else event}}
    media = "application/cloudevents-batch+json" if LISTS else "application/cloudevents+json"
    return {media: content[media]}
