"""The tests of what leans on a library's undocumented parts, with the newest aiobotocore and aiohttp.

aiohttp is tested beyond the range of pyproject.toml as well: the range is raised by hand once this passed.

Invariants:
- The locked environment is only read: what is newer goes into an environment of its own, on top of it.
- The fast path's guard lets every release pass here, so the outcome says whether the guard may be raised.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEWEST = ROOT / ".venv-newest"
TARGETS = ("tests/contract/test_targets.py", "tests/unit/targets", "tests/integration/test_faults.py")
LISTENERS = (
    "tests/unit/test_aiohttp_private.py",
    "tests/unit/ingest/test_connections.py",
    "tests/unit/ingest/test_parsing.py",
    "tests/unit/ingest/test_answers.py",
    "tests/unit/ingest/auth/test_tls.py",
    "tests/unit/admin/test_server.py",
)
SUITES = {"aiobotocore": (*TARGETS, *LISTENERS), "aiohttp": (*LISTENERS, *TARGETS)}
RAISE = {
    "aiobotocore": "TESTED in forwarder/targets/fast_path.py",
    "aiohttp": "TESTED and ALLOWED in forwarder/aiohttp_private.py, and the range in pyproject.toml,",
}
VERSIONS = """
from importlib.metadata import version
print(", ".join(f"{each} {version(each)}" for each in ("aiobotocore", "botocore", "aiohttp")))
"""


def main(*releases: str) -> int:
    """``releases``: what pip is asked for, each tested by itself. The exit code is that of the tests."""
    return max(test(release) for release in releases)


def test(release: str) -> int:
    python = make_environment()
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    subprocess.run([*pip, "--upgrade", release], cwd=ROOT, check=True)
    locked, newest = said(sys.executable), said(python)
    if newest == locked:
        print(f"Nothing newer than the lock file's {locked}: `make test` is this run.")
        return 0
    print(f"Testing {newest}; the lock file has {locked}.", flush=True)
    library = re.split(r"[=<>~! ]", release)[0]
    pytest = [python, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", "--any-aiobotocore"]
    failed = subprocess.run([*pytest, *SUITES[library]], cwd=ROOT, check=False).returncode
    print(f"{newest} {'does NOT pass' if failed else f'passes: {RAISE[library]} may be raised'}.")
    return failed


def make_environment() -> str:
    """An environment that has everything locked of which it gets no other release; its Python."""
    venv.create(NEWEST, clear=True, with_pip=True, symlinks=True)
    here, locked = (next(each.glob("lib/python*/site-packages")) for each in (NEWEST, Path(sys.prefix)))
    (here / "locked.pth").write_text(f"import site; site.addsitedir({str(locked)!r})\n")
    return str(NEWEST / "bin" / "python")


def said(python: str) -> str:
    """Which releases this Python has."""
    return subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
