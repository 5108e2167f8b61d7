"""schemathesis, which reads the OpenAPI document and nothing else, against the running daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.environments import environment
from tests.e2e.processes import PATIENCE, free_port, running, surroundings

HOOKS = Path(__file__).parent / "schemathesis"
EXAMPLES = 15
CONFIG = """\
ingest: {{listen: "{ingest}"}}
admin: {{listen: "{admin}"}}
storage: {{path: "{storage}"}}
shutdown: {{input_grace: 0s, drain_timeout: 0s}}
targets:
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{nobody}"}}
  plain: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{nobody}", buses: [plain], cloudevents: data,
          queue_limits: {{max_bytes: 16MiB}}}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{nobody}", app_monitors: [{monitor}]}}
  flags: {{kind: evidently, region: eu-west-1, endpoint_url: "{nobody}", projects: [shop]}}
"""
MONITOR = "00000000-0000-4000-8000-0000000000aa"
REPRESENTATION = "Prefer: return=representation"
"""Without it a single CloudEvent that was taken has an answer without a body, which OpenAPI cannot say."""


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[str]:
    """The URL of a daemon that has nobody to deliver to: what it is sent need not make sense to AWS."""
    address, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = tmp_path / "forwarder.yaml"
    nobody = f"http://127.0.0.1:{free_port()}"
    storage = tmp_path / "state"
    config.write_text(
        CONFIG.format(ingest=address, admin=admin, storage=storage, nobody=nobody, monitor=MONITOR)
    )
    command: list[str | Path] = [sys.executable, "-m", "forwarder", "run", "-c", config]
    with running(command, f"http://{admin}/health/ready", tmp_path / "daemon.log"):
        yield f"http://{address}"


def run(ingest: str, folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = str(environment("schemathesis") / "schemathesis")
    command = [program, "run", f"{ingest}/v1/openapi.json", "--no-color", "--max-examples", f"{EXAMPLES}"]
    return subprocess.run(
        [*command, "--generation-deterministic", "--header", REPRESENTATION, *options],
        cwd=folder,
        env=surroundings(SCHEMATHESIS_HOOKS="forwarder_hooks", PYTHONPATH=str(HOOKS), **environ),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )


@pytest.mark.parametrize(
    ("options", "environ"),
    [([], {}), (["--exclude-checks", "negative_data_rejection", "--max-examples", "5"], {"LISTS": "yes"})],
    ids=["single events", "lists of events"],
)
def test_every_answer_is_as_described_and_good_data_is_taken_and_bad_refused(
    ingest: str, tmp_path: Path, options: list[str], environ: dict[str, str]
) -> None:
    """All of schemathesis's checks, among them: no 5xx; status, headers and body as described."""
    done = run(ingest, tmp_path, *options, **environ)
    assert done.returncode == 0, done.stdout
    assert "Selected: 8/8" in done.stdout
    assert "Tested: 8" in done.stdout


def test_it_fails_when_the_document_is_wrong(ingest: str, tmp_path: Path) -> None:
    done = run(ingest, tmp_path, "--include-path", "/v1/targets/orders/events", WIDER_DETAIL="yes")
    assert done.returncode == 1, done.stdout
    assert "Schema-valid request rejected" in done.stdout
