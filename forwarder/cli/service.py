"""``forwarder doctor --service``: the doctor as a systemd unit would run it.

Invariants:
- For root, systemd runs the doctor: in a transient unit with the user, environment, credentials, directories
  and sandbox of the judged one. Nothing of it is left afterwards.
- Other users may not ask for that. For them it runs as they are, with the unit's environment, and says so.
- The caller's own environment is not used.
- Credentials are copied into memory only (tmpfs), for this user alone, and removed at the end.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from forwarder.cli.common import FORWARDER_CONFIG, CommandError
from forwarder.cli.unit import Unit, read_unit, systemctl
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_USAGE

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY = Path("/dev/shm")
PASSED_ON = ("LANG", "LC_ALL", "TERM", "NO_COLOR", "PYTHONPATH")
"""How the output looks, and where this program is: no matter of the unit."""

FIRST_STEP = 200
"""systemd.exec(5): exit codes from here on are of systemd, before it has started the program."""
STEPS = {
    200: "WorkingDirectory= cannot be entered",
    203: f"{sys.executable} cannot be run",
    216: "Group= or SupplementaryGroups= does not exist",
    217: "User= does not exist",
    226: "the sandbox of systemd cannot be set up: a path in it may be missing",
    233: "the directory of RuntimeDirectory= cannot be created",
    238: "the directory of StateDirectory= cannot be created",
    243: "a credential cannot be loaded",
}


def doctor_as(name: str, config: str, as_json: bool) -> int:
    """Run the doctor as the unit runs; its exit code. ``config``: in place of the unit's own."""
    unit = read_unit(name, systemctl)
    environment = unit.everything()
    file = os.path.abspath(config) if config else unit.config or environment.get(FORWARDER_CONFIG, "")
    if not file:
        raise CommandError(EXIT_USAGE, f"{unit.name} has no configuration in ExecStart: use -c FILE")
    command = [sys.executable, "-m", "forwarder", "doctor", "-c", file, *(["--json"] if as_json else [])]
    _check_credentials(unit)
    if os.geteuid() == 0:
        return _by_systemd(unit, [word.replace("$", "$$") for word in command])
    if unit.user != pwd.getpwuid(os.geteuid()).pw_name:
        message = f"these checks run as your user, not as {unit.user}: use sudo to check files and rights"
        print(message, file=sys.stderr)
    return _by_this_user(unit, command, environment)


def _check_credentials(unit: Unit) -> None:
    """Raise CommandError for a missing file, of which systemd has only a number."""
    for name, path in unit.sources():
        if path is not None and not path.exists():
            message = f"LoadCredential={name}: {path} does not exist: make the file, or remove the setting"
            raise CommandError(EXIT_INCOMPLETE, message)


# --- as root


def _by_systemd(unit: Unit, command: list[str]) -> int:
    name = f"forwarder-doctor-{os.getpid()}.service"
    with tempfile.TemporaryDirectory(prefix="forwarder-doctor-") as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        where = [f"StandardOutput=file:{out}", f"StandardError=file:{errors}"]
        options = [f"--property={each}" for each in (*properties(unit, name), *where)]
        start = ["systemd-run", "--quiet", f"--unit={name}", "--service-type=oneshot", *options]
        try:
            ran = subprocess.run([*start, "--", *command], capture_output=True, text=True)
            code = _exit_code(name, ran)
        except OSError as error:
            message = f"cannot run the doctor in systemd: systemd-run: {error.strerror}"
            raise CommandError(EXIT_INCOMPLETE, message) from None
        finally:
            for verb in ("stop", "reset-failed"):
                subprocess.run(["systemctl", "--quiet", verb, name], capture_output=True)
        for path, stream in ((out, sys.stdout), (errors, sys.stderr)):
            stream.write(path.read_text("utf-8", "replace") if path.exists() else "")
            stream.flush()
    if code >= FIRST_STEP:
        step = STEPS.get(code, f"exit code {code}")
        message = f"systemd cannot start a process with the settings of {unit.name}: {step}"
        raise CommandError(EXIT_INCOMPLETE, f"{message} (journalctl -u {name} has the details)")
    return code


def properties(unit: Unit, name: str) -> Iterator[str]:
    """What makes the unit ``name`` run a process as ``unit`` does."""
    for key, value in unit.sandbox.items():
        yield f"{key}={value.replace('!', '-', 1) if key == 'WorkingDirectory' else value}"
    if "RuntimeDirectory" in unit.sandbox and unit.is_active:
        yield "RuntimeDirectoryPreserve=yes"  # it is the running daemon's
    for key, value in {**_passed_on(), **unit.environment}.items():
        value = value.replace(unit.credentials_directory, f"/run/credentials/{name}")
        yield f"Environment={_quoted(f'{key}={value}')}"
    yield from (f"EnvironmentFile={path}" for path in unit.files)
    yield from (f"{setting}={value}" for setting, value in unit.credentials)


def _quoted(assignment: str) -> str:
    escaped = assignment.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _exit_code(name: str, ran: subprocess.CompletedProcess[str]) -> int:
    if ran.returncode == 0:
        return 0
    asked = ["systemctl", "show", "--property=ExecMainStatus,Result", name]
    said = subprocess.run(asked, capture_output=True, text=True).stdout
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    if code := int(found.get("ExecMainStatus") or 0):
        return code
    reason = ran.stderr.strip() or found.get("Result", "unknown")
    raise CommandError(EXIT_INCOMPLETE, f"cannot run the doctor in systemd: {reason}")


# --- as any other user


def _by_this_user(unit: Unit, command: list[str], environment: Mapping[str, str]) -> int:
    with _credentials(unit) as given:
        if given:
            old = unit.credentials_directory
            environment = {key: value.replace(old, given) for key, value in environment.items()}
            environment["CREDENTIALS_DIRECTORY"] = given
        directory = unit.sandbox.get("WorkingDirectory", "/").lstrip("!-").replace("~", _home(unit.user))
        everything = {**_of_user(unit.user), **environment}
        try:
            return subprocess.run(command, env=everything, cwd=directory).returncode
        except OSError as error:
            raise CommandError(EXIT_INCOMPLETE, f"the doctor cannot run: {error}") from None


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _home(user: str) -> str:
    """That of a user who is not there, as with DynamicUser=, is "/"."""
    try:
        return (pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)).pw_dir
    except KeyError:
        return "/"


def _of_user(user: str) -> dict[str, str]:
    """The environment that systemd gives a service of this user, and what is no matter of the unit."""
    return {"PATH": PATH, "HOME": _home(user), "USER": user, "LOGNAME": user, **_passed_on()}


@contextmanager
def _credentials(unit: Unit) -> Iterator[str]:
    """A directory with copies of the unit's credentials; "" where it has none."""
    if not unit.credentials:
        yield ""
        return
    directory = Path(tempfile.mkdtemp(prefix="forwarder-doctor-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        for name, source in unit.sources():
            if source is not None:
                _copy(directory / Path(name).name, source)
        yield str(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copy(target: Path, source: Path) -> None:
    try:
        data = source.read_bytes()
    except OSError as error:
        message = f"LoadCredential: {source} cannot be read: {error.strerror}; use sudo"
        raise CommandError(EXIT_INCOMPLETE, message) from None
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(data)
