"""``forwarder check``: whether a daemon can start with a configuration, and what is probably not meant."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from forwarder.cli.common import Arguments, add_config, needed_config
from forwarder.exit_codes import EXIT_CONFIG, EXIT_OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from forwarder.config import Problem


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("check", help="check a configuration, or print its schema")
    what = parser.add_mutually_exclusive_group()
    add_config(what)
    what.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration")
    parser.add_argument("--json", action="store_true", help="as JSON, on standard output")
    parser.add_argument(
        "--no-files",
        action="store_true",
        help="do not check the files named in settings; for the configuration of another host",
    )
    parser.set_defaults(command=_check)


def _check(arguments: Arguments) -> int:
    if arguments.schema:
        return _print_schema()
    from forwarder.config import ConfigError
    from forwarder.nearest import listed, plural
    from forwarder.validation import validate

    file = needed_config(arguments)
    try:
        validated = validate(file, files=not arguments.no_files)
    except ConfigError as error:
        _say(arguments, file, error.problems, (), 0)
        return EXIT_CONFIG
    _say(arguments, file, (), validated.warnings, len(validated.config.targets))
    if not arguments.json:
        names = list(validated.config.targets)
        print(f"{file} is valid: {plural(len(names), 'target')} ({listed(names)})")
    return EXIT_OK


def _say(
    arguments: Arguments, file: str, problems: Sequence[Problem], warnings: Sequence[Problem], targets: int
) -> None:
    from forwarder.config import located

    if arguments.json:
        _print_json(file, problems, warnings, targets)
        return
    for warning in warnings:
        print(f"warning: {located(file, warning)}", file=sys.stderr)
    for problem in problems:
        print(located(file, problem), file=sys.stderr)
    if len(problems) > 1:
        print(f"{len(problems)} problems in {file}", file=sys.stderr)


def _print_json(file: str, problems: Sequence[Problem], warnings: Sequence[Problem], targets: int) -> None:
    import msgspec

    def told(problem: Problem) -> dict[str, object]:
        return {"path": problem.path, "line": problem.line, "message": problem.message}

    report = {
        "file": file,
        "good": not problems,
        "targets": targets,
        "problems": [told(each) for each in problems],
        "warnings": [told(each) for each in warnings],
    }
    print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())


def _print_schema() -> int:
    import msgspec

    from forwarder.config import json_schema
    from forwarder.targets import option_types

    print(msgspec.json.format(msgspec.json.encode(json_schema(option_types())), indent=2).decode())
    return EXIT_OK
