"""A machine with systemd as PID 1: systemd-nspawn boots this Debian itself, below an overlay that forgets.

Invariants:
- Nothing that happens in the machine reaches this system's files; its network has only its own loopback.
- It needs root, Debian's Python of the same version, and a kernel that lets a container have cgroups.
  Where one of them is missing, its tests are skipped with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import forwarder
from tests.e2e.environments import debian_program
from tests.e2e.processes import PATIENCE

UNITS = Path(__file__).parents[2] / "deploy/systemd"
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
PLACE = "opt/forwarder"
HIERARCHIES = Path("/sys/fs/cgroup")
NAME = "forwarder-tests"
SCRIPT = f"#!/{PLACE}/bin/python\nimport sys\nfrom forwarder.cli import main\nsys.exit(main())\n"


@dataclass
class Machine:
    """A booted machine. ``root``: its files. ``leader``: its PID 1 as this system sees it."""

    root: Path
    leader: int

    def run(self, *command: str, check: bool = True, text: str = "") -> str:
        """What a command says that runs as root in the machine."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        plain = ["env", "-i", "PATH=/opt/forwarder/bin:/usr/sbin:/usr/bin", "TERM=dumb"]
        done = subprocess.run([*enter, *plain, *command], input=text, capture_output=True, text=True)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-n", "40", "-o", "cat", check=False)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd has it."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()


@contextlib.contextmanager
def a_machine(folder: Path) -> Iterator[Machine]:
    """From when it has booted until it is off."""
    nspawn = debian_program("systemd-nspawn", "systemd-container")
    with _overlay(folder) as root, _cgroups() as groups:
        _furnish(root)
        command = [nspawn, "--boot", "--directory", str(root), "--machine", NAME, "--private-network"]
        command += ["--console=pipe", *(["--register=no", "--keep-unit"] if groups else [])]
        environment = os.environ | ({"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0"} if groups else {})
        with (folder / "machine.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _join(groups),
            )
        try:
            yield _booted(root, process, folder / "machine.log")
        finally:
            process.terminate()  # powers the machine off
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _overlay(folder: Path) -> Iterator[Path]:
    store, root = folder / "store", folder / "root"
    store.mkdir()
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", store], check=True)
    try:
        for name in ("upper", "work"):
            (store / name).mkdir()
        layers = f"lowerdir=/,upperdir={store}/upper,workdir={store}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
        try:
            yield root
        finally:
            subprocess.run(["umount", "--lazy", root], check=True)
    finally:
        subprocess.run(["umount", "--lazy", store], check=True)


@contextlib.contextmanager
def _cgroups() -> Iterator[list[Path]]:
    """Where systemd does not run this system: groups of the machine's own, one in each hierarchy."""
    made: list[Path] = []
    if not Path("/run/systemd/system").exists():
        for hierarchy in HIERARCHIES.iterdir():
            if not hierarchy.is_symlink() and (hierarchy / "cgroup.procs").exists():
                made.append(hierarchy / NAME)
                made[-1].mkdir(exist_ok=True)
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if (hierarchy / name).exists():
                        (made[-1] / name).write_text((hierarchy / name).read_text())
    try:
        yield made
    finally:
        for group in made:
            for path in sorted(group.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
            group.rmdir()


def _join(groups: list[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def _furnish(root: Path) -> None:
    """A system that starts nothing but what a test starts, with the forwarder and its units."""
    system = root / "etc/systemd/system"
    for wanted in system.glob("*.wants/*"):
        wanted.unlink()
    for name in ("networkd", "resolved", "timesyncd", "logind", "udevd", "udev-trigger"):
        (system / f"systemd-{name}.service").unlink(missing_ok=True)
        (system / f"systemd-{name}.service").symlink_to("/dev/null")
    (root / "etc/fstab").unlink(missing_ok=True)
    (root / "etc/machine-id").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    for unit in UNITS.glob("forwarder*"):
        shutil.copy(unit, system)
    place = root / PLACE
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", "--copies", place], check=True)
    packages = place / f"lib/{PYTHON.name}/site-packages"
    (ours,) = (Path(each) for each in sys.path if each.endswith("site-packages"))
    shutil.copytree(
        ours, packages, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pth", "__editable__*")
    )
    (source,) = forwarder.__path__
    shutil.copytree(source, packages / "forwarder", dirs_exist_ok=True)
    (place / "bin/forwarder").write_text(SCRIPT)
    (place / "bin/forwarder").chmod(0o755)


def _booted(root: Path, process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"the machine did not start:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"the machine did not boot:\n{log.read_text()}"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            machine = Machine(root, int(child))
            state = machine.run("systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                return machine
        time.sleep(0.2)
