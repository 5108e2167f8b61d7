"""YAML to settings: every error at once, each naming its path and what is allowed there.

Invariants:
- Unknown keys are refused, and so are duplicate keys: a typing error never becomes a silent default.
- ``${NAME}`` and ``${NAME:-default}`` are replaced in string leaves after the YAML was parsed, so no value
  of the environment can add a key; ``$${`` stands for a plain ``${``.
- Nothing here knows a kind of target: ``kinds`` maps each to the type of its options.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import yaml
from msgspec.structs import replace

from forwarder.addresses import Listens
from forwarder.config.checks import ConfigError, between_targets, problems
from forwarder.config.settings import AdminConfig, Config
from forwarder.config.units import Bytes, Duration

Kinds = Mapping[str, type[msgspec.Struct]]

TARGET_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_PLACE = re.compile(r" - at `\$(?P<tail>.*)`$", re.DOTALL)


def load(path: str | Path, kinds: Kinds, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a file. ``kinds``: each kind of target to the type of its options. Raises ConfigError."""
    return parse(_text(path), kinds, environ)


def admin_listen(path: str | Path, environ: Mapping[str, str] = os.environ) -> Listens:
    """Where a daemon with this file has its admin listener; nothing else is checked. Raises ConfigError."""
    raw = _raw(_text(path))
    reader = _Reader(environ, {})
    return reader.admin(raw.get("admin") if isinstance(raw, dict) else raw).listen


def parse(text: str, kinds: Kinds, environ: Mapping[str, str] = os.environ) -> Config:
    """Read YAML text. Raises ConfigError."""
    raw = _raw(text)
    reader = _Reader(environ, kinds)
    config = reader.config(raw)
    if config is None:
        raise ConfigError(reader.problems)
    return config


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError([f"{path} cannot be read: {reason}"]) from error


def _raw(text: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_problem(error)]) from error
    except (RecursionError, ValueError) as error:  # nested without end; a date like 2024-99-99
        raise ConfigError([f"not YAML that can be read: {error}"]) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "not YAML"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else f"not YAML: {what}"


class _Filled(str):
    """Text that came, at least in part, from the environment: the only text read as a number or a bool."""

    __slots__ = ()


