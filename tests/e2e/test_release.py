"""What is published: the wheel in an environment of its own, and the source package it can be made from."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from forwarder import __version__

PROJECT = Path(__file__).parents[2]
BUILD = (
    "from flit_core import buildapi as b; import sys; b.build_wheel(sys.argv[1]), b.build_sdist(sys.argv[1])"
)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", BUILD, folder], cwd=PROJECT, check=True)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and its locked requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "-r", PROJECT / "requirements.lock"], check=True)
    subprocess.run([*pip, "--no-deps", next(dist.glob("*.whl"))], check=True)
    return folder / "bin"


def test_the_wheel_alone_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    demo: list[str | Path] = [sys.executable, PROJECT / "tests/e2e/demo.py"]
    demo += ["--forwarder", str(installed / "forwarder")]
    done = subprocess.run(demo, check=False, capture_output=True, text=True, timeout=180, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every accepted event arrived." in done.stdout


def test_the_version_is_the_same_everywhere(installed: Path, dist: Path) -> None:
    said = subprocess.run(
        [installed / "forwarder", "--version"], check=True, capture_output=True, text=True
    ).stdout
    assert said.split()[-1] == __version__
    assert {path.name for path in dist.iterdir()} == {
        f"event_forwarder-{__version__}-py3-none-any.whl",
        f"event_forwarder-{__version__}.tar.gz",
    }


def test_the_wheel_has_all_that_is_not_python(dist: Path) -> None:
    names = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    data = {
        path
        for path in (PROJECT / "forwarder").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert {str(path.relative_to(PROJECT)) for path in data} <= names
    assert data


def test_the_source_package_makes_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as package:
        package.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    (tree / "dist").mkdir()
    subprocess.run([sys.executable, "-c", BUILD, "dist"], cwd=tree, check=True)
    again, first = (next(folder.glob("*.whl")) for folder in (tree / "dist", dist))
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(first).namelist()
