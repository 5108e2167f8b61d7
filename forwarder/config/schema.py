"""The JSON Schema of the configuration, for editors; ``config/schema.json`` is its generated copy.

Regenerate it with ``forwarder check --schema > config/schema.json``.

Invariants:
- Made from the types that ``reading`` walks, so that the two cannot disagree. A setting is described in its
  type, by ``msgspec.Meta(description=...)``; a group by the docstring of its Struct.
- Takes what ``reading`` takes: ``${NAME}`` may stand for any single value.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from forwarder.addresses import Listens
from forwarder.config.kinds import Types, description_of, kinds_of, must_be_mapping
from forwarder.config.reading import TARGET_NAME, Kinds, default_struct, struct_in
from forwarder.config.redaction import redacted
from forwarder.config.settings import Config
from forwarder.config.units import Bytes, Duration

_ENVIRONMENT = {"type": "string", "pattern": r"\$\{"}
_UNITS: dict[type, dict[str, Any]] = {
    Duration: {
        "title": "A duration with its unit: 100ms, 2s, 5m, 1h30m, 14d.",
        "anyOf": [{"type": "string"}, {"const": 0}],
    },
    Bytes: {
        "title": "A size with its unit: 512KiB, 64MiB, 1GiB; a plain number is bytes.",
        "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
    },
    Listens: {
        "title": "host:port, :port for all addresses of both families, unix:/path, or a list of these",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    },
}
_UNIT_TITLES = {unit["title"] for unit in _UNITS.values()}


def json_schema(kinds: Kinds) -> dict[str, Any]:
    """The schema of a whole file, with one form of target per kind."""
    schema = _struct(Config)
    schema["properties"]["targets"] = {
        "description": "Each target by its name.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{TARGET_NAME.pattern}$"},
        "additionalProperties": {"oneOf": [_of_kind(kind, options) for kind, options in kinds.items()]},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _of_kind(kind: str, options: type[msgspec.Struct]) -> dict[str, Any]:
    form = _struct(options)
    form["properties"] = {"kind": {"const": kind}, **form["properties"]}
    form["required"] = ["kind", *form.get("required", ())]
    return form


def _struct(type_: type[msgspec.Struct], base: msgspec.Struct | None = None) -> dict[str, Any]:
    """``base``: the Struct whose values are the defaults, where a kind has its own."""
    fields = msgspec.structs.fields(type_)
    required = [field.encode_name for field in fields if field.required and base is None]
    return {
        "description": _purpose(type_),
        "type": "object",
        "properties": {each.encode_name: _field(each, base) for each in fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _purpose(type_: type[msgspec.Struct]) -> str:
    return " ".join(inspect.cleandoc(type_.__doc__ or "").split())


def _field(field: msgspec.structs.FieldInfo, base: msgspec.Struct | None) -> dict[str, Any]:
    if (kinds := kinds_of(field.type)) is not None:
        made = default_struct(field) if base is None else getattr(base, field.name)
        return {"description": description_of(field.type), "anyOf": _forms(kinds), "default": redacted(made)}
    if (struct := struct_in(field.type)) is not None:
        return _struct(struct, getattr(base, field.name, None) or default_struct(field))
    schema = _open_to_environment(msgspec.json.schema(field.type, schema_hook=_UNITS.__getitem__))
    default = field.default if base is None else getattr(base, field.name)
    if default is msgspec.NODEFAULT or default is None:
        return schema
    return {**schema, "default": _text(default)}


def _forms(kinds: Types) -> list[dict[str, Any]]:
    """What a setting of one of these kinds may be: a word, or a mapping."""
    words = [kind for kind, options in kinds.items() if not must_be_mapping(options)]
    return [{"enum": words}, _ENVIRONMENT, *(_of_kind(kind, options) for kind, options in kinds.items())]


def _text(default: Any) -> Any:
    """A default as a file would have it."""
    if isinstance(default, Duration | Bytes):
        return default.text
    return default.setting if isinstance(default, Listens) else default


def _open_to_environment(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, which also allows ``${NAME}`` where the value is not text anyway."""
    description = {"description": schema.pop("description")} if "description" in schema else {}
    forms = schema.get("anyOf", [schema])
    single = any("enum" in form or form.get("type") in ("integer", "number", "boolean") for form in forms)
    if single and schema.get("title") not in _UNIT_TITLES:
        schema = {"anyOf": [*forms, _ENVIRONMENT]}
    return {**description, **schema}
