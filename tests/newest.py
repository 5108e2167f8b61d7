"""The targets' tests with the newest aiobotocore that a user may install, where the lock file has another.

Invariants:
- The locked environment is only read: what is newer goes into an environment of its own, on top of it.
- The fast path's guard lets every release pass here, so the outcome says whether the guard may be raised.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEWEST = ROOT / ".venv-newest"
SUITES = ("tests/contract/test_targets.py", "tests/unit/targets", "tests/integration/test_faults.py")
VERSIONS = """
from importlib.metadata import version
print("aiobotocore", version("aiobotocore"), "with botocore", version("botocore"))
"""


def main(release: str) -> int:
    """``release``: what pip is asked for. The exit code is the tests'."""
    python = make_environment()
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", release], cwd=ROOT, check=True)
    locked, newest = said(sys.executable), said(python)
    if newest == locked:
        print(f"Nothing newer than the lock file's {locked}: `make test` is this run.")
        return 0
    print(f"Testing {newest}; the lock file has {locked}.", flush=True)
    pytest = [python, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", "--any-aiobotocore"]
    failed = subprocess.run([*pytest, *SUITES], cwd=ROOT, check=False).returncode
    verdict = "does NOT pass" if failed else "passes: TESTED in forwarder/targets/fast_path.py may be raised"
    print(f"{newest} {verdict}.")
    return failed


def make_environment() -> str:
    """An environment that has everything locked of which it gets no other release; its Python."""
    venv.create(NEWEST, clear=True, with_pip=True, symlinks=True)
    here, locked = (next(each.glob("lib/python*/site-packages")) for each in (NEWEST, Path(sys.prefix)))
    (here / "locked.pth").write_text(f"import site; site.addsitedir({str(locked)!r})\n")
    return str(NEWEST / "bin" / "python")


def said(python: str) -> str:
    """Which SDK this Python has."""
    return subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
