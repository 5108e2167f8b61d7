"""Clients that are compiled: made once, used again until their sources change.

Invariants:
- Every version is fixed by the sources: `go.sum`, `versions.lock`, the versions in `pom.xml`.
- What is made lies in the cache of the environments; nothing is written beside the sources.
- Debian's Go and Rust are older than the SDKs need, so these two are not installed: without them the tests of
  their clients are skipped, which is a failure in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.e2e.environments import CACHE, debian_program

STAMP = "built.txt"


def go_program(sources: Path) -> Path:
    """The program of a Go module."""
    go = _compiler("go", "Go 1.24")
    program = CACHE / sources.name / "client"
    _build(sources, program.parent, [go, "build", "-trimpath", "-o", program, "."])
    return program


def cargo_program(sources: Path) -> Path:
    """The program ``client`` of a package of Rust."""
    cargo = _compiler("cargo", "Rust 1.85")
    folder, package = CACHE / "rust", CACHE / "rust-package"
    if not _is_built(sources, folder):
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(sources, package)
        (package / "Cargo.lock").write_text(cargo_lock(sources))
    build: list[str | Path] = [
        cargo,
        "build",
        "--quiet",
        "--locked",
        "--manifest-path",
        package / "Cargo.toml",
    ]
    _build(sources, folder, build, {"CARGO_TARGET_DIR": str(folder)})
    return folder / "debug" / "client"


def cargo_lock(sources: Path) -> str:
    """``versions.lock`` as this machine's cargo wants it, which names where it has its packages from."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        (package / "src").mkdir()
        (package / "src" / "lib.rs").touch()
        (package / "Cargo.toml").write_text('[package]\nname = "x"\n[dependencies]\nitoa = "1"\n')
        subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=package, check=True)
        named = re.search('source = "(.+)"', (package / "Cargo.lock").read_text())
    assert named is not None
    return (sources / "versions.lock").read_text().replace("INDEX", named[1])


def java_class_path(sources: Path) -> str:
    """The class path of the classes of a Maven project and all they need."""
    debian_program("javac", "default-jdk-headless")
    maven = debian_program("mvn", "maven")
    folder = CACHE / "java"
    _build(sources, folder, [maven, "-q", "-B", "-ntp", f"-Dclient.build={folder}", "compile"])
    return f"{folder}/classes:{folder}/dependency/*"


def _compiler(program: str, wanted: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {wanted} or newer here")
    return found


def _build(
    sources: Path, folder: Path, command: Sequence[str | Path], environ: Mapping[str, str] | None = None
) -> None:
    if _is_built(sources, folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(command, cwd=sources, env={**os.environ, **(environ or {})}, check=True)
    (folder / STAMP).write_text(_text_of(sources))


def _is_built(sources: Path, folder: Path) -> bool:
    return (folder / STAMP).exists() and (folder / STAMP).read_text() == _text_of(sources)


def _text_of(sources: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(sources.rglob("*")) if path.is_file())
