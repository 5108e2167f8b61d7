"""A daemon with queues on disk that is killed, or stopped, while every client is using it.

The clients change nothing and notice nothing: what they do meanwhile is their SDK's own trying again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any, NamedTuple

import pytest

from tests.e2e.processes import Daemon, Sandbox, a_daemon, free_port, until
from tests.e2e.programs import KINDS, Kind, Said, a_program
from tests.e2e.samples import TARGETS, call, events, on_the_wire

ATTEMPTS = 20
TARGET = """\
  {name}:
    kind: {kind}
    region: eu-west-1
    endpoint_url: "{url}"
    queue: disk
    hold: {{probe: 200ms, probe_cap: 200ms}}
"""
HEAD_BYTES = 65_536
_INVOCATION = re.compile(rb"\r\namz-sdk-invocation-id: *([^\r]+)", re.IGNORECASE)


class Story(NamedTuple):
    """What every client sent in its three calls, what it heard, and all that arrived, by API."""

    sent: dict[Kind, list[dict[str, Any]]]
    heard: dict[Kind, list[Said]]
    arrived: dict[str, list[dict[str, Any]]]


@contextmanager
def nobody_answers(port: int) -> Iterator[set[bytes]]:
    """Where the daemon was, every connection ends without an answer. The invocations that were tried so."""
    tried: set[bytes] = set()
    listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def hang_up() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                tried.update(_INVOCATION.findall(connection.recv(HEAD_BYTES)))

    thread = Thread(target=hang_up)
    thread.start()
    try:
        yield tried
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture(scope="module", params=["killed", "stopped"])
def story(
    request: pytest.FixtureRequest, a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """First call; the daemon ends and nothing has left it; second call; the daemon starts; third call."""
    sandbox, port = a_running_sandbox, free_port()
    sandbox.reset()
    sandbox.order({"fault": "credentials"})
    folder = tmp_path_factory.mktemp("restarted")
    targets = "".join(TARGET.format(name=TARGETS[api], kind=api, url=sandbox.url) for api in TARGETS)
    sent = {kind: events(kind.api, kind.client.name, 3) for kind in KINDS}
    heard: dict[Kind, list[Said]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{port}"
        programs = {kind: stack.enter_context(a_program(kind, url, ATTEMPTS)) for kind in KINDS}

        def put(n: int) -> None:
            for kind, program in programs.items():
                program.put(call(kind.api, [sent[kind][n]]))

        def hear() -> None:
            for kind, program in programs.items():
                heard[kind].append(program.said())

        with a_daemon(folder, targets, port) as daemon:
            put(0)
            hear()
            if request.param == "killed":
                daemon.kill()
        assert all(sandbox.arrived(api) == [] for api in TARGETS), "all of it is on disk"
        with nobody_answers(port) as tried:
            put(1)
            until(lambda: len(tried) == len(programs), "every client to have tried")
        with a_daemon(folder, targets, port) as daemon:
            hear()
            sandbox.mend()
            put(2)
            hear()
            deliver(daemon)
        yield Story(sent, heard, {api: sandbox.arrived(api) for api in TARGETS})


def deliver(daemon: Daemon) -> None:
    for target in TARGETS.values():
        daemon.deliver(target)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_client_outlives_a_restart_and_loses_and_doubles_nothing(kind: Kind, story: Story) -> None:
    assert [said.error for said in story.heard[kind]] == [None] * 3
    sent = [on_the_wire(event) for event in story.sent[kind]]
    mine = [event["entry"] for event in story.arrived[kind.api] if event["entry"] in sent]
    assert sorted(mine, key=sent.index) == sent


def test_nothing_else_arrived(story: Story) -> None:
    arrived = sum(map(len, story.arrived.values()))
    assert arrived == sum(map(len, story.sent.values()))
