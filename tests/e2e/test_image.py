"""The image as it is shipped: built from the Dockerfile, run as an engine would, through ``make run``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import image
from tests.e2e.environments import environment

HERE = Path(__file__).parent
IN_IMAGE = HERE / "in_image.sh"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    image.build()
    with image.files() as mounted:
        yield mounted


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [IN_IMAGE, root, *command], check=False, capture_output=True, text=True, timeout=120
    )


def test_the_dockerfile_has_no_findings() -> None:
    done = subprocess.run(
        [environment("deploy") / "hadolint", image.PROJECT / "Dockerfile"], check=False, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_started_image_passes_the_check_of_make_run(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path("/tmp") / f"forwarder-image-{os.getpid()}"  # a place that its user may reach
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    command: list[str | Path] = [sys.executable, HERE / "demo.py", "--folder", folder]
    command += ["--forwarder", f"{IN_IMAGE} {root} forwarder"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
    print(done.stdout, done.stderr, f"{image.size_mb() - image.size_mb(image.BASE):.0f} MB beside its base")
    assert done.returncode == 0
    assert "Every accepted event arrived." in done.stdout
    assert '"message":"stopped, nothing lost"' in done.stderr  # by a SIGTERM to PID 1


def test_it_runs_as_its_own_user_and_writes_nowhere_but_in_its_volume(root: Path) -> None:
    script = "id -u; id -g; touch /opt/forwarder/x /etc/x 2>/dev/null && echo written; touch ./x && echo kept"
    assert run(root, "sh", "-c", script).stdout.split() == ["10001", "0", "kept"]


def test_it_holds_no_package_manager_of_python_and_no_compiler(root: Path) -> None:
    found = [name for name in ("pip", "gcc", "uv") if (root / "opt/forwarder/bin" / name).exists()]
    assert found == []
    assert run(root, "/opt/forwarder/bin/python", "-m", "pip", "--version").returncode != 0


def test_without_a_configuration_it_says_so_and_exits_78(root: Path) -> None:
    done = run(root, "forwarder", "run", "-c", "/etc/forwarder/forwarder.yaml")
    assert done.returncode == 78
    assert "/etc/forwarder/forwarder.yaml" in done.stderr


def test_the_command_of_its_health_check_tells_a_daemon_that_is_not_there(root: Path) -> None:
    command = [
        "unshare",
        "--net",
        str(IN_IMAGE),
        str(root),
        "forwarder",
        "health",
    ]  # the host may have a daemon
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "127.0.0.1:2781" in done.stderr
