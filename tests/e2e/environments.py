"""Clients in virtual environments of their own: made once, used again until their requirements change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".venv-e2e"
BOTOCORE_1_42_50 = "botocore-1.42.50"
BOTO3_1_44_5 = "boto3-1.44.5"
AWSCLI = "awscli"


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
