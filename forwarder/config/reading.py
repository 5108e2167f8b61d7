"""YAML to settings: every error at once, each naming its path, its line and what is allowed there.

Invariants:
- Unknown keys are refused, and so are duplicate keys: a typing error never becomes a silent default.
- A value that cannot be read hides no other error: its default takes its place while the rest is checked, and
  nothing that depends on it is judged.
- ``${NAME}`` and ``${NAME:-default}`` are replaced in string leaves after the YAML was parsed, so no value
  of the environment can add a key; ``$${`` stands for a plain ``${``.
- Nothing here knows a kind of target: ``kinds`` maps each to the type of its options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from forwarder.addresses import Listens
from forwarder.config.checks import problems
from forwarder.config.document import Document
from forwarder.config.kinds import KIND, Types, kinds_of
from forwarder.config.problem import Checked, ConfigError, Problem, join
from forwarder.config.settings import AdminConfig, Config, IngestConfig, StorageConfig
from forwarder.config.values import Filled, convert, holds, item_type, one_of, shown_value
from forwarder.nearest import did_you_mean, nearest
from forwarder.sockets import url_of

Kinds = Types
Further = Callable[[Config], Iterable[Problem]]
T = TypeVar("T", bound=msgspec.Struct)

TARGET_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_BAD = object()
"""Stands for a value that could not be read."""


def load(
    path: str | Path,
    kinds: Kinds,
    environ: Mapping[str, str] = os.environ,
    further: Further | None = None,
) -> Config:
    """Read a file. ``kinds``: each kind of target to the type of its options. ``further``: what else can be
    wrong with a configuration; it must bear one in which defaults stand for what could not be read.

    Raises ConfigError.
    """
    return parse(_text(path), kinds, environ, Path(path).absolute().parent, further)


def urls_from(path: str | Path, listener: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Where clients reach the ``ingest`` or ``admin`` listener of a daemon with this file; no more is read.

    Raises ConfigError.
    """
    if listener == "admin":
        return [url_of(each) for each in _section(path, listener, AdminConfig, environ, ("listen",)).listen]
    ingest = _section(path, listener, IngestConfig, environ, ("listen", "tls"))
    return [url_of(each, "http" if ingest.tls is None else "https") for each in ingest.listen]


def storage_of(path: str | Path, environ: Mapping[str, str] = os.environ) -> StorageConfig:
    """Where a daemon with this file has its storage; nothing else is read. Raises ConfigError."""
    return _section(path, "storage", StorageConfig, environ)


def _section(
    path: str | Path, name: str, type_: type[T], environ: Mapping[str, str], only: Iterable[str] = ()
) -> T:
    document = Document(_text(path))
    reader = _Reader(environ, {}, Path(path).absolute().parent)
    raw = document.value.get(name) if isinstance(document.value, dict) else document.value
    if only and isinstance(raw, dict):
        raw = {key: value for key, value in raw.items() if key in only}
    read: T = reader.struct(type_, raw, name)
    _raise(reader.problems, document)
    return read


def parse(
    text: str,
    kinds: Kinds,
    environ: Mapping[str, str] = os.environ,
    base: Path | None = None,
    further: Further | None = None,
) -> Config:
    """Read YAML text. ``base``: the directory that relative paths start from, else the working directory.

    Raises ConfigError.
    """
    document = Document(text)
    reader = _Reader(environ, kinds, base or Path.cwd())
    config = reader.config(document.value, further or (lambda config: ()))
    _raise([*document.problems, *reader.problems], document)
    assert config is not None  # else there was a problem
    return config


def placed(path: str | Path, found: Iterable[Problem]) -> list[Problem]:
    """The same problems with their lines in a file, in its order. Raises ConfigError."""
    problems = list(found)
    return _placed(problems, Document(_text(path))) if problems else []


def _placed(found: Iterable[Problem], document: Document) -> list[Problem]:
    lined = [each if each.line else replace(each, line=document.line(each.path)) for each in found]
    return sorted(lined, key=lambda problem: problem.line or 0)


