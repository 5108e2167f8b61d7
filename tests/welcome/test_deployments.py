"""Every configuration of ``config/`` and ``deploy/``, on volumes as Kubernetes and others provide them.

Invariants:
- Each is started twice on the same volume, the second time by whoever the platform makes it run as then.
- What was accepted is there after the restart, and nothing was refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.authorities import Authority
from tests.welcome.conftest import Record
from tests.welcome.judge import Row, refusals
from tests.welcome.stage import ACCESS_KEYS, BEARER, TOKENS

ROOT = Path(__file__).parents[2]
HOUSE = Path(__file__).parent / "house.py"
USER = 10001
ANY_USER = 1_000_650_000
"""As OpenShift gives one to a project."""

EVENTS = 5


class Volume(NamedTuple):
    """A volume's mode, owner and group, and who starts the daemon, the first time and the second."""

    mode: str
    owner: int
    group: int
    starts: tuple[tuple[int, int], tuple[int, int]]
    umask: str = "022"


SAME = ((USER, USER), (USER, USER))
VOLUMES = {
    "emptyDir 0777": Volume("0777", 0, 0, SAME),
    "fsGroup 2777": Volume("2777", 0, USER, SAME),
    "fsGroup 2775": Volume("2775", 0, USER, SAME),
    "any user of group 0": Volume("0775", 0, 0, ((ANY_USER, 0), (ANY_USER, 0))),
    "another user of group 0": Volume("2775", 0, 0, ((ANY_USER, 0), (ANY_USER + 1, 0))),
    "the image's user, then another of group 0": Volume("2770", USER, 0, ((USER, 0), (ANY_USER, 0))),
    "a user outside group 0, then one of it": Volume("2770", USER, 0, ((USER, USER), (ANY_USER, 0))),
    "the user's own 0700": Volume("0700", USER, USER, SAME, umask="077"),
}
"""The last is what systemd's StateDirectory is, the two before it the image's volume."""

ELSEWHERE = ("any user of group 0", "the user's own 0700")
"""The volumes of a configuration that is no manifest of Kubernetes."""


class Deployment(NamedTuple):
    """A configuration, the environment it is started in, and whether its queue outlives a kill."""

    text: str
    environ: Mapping[str, str] = MappingProxyType({})
    target: str = "orders"
    ingest: str = "127.0.0.1:2780"
    admin: str = "http://127.0.0.1:2781"
    storage: str = "/var/lib/forwarder"
    is_durable: bool = True


def config_map(name: str) -> str:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes" / name).read_text())
    (found,) = (each for each in documents if each["kind"] == "ConfigMap")
    return str(found["data"]["forwarder.yaml"])


def deployments() -> dict[str, Deployment]:
    config = {path.name: path.read_text() for path in (ROOT / "config").glob("*.yaml")}
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    state = {"STATE_DIRECTORY": "/var/lib/forwarder"}
    return {
        "config/minimal.yaml": Deployment(config.pop("minimal.yaml"), state, "events", is_durable=False),
        "config/sidecar.yaml": Deployment(config.pop("sidecar.yaml"), state),
        "config/instance.yaml": Deployment(
            config.pop("instance.yaml"),
            {"INSTANCE": "1"},
            admin="http://127.0.0.1:2791",
            storage="/var/lib/forwarder-1",
        ),
        "config/full.yaml": Deployment(
            config.pop("full.yaml"), {"FORWARDER_STATE": "/var/lib/forwarder"}, is_durable=False
        ),
        "deploy/kubernetes/sidecar.yaml": Deployment(config_map("sidecar.yaml"), target="events"),
        "deploy/kubernetes/statefulset.yaml": Deployment(
            config_map("statefulset.yaml"), target="events", ingest="unix:/run/forwarder/ingest.sock"
        ),
        "deploy/compose.yaml": Deployment(compose["configs"]["forwarder"]["content"]),
        **{f"config/{name}": Deployment(text) for name, text in config.items()},
    }