class _Reader:
    """Walks the raw values along the types and collects what is wrong."""

    def __init__(self, environ: Mapping[str, str], kinds: Kinds) -> None:
        self.problems: list[str] = []
        self._environ = environ
        self._kinds = kinds

    def config(self, raw: object) -> Config | None:
        if not isinstance(raw, dict):
            self._say("", f"expected the keys {', '.join(Config.__struct_fields__)}")
            return None
        targets = self._targets(raw.get("targets"))
        config: Config | None = self._struct(Config, {**raw, "targets": {}}, "")
        read = {name: options for name, options in targets.items() if options is not None}
        self.problems += between_targets(read) if config is None else problems(replace(config, targets=read))
        return None if self.problems or config is None else replace(config, targets=targets)

    def admin(self, raw: object) -> AdminConfig:
        read: AdminConfig | None = self._struct(AdminConfig, raw, "admin")
        if read is None:
            raise ConfigError(self.problems)
        return read

    def _targets(self, raw: object) -> dict[str, Any]:
        if not isinstance(raw, dict) or not raw:
            self._say("targets", "expected at least one target: its name, then its kind and options")
            return {}
        return {name: self._target(str(name), options) for name, options in raw.items()}

    def _target(self, name: str, raw: object) -> Any:
        path = f"targets.{name}"
        if not TARGET_NAME.fullmatch(name):
            self._say(path, "a target's name has 1 to 64 of a-z, 0-9, _ and -")
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in self._kinds:
            self._say(f"{path}.kind", f"expected one of {', '.join(self._kinds)}, got {kind!r}")
            return None
        return self._struct(self._kinds[kind], {k: v for k, v in raw.items() if k != "kind"}, path)

    def _struct(self, type_: type[msgspec.Struct], raw: object, path: str, base: object = None) -> Any:
        """``base``: what the keys that are not given keep their values from, where a kind has its own."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        if raw is None:
            raw = {}
        if not isinstance(raw, dict):
            return self._say(path, f"expected the keys {', '.join(fields)}, got {raw!r}")
        before = len(self.problems)
        values = {} if base is None else {name: getattr(base, name) for name in type_.__struct_fields__}
        for key, value in raw.items():
            if key in fields:
                values[fields[key].name] = self._value(fields[key], value, _join(path, key))
            else:
                self._say(_join(path, key), _unknown(key, fields))
        for key in fields:
            if fields[key].required and fields[key].name not in values and key not in raw:
                self._say(_join(path, key), "is required")
        return self._made(type_, values, path) if len(self.problems) == before else None

    def _made(self, type_: Callable[..., Any], values: dict[str, Any], path: str) -> Any:
        try:
            return type_(**values)
        except ValueError as error:  # what a __post_init__ says
            return self._say(path, str(error))

    def _value(self, field: msgspec.structs.FieldInfo, raw: object, path: str) -> Any:
        type_ = field.type
        struct = struct_in(type_)
        if struct is not None and not (raw is None and type(None) in get_args(type_)):
            return self._struct(struct, raw, path, default_struct(field))
        value = self._filled(raw, path)
        if type_ is Listens:
            return self._listens(value, path)
        try:
            return msgspec.convert(
                str(value) if isinstance(value, _Filled) else value,
                type_,
                strict=not isinstance(value, _Filled),
                dec_hook=_parse_unit,
            )
        except msgspec.ValidationError as error:
            return self._say(*_located(str(error), type_, value, path))

    def _listens(self, value: object, path: str) -> Any:
        try:
            return Listens.parse(value)
        except ValueError as error:
            index, separator, problem = str(error).partition("]: ")
            own = index.startswith("[") and separator
            return self._say(f"{path}{index}]", problem) if own else self._say(path, str(error))

    def _filled(self, raw: Any, path: str) -> Any:
        if isinstance(raw, str) and "${" in raw:
            return _Filled(_VARIABLE.sub(lambda match: self._variable(match, path), raw))
        if isinstance(raw, list):
            return [self._filled(each, f"{path}[{i}]") for i, each in enumerate(raw)]
        if isinstance(raw, dict):
            return {key: self._filled(each, _join(path, key)) for key, each in raw.items()}
        return raw

    def _variable(self, match: re.Match[str], path: str) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "${"
        value = self._environ.get(name)
        if value is None and default is None:
            self._say(path, f"the environment has no {name}; ${{{name}:-something}} gives a default")
        return value or default or ""

    def _say(self, path: str, problem: str) -> None:
        if not any(known.startswith(f"{path}: the environment") for known in self.problems):
            self.problems.append(f"{path}: {problem}" if path else problem)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _unknown(key: object, fields: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(key), fields, 1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known: {', '.join(fields)}"


def struct_in(type_: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field's type is, or is beside None."""
    for each in (type_, *get_args(type_)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def default_struct(field: msgspec.structs.FieldInfo) -> msgspec.Struct | None:
    """The Struct a field has when it is not given."""
    made = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return made if isinstance(made, msgspec.Struct) else None


def _parse_unit(type_: Any, value: object) -> Any:
    if type_ in (Duration, Bytes):
        return value if isinstance(value, type_) else type_.parse(value)
    raise NotImplementedError(f"{type_} in a config type")


def _located(message: str, type_: Any, value: object, path: str) -> tuple[str, str]:
    """Where and what: msgspec's sentence in our words."""
    place = _PLACE.search(message)
    tail = place["tail"] if place else ""
    problem = _PLACE.sub("", message).replace("`", "")
    choices = [repr(each) if each is None else str(each) for each in _choices(type_)]
    if choices:
        problem = f"expected one of {', '.join(choices)}, got {value!r}"
    elif problem.startswith(("Expected str, got", "Expected str | null, got")):
        problem += "; put it in quotes"
    elif "got" not in problem:
        problem += f", got {value!r}"
    return path + tail, problem[:1].lower() + problem[1:]


def _choices(type_: Any) -> Iterator[object]:
    if getattr(type_, "__origin__", None) is Literal:
        yield from get_args(type_)
    else:
        for each in get_args(type_):
            yield from _choices(each)
