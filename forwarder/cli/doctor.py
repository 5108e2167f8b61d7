"""``forwarder doctor``: would a daemon with this configuration work here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.cli import service
from forwarder.cli.common import Arguments, add_config, needed_config
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_OK

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor", help="check configuration, storage, credentials and connectivity on this host"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--service",
        metavar="UNIT",
        help="check as this systemd unit runs: with its environment, user and credentials",
    )
    parser.set_defaults(command=_doctor)


def _doctor(arguments: Arguments) -> int:
    if arguments.service is not None:
        return service.doctor_as(arguments.service, arguments.config or "", arguments.json)
    import asyncio

    import msgspec

    from forwarder import doctor, logs
    from forwarder.config import ConfigError, located
    from forwarder.validation import validate

    file = needed_config(arguments)
    logs.configure("error")  # what is found is said in the findings
    try:
        validated = validate(file, files=False)  # the doctor looks at them itself
    except ConfigError as error:
        findings = [
            doctor.Finding("FAIL", "configuration", located(file, each), "Correct it.")
            for each in error.problems
        ]
    else:
        findings = asyncio.run(doctor.examine(validated.config))
    print(msgspec.json.encode(findings).decode() if arguments.json else doctor.format_findings(findings))
    return EXIT_OK if doctor.is_well(findings) else EXIT_INCOMPLETE
