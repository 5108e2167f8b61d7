"""``forwarder doctor``: would a daemon with this configuration work here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.cli.common import EXIT_NOT_FOUND, EXIT_OK, Arguments, read

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", help="would a daemon work here: settings, storage, the way to AWS")
    parser.add_argument("-c", "--config", required=True, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_doctor)


def _doctor(arguments: Arguments) -> int:
    import asyncio

    import msgspec

    from forwarder import doctor, logs
    from forwarder.config import ConfigError

    logs.configure("error")  # what is found is said in the findings
    try:
        config = read(arguments.config)
    except ConfigError as error:
        findings = [doctor.Finding("FAIL", "configuration", each, "Correct it.") for each in error.problems]
    else:
        findings = asyncio.run(doctor.examine(config))
    print(msgspec.json.encode(findings).decode() if arguments.json else doctor.written(findings))
    return EXIT_OK if doctor.is_well(findings) else EXIT_NOT_FOUND
