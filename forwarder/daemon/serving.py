"""One process with one daemon: from the configuration to the exit code."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Iterable
from contextlib import closing

import structlog
import uvloop

from forwarder import aiohttp_private, descriptors, logs, signals, stderr
from forwarder.config import Config, ConfigError, Problem
from forwarder.daemon.process import Daemon
from forwarder.daemon.service_manager import ServiceManager
from forwarder.daemon.start_errors import StartError
from forwarder.daemon.tuning import collect_seldom, give_back_large_blocks, share_interpreter_often
from forwarder.daemon.watchdog import Watchdog
from forwarder.exit_codes import EXIT_CONFIG, EXIT_INTERNAL, EXIT_NOT_NOW, EXIT_OK
from forwarder.sockets import InheritedError, inherited
from forwarder.targets import sdk_private
from forwarder.threads import DaemonThreads
from forwarder.validation import validate


def main(config_path: str) -> int:
    """Run a daemon until it is told to stop; the exit code."""
    with logs.handed_off():
        logs.configure()
        stderr.end_crashes()
        try:
            return _run(config_path)
        except Exception:
            structlog.get_logger("daemon").critical("daemon crashed", exc_info=True)
            return EXIT_INTERNAL


def _run(config_path: str) -> int:
    try:
        validated = validate(config_path)
    except ConfigError as error:
        for line in error.lines(config_path):
            stderr.say(line)
        return EXIT_CONFIG
    config = validated.config
    _forbid_core_dumps()
    give_back_large_blocks()
    collect_seldom()
    share_interpreter_often()
    logs.configure(config.log.level, config.log.format)
    _say_doubts(validated.warnings)
    descriptors.raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, config_path))


def _say_doubts(warnings: Iterable[Problem]) -> None:
    """What is probably not meant; of files that say who may send, their reader logs it."""
    log = structlog.get_logger("daemon")
    for warning in warnings:
        if not warning.path.startswith(("ingest.auth.", "ingest.tls")):
            log.warning("configuration warning", setting=warning.path, reason=warning.message)


def _forbid_core_dumps() -> None:
    """A core dump would write credentials and events to the disk, readable by whoever collects dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


async def _serve(config: Config, path: str) -> int:
    with closing(ServiceManager()) as manager:
        try:
            _check_libraries()
            return await _live(Daemon(config, given=inherited(("ingest", "admin")), path=path), manager)
        except (StartError, ConfigError, InheritedError) as error:
            structlog.get_logger("daemon").error("cannot start", reason=str(error))
            manager.tell(f"cannot start: {error}")
            return EXIT_NOT_NOW if isinstance(error, StartError) and not error.lasting else EXIT_CONFIG


def _check_libraries() -> None:
    """Raises StartError."""
    if problem := aiohttp_private.problem(asyncio.get_running_loop()) or sdk_private.problem():
        raise StartError(problem, lasting=True)


async def _live(daemon: Daemon, manager: ServiceManager) -> int:
    """Start, until it is told to stop, and stop; the exit code."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonThreads())
    loop.add_signal_handler(signal.SIGHUP, daemon.rereading.ask)
    for number in signals.STOPS:
        loop.add_signal_handler(number, daemon.ask_to_stop)
    if signals.stop_noted():
        structlog.get_logger("daemon").info("stopped during start")
        manager.tell("stopped during start")
        return EXIT_OK
    if signals.reload_noted():
        daemon.rereading.ask()
    watchdog = Watchdog(manager, daemon.line, lambda: daemon.alive)
    pings = loop.create_task(watchdog.run(), name="watchdog")
    daemon.tell_changes(watchdog.changed)
    try:
        await daemon.start()
        watchdog.ready()
        daemon.rereading.reloading = manager.reloading  # not sooner: its end says that we are ready
        await daemon.stop_asked.wait()
        watchdog.stopping(daemon.longest_stop)
        code = await daemon.stop()
        watchdog.stopped(daemon.ending)
        return code
    finally:
        pings.cancel()
