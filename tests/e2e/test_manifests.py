"""The Kubernetes manifests against Kubernetes' own schemas, which know every key."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.environments import environment

MANIFESTS = Path(__file__).parents[2] / "deploy/kubernetes"
CUSTOM = {"podmonitor.yaml"}
"""Of kinds that Kubernetes itself does not know; tests/repository/test_deploy.py reads these."""


@pytest.mark.parametrize("name", sorted(path.name for path in MANIFESTS.glob("*.yaml")))
def test_a_manifest_has_no_key_that_kubernetes_does_not_know(name: str, tmp_path: Path) -> None:
    if name in CUSTOM:
        return
    done = validated(MANIFESTS / name)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / name
    text = (MANIFESTS / name).read_text()
    wrong.write_text(text.replace("startupProbe", "startProbe").replace("policyTypes", "policyKinds"))
    assert validated(wrong).returncode != 0


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [environment("deploy") / "kubernetes-validate", "--strict", path]
    return subprocess.run(command, check=False, capture_output=True, text=True)
