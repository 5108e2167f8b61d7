"""Every AWS client of docs/clients.md, with its proof, direct and through proxies: none is refused.

Invariants:
- A client tries once: a refusal that a second try would hide is an error here.
- Direct calls carry the trace header that SDKs add after signing where the environment names a trace; a proxy
  adds more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.programs import ENDPOINTS, KINDS, OLDER_KINDS, Kind, Program, a_program
from tests.e2e.samples import TARGETS
from tests.welcome.calls import BURST, all_calls, call, name
from tests.welcome.stage import PATHS, SIGNED, TRACED, Place

ALL = (*KINDS, *OLDER_KINDS)
PROOFS = {"open": "none", "guarded": "access key"}
TRACE = {
    "AWS_LAMBDA_FUNCTION_NAME": "welcome",
    "_X_AMZN_TRACE_ID": TRACED["X-Amzn-Trace-Id"],
}
"""An SDK that finds these adds X-Amzn-Trace-Id, and does not sign it."""

Judge = Callable[..., None]


def put_all(kind: Kind, program: Program, burst: int = BURST) -> list[str]:
    """Have it make every call; the names of the events, all of which were accepted."""
    sent: list[str] = []
    burst = 1 if kind.client.name.startswith("aws-cli") else burst  # a process for each call
    for names, params in all_calls(kind.api, burst):
        said = program(params)
        assert said.error is None, said.error
        answer = said.answer or {}
        assert not answer.get("failedEntryCount", 0), answer
        assert not answer.get("failedEventCount", 0), answer
        sent += names
    return sent


@pytest.mark.parametrize("place", PROOFS)
@pytest.mark.parametrize("kind", ALL, ids=str)
def test_a_client_is_accepted(kind: Kind, place: str, places: dict[str, Place], judge: Judge) -> None:
    environ = {**TRACE, **(SIGNED if place == "guarded" else {})}
    with a_program(kind, places[place].ways["direct"], 1, **environ) as program:
        sent = put_all(kind, program)
    judge(places[place], (str(kind), PROOFS[place], "direct"), sent, [kind.api], [TARGETS[kind.api]])


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.api == "eventbridge"], ids=str)
def test_a_client_that_signs_is_accepted_behind_a_proxy(
    kind: Kind, path: str, places: dict[str, Place], judge: Judge
) -> None:
    place = places["guarded"]
    with a_program(kind, place.ways[path], 1, **SIGNED) as program:
        sent = put_all(kind, program)
    judge(place, (str(kind), "access key", path), sent, [kind.api], [TARGETS[kind.api]])


# --- curl, which signs by itself


@pytest.mark.parametrize("path", PATHS)
def test_curl_signs_and_is_accepted(
    path: str, places: dict[str, Place], judge: Judge, tmp_path: Path
) -> None:
    place, sent = places["guarded"], list[str]()
    for number, (names, params) in enumerate(all_calls("eventbridge", 3)):
        body = tmp_path / f"{number}.json"
        body.write_text(json.dumps(params))
        ran = subprocess.run(
            [
                *("curl", "-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:eu-west-1:events"),
                *("--user", f"{SIGNED['AWS_ACCESS_KEY_ID']}:{SIGNED['AWS_SECRET_ACCESS_KEY']}"),
                *(
                    "-H",
                    "Content-Type: application/x-amz-json-1.1",
                    "-H",
                    "X-Amz-Target: AWSEvents.PutEvents",
                ),
                *("--data-binary", f"@{body}", place.ways[path]),
            ],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert json.loads(ran.stdout)["FailedEntryCount"] == 0
        sent += names
    judge(place, ("curl --aws-sigv4", "access key", path), sent, ["eventbridge"], ["orders"])


# --- names of /etc/hosts

IN_ITS_OWN_HOSTS = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.api == "rum"], ids=str)
def test_a_client_finds_the_daemon_by_a_name_of_etc_hosts_and_puts_its_prefix_before_it(
    kind: Kind, places: dict[str, Place], judge: Judge, tmp_path: Path
) -> None:
    """As docs/clients.md tells: no client is changed, and ``dataplane.NAME`` is the daemon too."""
    if os.geteuid() != 0:
        pytest.skip("only root may have names of its own in /etc/hosts")
    place = places["guarded"]
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost ingest.local dataplane.ingest.local\n")
    url = place.ways["direct"].replace("127.0.0.1", "ingest.local")
    environ = {**SIGNED, ENDPOINTS["rum"]: url, "AWS_DISABLE_HOST_PREFIX_INJECTION": "false"}
    namespace: list[str | Path] = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        IN_ITS_OWN_HOSTS,
        "sh",
        hosts,
    ]
    command = list(kind.client.command())
    inside = Kind(
        type(kind.client)(kind.client.name, kind.client.apis, lambda: [*namespace, *command]), "rum"
    )
    with a_program(inside, url, 1, **environ) as program:
        names = [name(), name()]
        said = program(call("rum", names))
    assert said.error is None, said.error
    judge(place, (str(kind), "access key", "name in /etc/hosts"), names, ["rum"], ["web"])
