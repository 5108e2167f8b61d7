"""What is in ``deploy/`` against what the forwarder really does: ports, paths, timings, configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder import __version__
from forwarder.config import Config, load
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
    return int(str(address).rpartition(":")[2])


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
    assert mounts["state"] == str(config.storage.directory())
    assert mounts["config"] == "/etc/forwarder"
    if config.ingest.listen.socket_path is not None:
        assert mounts["socket"] == str(Path(config.ingest.listen.socket_path).parent)


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
    assert f"USER {USER}:{USER}" in (ROOT / "Dockerfile").read_text()
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_image_is_of_this_version(name: str) -> None:
    assert sidecar_of(name)["image"] == f"event-forwarder:{__version__}"


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
    listen = config_of("sidecar.yaml", tmp_path).ingest.listen
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
    assert forwarder["user"] == f"{USER}:{USER}"
    (mount,) = forwarder["mountPoints"]
    assert mount["containerPath"] == str(config.storage.directory())
    variables = {each["name"]: each["value"] for each in app["environment"]}
    assert variables["AWS_ENDPOINT_URL_EVENTBRIDGE"] == f"http://{config.ingest.listen}"


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
