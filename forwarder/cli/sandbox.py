"""``forwarder sandbox``: a local stand-in for AWS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from forwarder.cli.common import Arguments
from forwarder.exit_codes import EXIT_OK, EXIT_USAGE
from forwarder.urls import SANDBOX

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sandbox", help="run a local stand-in for AWS that records events and can inject faults"
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help=f"host:port, :port for all addresses, or unix:/path; repeatable (default {SANDBOX})",
    )
    parser.add_argument(
        "--upstream", metavar="URL", help="pass calls without an injected fault on to this EventBridge"
    )
    parser.add_argument("--require-auth", action="store_true", help="refuse unsigned calls")
    parser.add_argument("--no-keep", action="store_true", help="count events without keeping them")
    for option, noun in (("--bus", "event bus"), ("--app-monitor", "app monitor"), ("--project", "project")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="NAME",
            help=f"name of an existing {noun}; repeatable",
        )
    parser.set_defaults(command=_sandbox)


def _sandbox(arguments: Arguments) -> int:
    import asyncio

    from forwarder.sandbox import SandboxSettings, serve
    from forwarder.targets import known_apis

    try:
        settings = SandboxSettings(
            listen=tuple(arguments.listen or [SANDBOX]),
            upstream=arguments.upstream,
            require_auth=arguments.require_auth,
            keep=not arguments.no_keep,
            buses=tuple(arguments.bus),
            app_monitors=tuple(arguments.app_monitor),
            projects=tuple(arguments.project),
            apis=known_apis(),
        )
    except ValueError as error:
        print(f"the sandbox cannot start: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        asyncio.run(serve(settings))
    except (OSError, ValueError) as error:
        print(f"the sandbox cannot listen on {', '.join(settings.listen)}: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK
