"""The container image, built without a container engine, and its files where a program can run in them.

The base is a stand-in, Debian with its own Python: the real one is on a registry that a test should not need.
Needs root, as namespaces and mounts do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.environments import CACHE, debian_program

PROJECT = CACHE.parent
PLACE = CACHE / "image"
BASE, IMAGE = "docker.io/library/python:stand-in", "localhost/event-forwarder"
PIP_FILES = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine's pip finds its packages, if it has its own way."""


def build() -> None:
    """Build ``IMAGE`` from the Dockerfile, unless it is of these very files; its base is made once.

    Of several processes one builds, and the others wait for it.
    """
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, sources = PLACE / "built.txt", _sources()
        if stamp.exists() and stamp.read_text() == sources and _exists(IMAGE):
            return
        if not _exists(BASE):
            _make_base()
        arguments = [
            "--pull-never",
            "--network=host",
            "--format=docker",
            "--build-arg=PYTHON=stand-in",
            f"--tag={IMAGE}",
        ]
        _buildah("bud", *arguments, str(PROJECT))
        stamp.write_text(sources)


def _sources() -> str:
    """A hash of what the Dockerfile copies, and of itself."""
    names = (
        "Dockerfile",
        ".dockerignore",
        "requirements.lock",
        "requirements-build.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    )
    package = (
        each for each in (PROJECT / "forwarder").rglob("*") if each.suffix != ".pyc" and each.is_file()
    )
    found = hashlib.sha256()
    for path in (*(PROJECT / name for name in names), *sorted(package)):
        found.update(f"{path.relative_to(PROJECT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _exists(image: str) -> bool:
    return bool(_buildah("images", "--quiet", image, check=False))


def size_mb(image: str = IMAGE) -> float:
    said = _buildah("images", "--format", "{{.Size}}", image)
    number, unit = said.split()
    return float(number) * {"KB": 0.001, "MB": 1.0, "GB": 1000.0}[unit]


@contextmanager
def files() -> Iterator[Path]:
    """The image's root, mounted."""
    container = _buildah("from", "--pull-never", IMAGE)
    try:
        yield Path(_buildah("mount", container))
    finally:
        _buildah("umount", container)
        _buildah("rm", container)


def _make_base() -> None:
    root = PLACE / "base"
    shutil.rmtree(root, ignore_errors=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    wanted = ["--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    bootstrap: list[str | Path] = [
        debian_program("debootstrap", "debootstrap"),
        *wanted,
        "bookworm",
        root,
        _mirror(),
    ]
    subprocess.run(bootstrap, check=True, stdout=subprocess.DEVNULL)
    (root / "usr/bin/python").symlink_to("python3")
    for name in PIP_FILES:
        if Path(name).exists():
            shutil.copy(name, root / name[1:])
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, str(root), "/")
    _buildah("commit", "--quiet", container, BASE)
    _buildah("rm", container)
    shutil.rmtree(root)


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return next(line.split()[1] for line in lines if line.startswith("bookworm "))


def _buildah(*arguments: str, check: bool = True) -> str:
    program = debian_program("buildah", "buildah")
    command = [program, "--root", str(PLACE / "root"), "--runroot", str(PLACE / "run"), *arguments]
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or not check, f"buildah {arguments}: {done.stderr[-2000:]}"
    return done.stdout.strip() if done.returncode == 0 else ""