def _raise(found: Iterable[Problem], document: Document) -> None:
    """Raise ConfigError if anything was found, in the order of the file."""
    if lined := _placed(found, document):
        raise ConfigError(lined)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError([Problem("", f"the configuration cannot be read: {reason}")]) from error


class _Reader:
    """Walks the raw values along the types and collects what is wrong."""

    def __init__(self, environ: Mapping[str, str], kinds: Kinds, base: Path) -> None:
        self.problems: list[Problem] = []
        self._bad: set[str] = set()  # settings whose values are not those of the file
        self._environ = environ
        self._kinds = kinds
        self._base = base

    def config(self, raw: object, further: Further) -> Config | None:
        if not isinstance(raw, dict):
            self._report("", f"must have the keys {', '.join(Config.__struct_fields__)}")
            return None
        targets = self._targets(raw.get("targets"))
        config: Config = self.struct(Config, {**raw, "targets": {}}, "")
        config = replace(config, targets=targets)
        self._judge([*problems(config), *further(config)])
        return config

    def _targets(self, raw: object) -> dict[str, Any]:
        if not isinstance(raw, dict) or not raw:
            self._report("targets", "must have at least one target: its name, then its kind and options")
            return {}
        read = {str(name): self._target(str(name), options) for name, options in raw.items()}
        return {name: options for name, options in read.items() if options is not None}

    def _target(self, name: str, raw: object) -> Any:
        """The options; None for those whose kind is not known, which are checked as the nearest kind's."""
        path = f"targets.{name}"
        if not TARGET_NAME.fullmatch(name):
            self._report(path, f"the name must be 1 to 64 of a-z, 0-9, _ and -, got {shown_value(name)}")
        if not isinstance(raw, dict):
            self._report(path, f"must have the keys of a target, such as kind, got {shown_value(raw)}")
            return None
        return self._of_kind(self._kinds, raw, path)

    def _setting_of_kind(self, kinds: Types, raw: object, path: str) -> Any:
        """The word of one of these kinds, or a mapping with ``kind`` and the options of that kind."""
        if isinstance(raw, dict):
            filled = {KIND: self._filled(raw[KIND], join(path, KIND))} if KIND in raw else {}
            options = self._of_kind(kinds, {**raw, **filled}, path)
        else:
            type_ = self._type_of(kinds, self._filled(raw, path), path)
            options = None if type_ is None else self.struct(type_, {}, path)
        return _BAD if options is None else options

    def _of_kind(self, kinds: Types, raw: Mapping[Any, Any], path: str) -> Any:
        """The options; None for those whose kind is not known, which are checked as the nearest kind's."""
        kind, place = raw.get(KIND), join(path, KIND)
        options = {key: value for key, value in raw.items() if key != KIND}
        if KIND not in raw:
            self._report(place, f"is required: {one_of(list(kinds))}")
            for key in raw:
                if nearest(str(key), [KIND]):
                    self._unknown(path, key, [KIND])
        elif (type_ := self._type_of(kinds, kind, place)) is not None:
            return self.struct(type_, options, path)
        if meant := nearest(str(kind), kinds):
            self.struct(kinds[meant], options, path)
        return None

    def _type_of(self, kinds: Types, kind: object, path: str) -> type[msgspec.Struct] | None:
        """The type of the options of this kind; None if there is no such kind."""
        if isinstance(kind, str) and kind in kinds:
            return kinds[kind]
        if path not in self._bad:  # else a variable that the environment does not have
            near = did_you_mean(kind, kinds) if isinstance(kind, str) else ""
            self._report(
                path, f"must be {one_of(list(kinds))}, got {shown_value(kind)}.{near}".removesuffix(".")
            )
        return None

    def struct(self, type_: type[msgspec.Struct], raw: object, path: str, base: object = None) -> Any:
        """``base``: what the keys that are not given keep their values from, where a kind has its own."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        if raw is not None and not isinstance(raw, dict):
            self._report(path, f"must have the keys {', '.join(fields)}, got {shown_value(raw)}")
            raw = None
        given: dict[Any, Any] = raw or {}
        known = list(filter(None, (type_.__struct_config__.tag_field, *fields)))
        values = {} if base is None else {name: getattr(base, name) for name in type_.__struct_fields__}
        for key, value in given.items():
            if key not in fields:
                self._unknown(path, key, known)
            elif (read := self._value(fields[key], value, join(path, key))) is not _BAD:
                values[fields[key].name] = read
        for key, field in fields.items():
            if field.required and field.name not in values:
                values[field.name] = ""
                if key not in given:
                    self._report(join(path, key), "is required")
        made = type_(**values)
        if isinstance(made, Checked):
            found = [problem.below(path) for problem in made.problems()]
            self._judge(found)
            self._bad.update(each.path for each in found if each.path.endswith("]"))  # one of a list
        return made

    def _unknown(self, path: str, key: object, fields: Sequence[str]) -> None:
        near = nearest(str(key), fields)
        self.problems.append(
            Problem(
                join(path, key),
                f'unknown key. Did you mean "{near}"?'
                if near
                else f"unknown key; known: {', '.join(fields)}",
            )
        )
        if near:  # its value is what was meant there
            self._bad.add(join(path, near))

    def _value(self, field: msgspec.structs.FieldInfo, raw: object, path: str) -> Any:
        type_ = field.type
        if (kinds := kinds_of(type_)) is not None:
            return self._setting_of_kind(kinds, raw, path)
        struct = struct_in(type_)
        if struct is not None and not (raw is None and type(None) in get_args(type_)):
            return self.struct(struct, raw, path, default_struct(field))
        value, item = self._filled(raw, path), item_type(type_)
        if holds(type_, Listens):
            return self._listens(value, path)
        if item is None or not isinstance(value, list):
            return self._converted(value, type_, path)
        items = [self._converted(each, item, f"{path}[{number}]") for number, each in enumerate(value)]
        return ["" if each is _BAD else each for each in items]  # so that each keeps its number

    def _converted(self, value: object, type_: Any, path: str) -> Any:
        if path in self._bad:  # a variable that the environment does not have
            return _BAD
        try:
            return convert(value, type_, self._base)
        except ValueError as error:
            self._report(path, str(error))
            return _BAD

    def _listens(self, value: object, path: str) -> Any:
        """One address or a list of them; each that is bad is said."""
        if not isinstance(value, list) or not value:
            return self._converted(value, Listens, path)
        places = [self._converted(each, Listens, f"{path}[{number}]") for number, each in enumerate(value)]
        return _BAD if _BAD in places else Listens(each for place in places for each in place)

    def _filled(self, raw: Any, path: str) -> Any:
        if isinstance(raw, str) and "${" in raw:
            return Filled(_VARIABLE.sub(lambda match: self._variable(match, path), raw))
        if isinstance(raw, list):
            return [self._filled(each, f"{path}[{i}]") for i, each in enumerate(raw)]
        if isinstance(raw, dict):
            return {key: self._filled(each, join(path, key)) for key, each in raw.items()}
        return raw

    def _variable(self, match: re.Match[str], path: str) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "${"
        value = self._environ.get(name)
        if value is None and default is None:
            near = did_you_mean(name, self._environ)
            self._report(
                path, f"environment variable {name} is not set; set it, or write ${{{name}:-default}}.{near}"
            )
        return value or default or ""

    def _judge(self, found: Iterable[Problem]) -> None:
        """Take over what is wrong between settings, unless it depends on one that could not be read."""
        for problem in list(found):
            if not any(self._is_bad(path) for path in (problem.path, *problem.about)):
                self.problems.append(problem)

    def _is_bad(self, path: str) -> bool:
        within = (f"{path}.", f"{path}[")
        return any(
            bad == path or bad.startswith(within) or path.startswith((f"{bad}.", f"{bad}["))
            for bad in self._bad
        )

    def _report(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message.removesuffix(".")))
        self._bad.add(path)


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