DEPLOYMENTS = deployments()


def secrets(folder: Path) -> dict[str, str]:
    """The files that full.yaml names, and what its client needs."""
    authority = Authority(folder)
    files = {"tokens": TOKENS, "access-keys": ACCESS_KEYS}
    for name, made in (("tls", authority.issue("server")), ("client", authority.issue("client"))):
        for suffix, path in zip(("crt", "key"), made, strict=True):
            files[f"{name}.{suffix}"] = Path(path).read_text()
    return {**files, "clients.pem": authority.file.read_text(), "server-ca.pem": authority.file.read_text()}


def lived_through(deployment: Deployment, volume: Volume, folder: Path) -> Iterator[dict[str, Any]]:
    """What happened at each start."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost sandbox\n")
    is_full = "/etc/forwarder/tokens" in deployment.text
    text = deployment.text.replace("/etc/forwarder/tls/", "/mnt/forwarder/")
    text = text.replace("/etc/forwarder/", "/mnt/forwarder/")
    # As long as AWS cannot be reached, a stop drains in vain.
    text = re.sub(r"drain_timeout: \d+s", "drain_timeout: 1s", text)
    plan = {
        "hosts": str(hosts),
        "volume": [volume.mode, volume.owner, volume.group],
        "volumes": [deployment.storage, "/run/forwarder"],
        "files": {"forwarder.yaml": text, **(secrets(folder) if is_full else {})},
        "starts": volume.starts,
        "groups": [volume.group] if volume.group else [],
        "umask": volume.umask,
        "command": [sys.executable, "-P", "-m", "forwarder"],
        "environ": {
            **{"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "PYTHONPATH": str(ROOT)},
            **{"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"},
            **deployment.environ,
        },
        "ingest": deployment.ingest,
        "admin": deployment.admin,
        "target": deployment.target,
        "headers": BEARER if is_full else {},
        "events": EVENTS,
        "stops": deployment.is_durable and "drain_timeout" in text,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    ran = subprocess.run(
        [
            "unshare",
            "--mount",
            "--net",
            "--propagation",
            "private",
            sys.executable,
            HOUSE,
            folder / "plan.json",
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr
    return map(json.loads, ran.stdout.splitlines())


def cases() -> Iterator[Any]:
    for name in DEPLOYMENTS:
        is_of_kubernetes = name.startswith("deploy/kubernetes")
        for volume in VOLUMES if is_of_kubernetes else ELSEWHERE:
            yield pytest.param(name, volume, id=f"{name} {volume}")


@pytest.mark.parametrize(("name", "volume"), [*cases()])
def test_a_configuration_starts_on_a_volume_and_again(
    name: str, volume: str, tmp_path: Path, record: Record
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has other users' processes, and mounts and a network of their own")
    deployment = DEPLOYMENTS[name]
    first, *rest = lived_through(deployment, VOLUMES[volume], tmp_path)
    for number, start in enumerate((first, *rest)):
        assert "answer" in start, start["log"]
        assert start["answer"]["status"] == 202, start["answer"]
        assert not refusals(start["metrics"])
        assert start["waits"] == (EVENTS * (number + 1) if deployment.is_durable else EVENTS)
    assert rest, "it was started again"
    assert rest[0]["exit"] in (0, -9)
    record(Row(name, "token" if "tokens:" in deployment.text else "none", volume, 2 * EVENTS, 0))


def test_every_configuration_is_tried() -> None:
    kinds = {path.name for path in (ROOT / "config").glob("*.yaml")}
    assert {f"config/{name}" for name in kinds} <= DEPLOYMENTS.keys()
    with_config = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deploy").rglob("*.yaml")
        if "targets:\n" in path.read_text() and "kind: eventbridge" in path.read_text()
    }
    assert with_config <= DEPLOYMENTS.keys()
