"""Two commits side by side: the checkout as it is now, and another commit, each ready to run.

- Both are copies in one temporary folder, which is removed afterwards, also after Ctrl-C. Edits of the
  checkout meanwhile change nothing that is measured.
- Where both have the same ``requirements.lock``, both run on this Python's packages. Otherwise the other
  commit gets its own environment from its lock file.
- Each is asked which ``forwarder`` it imports before anything is measured.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import CHECKOUT, Code, environment

COPIED = ("forwarder", "benchmarks")
LOCK = "requirements.lock"


class Sides(NamedTuple):
    """This is the checkout, that is the other commit; with what to call them."""

    this: Code
    that: Code
    names: tuple[str, str]


@contextlib.contextmanager
def both(revision: str) -> Iterator[Sides]:
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    if not commit:
        raise SystemExit(f"no such commit: {revision}")
    with tempfile.TemporaryDirectory(prefix="bench-against-") as name:
        folder = Path(name).resolve()
        this = Code(folder / "this", CHECKOUT.python)
        that_tree = folder / "that"
        _copy_checkout(this.tree)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
            archive.extractall(that_tree, filter="data")
        that = Code(that_tree, _python_for(that_tree, folder / "venv"))
        for code in (this, that):
            _prepare(code)
        yield Sides(this, that, (_name_of_checkout(), f"{revision} ({commit[:12]})"))


def _git(*arguments: str) -> bytes:
    """What git says; nothing when it fails."""
    return subprocess.run(["git", *arguments], cwd=CHECKOUT.tree, stdout=subprocess.PIPE, check=False).stdout


def _name_of_checkout() -> str:
    head = _git("rev-parse", "HEAD").decode()[:12]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *COPIED)
    return f"{head}, with changes that are not committed" if changed else head


def _copy_checkout(tree: Path) -> None:
    for name in COPIED:
        shutil.copytree(CHECKOUT.tree / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))


def _python_for(tree: Path, place: Path) -> str:
    """A Python with what this tree's lock file says."""
    lock = tree / LOCK
    if lock.read_bytes() == (CHECKOUT.tree / LOCK).read_bytes():
        return CHECKOUT.python
    print(f"{LOCK} differs: making an environment from the other one", flush=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = str(place / "bin" / "python")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([python, *install, "-r", lock], check=True)
    return python


def _prepare(code: Code) -> None:
    """Compile it, so that no first start pays for that; and see that it is what will run."""
    compiling = [code.python, "-m", "compileall", "-q", "forwarder"]
    subprocess.run(compiling, cwd=code.tree, env=environment(code), check=True)
    found, wanted = imported(code), code.tree / "forwarder"
    if found != wanted:
        raise SystemExit(f"{found} would be measured, not {wanted}")


def imported(code: Code) -> Path:
    """Where the daemon's package comes from when this code is started."""
    asking = [code.python, "-c", "import forwarder; print(forwarder.__file__)"]
    said = subprocess.run(
        asking, cwd=code.tree, env=environment(code), check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(said.stdout.strip()).parent
