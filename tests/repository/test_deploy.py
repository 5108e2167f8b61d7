"""What is in ``deploy/`` against what the forwarder really does: ports, paths, timings, configurations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder import __version__
from forwarder.clock import BOOT_ID
from forwarder.config import Config, IngestConfig, Listens, load
from forwarder.descriptors import for_connections
from forwarder.targets import option_types

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
AWS = ROOT / "deploy/aws"
WORKLOADS = {"sidecar.yaml": "Deployment", "statefulset.yaml": "StatefulSet"}
USER = 10001
MARGIN_SECONDS = 10


def documents(name: str) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all((KUBERNETES / name).read_text())}


def pod_of(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = documents(name)[WORKLOADS[name]]["spec"]["template"]["spec"]
    return spec


def sidecar_of(name: str) -> dict[str, Any]:
    (found,) = pod_of(name)["initContainers"]
    assert found["restartPolicy"] == "Always"
    return dict(found)


def config_of(name: str, folder: Path) -> Config:
    (folder / "forwarder.yaml").write_text(documents(name)["ConfigMap"]["data"]["forwarder.yaml"])
    return load(str(folder / "forwarder.yaml"), option_types())


def stop_seconds(config: Config) -> float:
    return float(config.shutdown.input_grace) + float(config.shutdown.drain_timeout)


def port_of(address: object) -> int:
    """Of an address, or of a listener that has one."""
    (text,) = address if isinstance(address, Listens) else (address,)
    return int(str(text).rpartition(":")[2])


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_probes_ask_where_the_daemon_answers_and_mean_different_things(name: str, tmp_path: Path) -> None:
    sidecar, config = sidecar_of(name), config_of(name, tmp_path)
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports == {"admin": port_of(config.admin.listen)}
    probes = {kind: sidecar[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {"admin"}
    assert probes["startup"]["path"] == probes["readiness"]["path"] == "/health/ready"
    assert probes["liveness"]["path"] == "/health/live"


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_grace_period_is_longer_than_a_stop(name: str, tmp_path: Path) -> None:
    wanted = stop_seconds(config_of(name, tmp_path)) + MARGIN_SECONDS
    assert pod_of(name)["terminationGracePeriodSeconds"] >= wanted


@pytest.mark.parametrize("name", WORKLOADS)
def test_volumes_stand_where_the_configuration_says(name: str, tmp_path: Path) -> None:
    sidecar, config = sidecar_of(name), config_of(name, tmp_path)
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    assert mounts["state"] == str(config.storage.parent())
    assert mounts["config"] == "/etc/forwarder"
    (ingest,) = config.ingest.listen
    if ingest.socket_path is not None:
        assert mounts["socket"] == str(Path(ingest.socket_path).parent)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_volume_holds_what_the_storage_may_use(name: str, tmp_path: Path) -> None:
    claims = documents(name)[WORKLOADS[name]]["spec"].get("volumeClaimTemplates")
    if claims:
        size = claims[0]["spec"]["resources"]["requests"]["storage"]
    else:
        (state,) = (volume for volume in pod_of(name)["volumes"] if volume["name"] == "state")
        size = state["emptyDir"]["sizeLimit"]
    most = config_of(name, tmp_path).storage.max_bytes
    assert in_bytes(size) >= int(most) + (64 << 20)  # the log and the ballast are beside it


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_memory_limit_is_the_budget_and_room_for_the_process(name: str, tmp_path: Path) -> None:
    budget = int(config_of(name, tmp_path).ingest.memory_budget)
    assert in_bytes(sidecar_of(name)["resources"]["limits"]["memory"]) >= budget + (100 << 20)


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_runs_as_the_image_does_and_may_do_nothing_else(name: str) -> None:
    context = sidecar_of(name)["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == USER == pod_of(name)["securityContext"]["fsGroup"]
    assert f"USER {USER}:0\n" in (ROOT / "Dockerfile").read_text()
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_image_is_of_this_version(name: str) -> None:
    assert sidecar_of(name)["image"] == f"event-forwarder:{__version__}"


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_token_of_kubernetes_is_in_the_pod(name: str) -> None:
    assert pod_of(name)["automountServiceAccountToken"] is False
    accounts = [each for kind, each in documents(name).items() if kind == "ServiceAccount"]
    assert all(each["automountServiceAccountToken"] is False for each in accounts)


def policy() -> dict[str, Any]:
    spec: dict[str, Any] = documents("networkpolicy.yaml")["NetworkPolicy"]["spec"]
    return spec


@pytest.mark.parametrize("name", WORKLOADS)
def test_only_the_monitoring_namespace_reaches_the_admin_listener(name: str, tmp_path: Path) -> None:
    admin = port_of(config_of(name, tmp_path).admin.listen)
    for rule in policy()["ingress"]:
        opened = [port for port in rule["ports"] if port["protocol"] == "TCP"]
        reaches = any(each["port"] <= admin <= each.get("endPort", each["port"]) for each in opened)
        assert reaches == ("from" in rule)
    labels = documents(name)[WORKLOADS[name]]["spec"]["template"]["metadata"]["labels"]
    assert policy()["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_policy_leaves_every_other_port_of_the_pod_as_it_was(tmp_path: Path) -> None:
    opened = [port for rule in policy()["ingress"] for port in rule["ports"]]
    for protocol in ("TCP", "UDP"):
        ranges = [
            range(each["port"], each.get("endPort", each["port"]) + 1)
            for each in opened
            if each["protocol"] == protocol
        ]
        assert {port for each in ranges for port in each} == set(range(1, 65536))


def test_the_base_image_is_named_by_its_digest() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.13-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:${PYTHON}"}


UNITS = ("forwarder.service", "forwarder@.service")


def unit(name: str) -> dict[str, list[str]]:
    lines = (ROOT / "deploy/systemd" / name).read_text().splitlines()
    found: dict[str, list[str]] = {}
    for key, _, value in (line.partition("=") for line in lines if not line.startswith(("#", "["))):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_bounds_memory_tasks_files_and_core_dumps(name: str) -> None:
    limits, settings = unit(name), IngestConfig()
    assert limits["LimitCORE"] == ["0"]
    assert 64 <= int(limits["TasksMax"][0]) <= 256
    most = int(limits["MemoryMax"][0].removesuffix("M")) << 20
    assert most >= int(settings.memory_budget) + (256 << 20)
    assert "MemoryHigh" not in limits
    assert (
        for_connections(settings.max_connections, int(limits["LimitNOFILE"][0])) == settings.max_connections
    )


@pytest.mark.parametrize("name", UNITS)
def test_the_sandbox_of_the_unit_leaves_the_name_of_the_boot_readable(name: str) -> None:
    """``ProcSubset=pid`` would hide it, and with it whether a file was written in this boot."""
    assert str(BOOT_ID).startswith("/proc/sys/")
    assert "ProcSubset" not in unit(name)


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    return found


def test_the_configuration_in_the_compose_file_is_one_and_its_ports_are_published(tmp_path: Path) -> None:
    (tmp_path / "forwarder.yaml").write_text(compose()["configs"]["forwarder"]["content"])
    config = load(str(tmp_path / "forwarder.yaml"), option_types())
    service = compose()["services"]["forwarder"]
    inside = {int(port.rpartition(":")[2]) for port in service["ports"]}
    assert inside == {port_of(config.ingest.listen), port_of(config.admin.listen)}
    assert all(
        port.startswith("127.0.0.1:")
        for each in compose()["services"].values()
        for port in each.get("ports", [])
    )
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = {
        target.rpartition(":")[0]
        for each in scraped
        for group in each["static_configs"]
        for target in group["targets"]
        if port_of(target) == port_of(config.admin.listen)
    }
    assert names == set(config.admin.hosts) == set(config.ingest.hosts) == {"forwarder"}
    sandbox = compose()["services"]["sandbox"]["command"][-1]
    assert {each.endpoint_url for each in config.targets.values()} == {f"http://sandbox:{port_of(sandbox)}"}
    assert float(service["stop_grace_period"].rstrip("s")) >= stop_seconds(config) + MARGIN_SECONDS


def test_what_the_compose_file_mounts_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (ROOT / "deploy" / source).is_dir(), source


def test_the_application_sends_to_where_the_sidecar_listens(tmp_path: Path) -> None:
    (app,) = pod_of("sidecar.yaml")["containers"]
    variables = {each["name"]: each["value"] for each in app["env"]}
    (listen,) = config_of("sidecar.yaml", tmp_path).ingest.listen
    assert variables["AWS_ENDPOINT_URL_EVENTBRIDGE"] == f"http://{listen}"


def test_the_pod_monitor_finds_the_pods_and_their_port() -> None:
    spec = documents("podmonitor.yaml")["PodMonitor"]["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    for name, kind in WORKLOADS.items():
        labels = documents(name)[kind]["spec"]["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()


def task() -> Iterator[dict[str, Any]]:
    return iter(json.loads((AWS / "ecs-task-definition.json").read_text())["containerDefinitions"])


def test_the_task_starts_the_application_after_the_forwarder_and_stops_it_before(tmp_path: Path) -> None:
    by_name = {each["name"]: each for each in task()}
    forwarder, app = by_name["forwarder"], by_name["app"]
    assert app["dependsOn"] == [{"containerName": "forwarder", "condition": "HEALTHY"}]
    config = load(str(ROOT / "config/sidecar.yaml"), option_types())
    assert forwarder["stopTimeout"] >= stop_seconds(config) + MARGIN_SECONDS
    assert forwarder["user"] == f"{USER}:0"
    (mount,) = forwarder["mountPoints"]
    assert mount["containerPath"] == str(config.storage.parent())
    variables = {each["name"]: each["value"] for each in app["environment"]}
    assert variables["AWS_ENDPOINT_URL_EVENTBRIDGE"] == f"http://{config.ingest.listen.text}"


def test_the_policies_allow_what_is_called_and_nothing_more() -> None:
    actions = {
        path.name: {each["Action"] for each in json.loads(path.read_text())["Statement"]}
        for path in AWS.glob("*-policy.json")
    }
    assert actions == {
        "eventbridge-policy.json": {"events:PutEvents", "events:DescribeEventBus"},
        "rum-policy.json": {"rum:PutRumEvents"},
    }
    for path in AWS.glob("*-policy.json"):
        assert '"*"' not in path.read_text()


def in_bytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * {"Mi": 1 << 20, "Gi": 1 << 30}[unit]
