"""The two references, written from the code: docs/configuration.md and docs/metrics.md (`make generate`).

Invariants:
- Nothing of a setting or a metric is told here: what is not in the code is in no reference.
- What a page says before its mark is written by hand, and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forwarder.config import json_schema
from forwarder.metrics import FAMILIES, Family
from forwarder.metrics.families import PREFIX, VALUES
from forwarder.targets import option_types

HERE = Path(__file__).parent
MARK = "<!-- What follows is generated from the code by `make generate`. -->\n"

CORE = "Core metrics: enough to know whether events arrive, and to alarm on."
FURTHER = "Further metrics: to find out why."

Form = Mapping[str, Any]


def configuration() -> str:
    """Every setting, by group; those of targets last."""
    schema = json_schema(option_types())
    groups = {name: form for name, form in schema["properties"].items() if name != "targets"}
    parts = []
    for name, group in groups.items():
        parts += [f"## `{name}`\n", f"{group['description']}\n", _settings_of_a_group(name, group)]
    kinds = schema["properties"]["targets"]["additionalProperties"]["oneOf"]
    parts.append("## `targets`\n")
    parts.append(_settings_of_targets({form["properties"]["kind"]["const"]: form for form in kinds}))
    return "\n".join(parts)


def _settings_of_a_group(name: str, group: Form) -> str:
    rows = [
        (f"`{setting}`", _allowed(form), default, form.get("description", ""))
        for setting, form, default in _settings(group, f"{name}.")
    ]
    return _table(("setting", "what may stand there", "default", "what it does"), rows)


def _settings_of_targets(kinds: Mapping[str, Form]) -> str:
    by_kind = {
        kind: {name: (form, default) for name, form, default in _settings(group) if name != "kind"}
        for kind, group in kinds.items()
    }
    rows = []
    for name in dict.fromkeys(name for settings in by_kind.values() for name in settings):
        forms = {kind: settings[name][0] for kind, settings in by_kind.items() if name in settings}
        defaults = (settings[name][1] if name in settings else "" for settings in by_kind.values())
        told = {kind: form.get("description", "") for kind, form in forms.items()}
        allowed = {kind: _allowed(form) for kind, form in forms.items()}
        rows.append((f"`{name}`", _of_kinds(allowed), *defaults, _of_kinds(told)))
    return _table(("setting", "what may stand there", *kinds, "what it does"), rows)


def _of_kinds(texts: Mapping[str, str]) -> str:
    """One text when all are equal, else each with its kind."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"*{kind}*: {text.removesuffix('.')}" for kind, text in texts.items())


def _settings(group: Form, prefix: str = "", within: str = "") -> Iterator[tuple[str, Form, str]]:
    """Every setting below a group: its name with dots, its form, its default as a cell."""
    for name, form in group["properties"].items():
        if "properties" in form:
            yield from _settings(form, f"{prefix}{name}.", f" with `{prefix}{name}`")
            continue
        if name in group.get("required", ()):
            yield prefix + name, form, f"required{within}"
        else:
            yield prefix + name, form, _default(form.get("default"))
        for each in form.get("anyOf", ()):
            if "properties" in each:
                yield from _settings(_own(each), f"{prefix}{name}.", f" with `{_kind_in(each)}`")


def _own(form: Form) -> Form:
    """The form of one kind, without what says which kind it is."""
    own = {name: each for name, each in form["properties"].items() if name != "kind"}
    return {**form, "properties": own}


def _kind_in(form: Form) -> str:
    return f"{{kind: {form['properties']['kind']['const']}}}"


def _default(default: Any) -> str:
    if isinstance(default, float):
        return f"`{default:g}`"
    if isinstance(default, bool):
        return f"`{default}`".lower()
    return "none" if default in (None, []) else f"`{default}`"


def _allowed(form: Form) -> str:
    """What may stand there, in words; that a value may come from the environment goes without saying."""
    words = []
    for each in form.get("anyOf", [form]) if "title" not in form else [form]:
        if each.get("type") != "null" and "pattern" not in each:
            words.append(_word(each))
    return " or ".join(words)


def _word(form: Form) -> str:
    if "title" in form:
        return str(form["title"]).removeprefix("A ").split(" with its unit")[0]
    if "properties" in form:
        return f"`{_kind_in(form)}`"
    if "enum" in form:
        return ", ".join(f"`{value}`" for value in form["enum"])
    if form["type"] == "array":
        return "a list"
    bounds = {"minimum": "at least {}", "exclusiveMinimum": "more than {}", "maximum": "at most {}"}
    limits = [words.format(form[name]) for name, words in bounds.items() if name in form]
    names = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
    return ", ".join([names[form["type"]], *limits])


def metrics() -> str:
    """Every metric, the core ones first."""
    core = [family for family in FAMILIES if family.core]
    further = [family for family in FAMILIES if not family.core]
    parts = ["## Core", CORE, _families(core), "## Further", FURTHER, _families(further).rstrip()]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _families(families: Iterable[Family]) -> str:
    rows = [
        (
            f"`{PREFIX}{family.name}`",
            family.type,
            "; ".join(_label(family, name) for name in family.labels),
            family.help,
        )
        for family in families
    ]
    return _table(("metric", "type", "labels", "what it says"), rows)


def _label(family: Family, label: str) -> str:
    values = VALUES.get((family.name, label), ())
    return f"{label}: {', '.join(f'`{value}`' for value in values)}" if values else label


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_line(heads), f"|{'---|' * len(heads)}", *map(_line, rows)]
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    safe = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(safe)} |"


def page(path: Path) -> str:
    """The page's text as it must be: what is written by hand, and what is generated."""
    by_hand, mark, _ = path.read_text().partition(MARK)
    return f"{by_hand}{mark}\n{PAGES[path.name]()}"


PAGES = {"configuration.md": configuration, "metrics.md": metrics}

if __name__ == "__main__":
    for name in PAGES:
        (HERE / name).write_text(page(HERE / name))
