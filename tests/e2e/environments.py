"""Clients in environments of their own: made once, used again until their requirements change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".venv-e2e"
BOTOCORE_1_42_50 = "botocore-1.42.50"
BOTO3_1_44_5 = "boto3-1.44.5"
AWSCLI = "awscli"
_making: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""A folder that several clients share is made by one of them."""


def environment(name: str) -> Path:
    """The folder of programs (``python`` among them) of an environment with ``requirements-NAME.txt``."""
    requirements = HERE / f"requirements-{name}.txt"
    folder = CACHE / name
    stamp = folder / "installed.txt"
    wanted = f"{sys.version}\n{requirements.read_text()}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install: list[str | Path] = [
            folder / "bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*install, "--require-hashes", "-r", requirements], check=True)
        stamp.write_text(wanted)
    return folder / "bin"


def node_packages(sources: Path) -> Path:
    """A folder with all of ``sources`` (``package.json``, its lock file, programs), packages installed."""
    folder = CACHE / f"node-{sources.name}"
    with _making[folder]:
        return _node_packages(sources, folder)


def _node_packages(sources: Path, folder: Path) -> Path:
    stamp = folder / "installed.txt"
    wanted = (sources / "package-lock.json").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(sources / name, folder)
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
        stamp.write_text(wanted)
    shutil.copytree(sources, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("package*.json"))
    return folder


def debian_program(program: str, *packages: str) -> str:
    """The path of a program, from Debian's packages where it is not there yet."""
    found = shutil.which(program)
    if found is None:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        subprocess.run(install, check=True, env=quiet, stdout=subprocess.DEVNULL)
        found = shutil.which(program)
    assert found is not None, f"{packages} have no program {program}"
    return found
