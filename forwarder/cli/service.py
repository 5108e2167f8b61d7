"""``forwarder doctor --service``: the doctor as a systemd unit would run it.

Invariants:
- What counts is what systemd says of the unit: its environment and files of it, its user, its directories and
  its credentials; the environment of the person who asks does not count.
- Credentials are copied into memory only (tmpfs), for the unit's user alone, and removed at the end.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from forwarder.cli.common import FORWARDER_CONFIG, CommandError
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_USAGE

PROPERTIES = (
    "LoadState",
    "ExecStart",
    "Environment",
    "EnvironmentFiles",
    "User",
    "Group",
    "WorkingDirectory",
    "StateDirectory",
    "RuntimeDirectory",
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY = Path("/dev/shm")
PASSED_ON = ("LANG", "LC_ALL", "TERM", "NO_COLOR", "PYTHONPATH")
"""How the output looks, and where this program is: no matter of the unit."""

Ask = Callable[[str, str], str]
"""What systemd says of a unit: ``show``, its properties; ``cat``, its files. Lines of ``Name=value``."""


class Unit(NamedTuple):
    """``config``: the file that the command of the unit names, "" for none. ``credentials``: name to file."""

    name: str
    environment: dict[str, str]
    user: str
    group: str
    config: str
    directory: str
    credentials: dict[str, str]


def doctor_as(name: str, config: str, as_json: bool) -> int:
    """Run the doctor as the unit runs; its exit code. ``config``: in place of the unit's own."""
    unit = read_unit(name, _systemctl)
    file = config or unit.config or unit.environment.get(FORWARDER_CONFIG, "")
    if not file:
        raise CommandError(EXIT_USAGE, f"{unit.name} has no configuration in ExecStart: use -c FILE")
    command = [sys.executable, "-m", "forwarder", "doctor", "-c", file, *(["--json"] if as_json else [])]
    user = unit.user or "root"
    switch = os.geteuid() == 0
    if not switch and user != pwd.getpwuid(os.geteuid()).pw_name:
        print(
            f"these checks run as your user, not as {user}: use sudo to run them as {user}", file=sys.stderr
        )
    with _credentials(unit, switch) as given:
        environment = {**_of_user(user), **unit.environment, **given}
        try:
            ran = subprocess.run(
                command, env=environment, cwd=unit.directory or "/", **_identity(unit, switch)
            )
        except OSError as error:
            message = f"the doctor cannot run as user {user}: {error.strerror}"
            raise CommandError(EXIT_INCOMPLETE, message) from None
    return ran.returncode


def read_unit(name: str, ask: Ask) -> Unit:
    """What systemd says of a unit. Raises CommandError."""
    name = name if "." in name else f"{name}.service"
    said = _lines(ask("show", name))
    if said.get("LoadState") != ["loaded"]:
        raise CommandError(
            EXIT_USAGE,
            f"no systemd unit {name} found; list units with: systemctl list-unit-files 'forwarder*'",
        )
    first = {key: values[0] for key, values in said.items()}
    user = first.get("User", "")
    return Unit(
        name,
        _environment(name, said),
        user,
        first.get("Group", ""),
        _config_of(first.get("ExecStart", "")),
        first.get("WorkingDirectory", "").lstrip("!-").replace("~", _of_user(user or "root")["HOME"]),
        # Of these ``show`` prints nothing that can be read.
        _loaded(name, _lines(ask("cat", name)).get("LoadCredential", [])),
    )


def _lines(text: str) -> dict[str, list[str]]:
    """The values of each name, without those before an empty one, which takes them back."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and value:
            said.setdefault(key, []).append(value)
        elif equals:
            said.pop(key, None)
    return said


def _systemctl(verb: str, name: str) -> str:
    properties = [f"--property={','.join(PROPERTIES)}"] if verb == "show" else []
    command = ["systemctl", verb, "--no-pager", *properties, "--", name]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "no answer within 10s"
        raise CommandError(
            EXIT_INCOMPLETE, f"cannot query systemd about {name}: systemctl: {reason}"
        ) from None
    if ran.returncode:
        raise CommandError(EXIT_INCOMPLETE, f"cannot query systemd about {name}: {ran.stderr.strip()}")
    return ran.stdout


def _environment(name: str, said: Mapping[str, list[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in said.get("Environment", ()):
        found.update(_assignments(shlex.split(line)))
    for value in said.get("EnvironmentFiles", ()):
        path, _, options = value.partition(" (")
        found.update(_of_file(Path(path), optional="ignore_errors=yes" in options))
    for kind, parent in (("State", "/var/lib"), ("Runtime", "/run")):
        if paths := " ".join(said.get(f"{kind}Directory", ())).split():
            found[f"{kind.upper()}_DIRECTORY"] = ":".join(
                f"{parent}/{path.partition(':')[0]}" for path in paths
            )
    return found


def _of_file(path: Path, *, optional: bool) -> dict[str, str]:
    """systemd.exec(5), EnvironmentFile: lines of assignments, comments with ``#`` or ``;``, quotes."""
    try:
        text = path.read_text("utf-8").replace("\\\n", "")
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return {}
        message = f"the environment of the unit cannot be read: {path}: {error.strerror}"
        raise CommandError(EXIT_INCOMPLETE, message) from None
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";")):
            try:
                found[key.strip()] = " ".join(shlex.split(value, comments=False))
            except ValueError:  # a quote that is not closed
                found[key.strip()] = value
    return found


def _assignments(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def _config_of(command: str) -> str:
    """The file after ``-c`` in ``{ path=... ; argv[]=... ; ... }``."""
    _, _, rest = command.partition("argv[]=")
    words = shlex.split(rest.partition(" ;")[0])
    for number, word in enumerate(words):
        if word in ("-c", "--config"):
            return words[number + 1] if number + 1 < len(words) else ""
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return ""


def _loaded(unit: str, values: list[str]) -> dict[str, str]:
    """LoadCredential: name to file, with the specifiers that units use in paths."""
    instance = unit.partition("@")[2].rpartition(".")[0]
    found = {}
    for value in values:
        value = value.replace("%i", instance).replace("%n", unit).replace("%%", "%")
        name, _, path = value.partition(":")
        found[name] = path or name
    return found


def _of_user(user: str) -> dict[str, str]:
    """The environment that systemd gives a service of this user, and what is no matter of the unit."""
    try:
        about = pwd.getpwnam(user) if not user.isdecimal() else pwd.getpwuid(int(user))
    except KeyError:
        raise CommandError(
            EXIT_INCOMPLETE,
            f'user "{user}" does not exist: start the unit once (DynamicUser), or create the user',
        ) from None
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own = {"HOME": about.pw_dir, "USER": about.pw_name, "LOGNAME": about.pw_name, "SHELL": about.pw_shell}
    return {"PATH": PATH, **own, **passed}


def _identity(unit: Unit, switch: bool) -> dict[str, Any]:
    """The arguments that make a process one of the unit's user, for who may ``switch``."""
    if not switch:
        return {}
    user = unit.user or "root"
    about = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    group: str | int = unit.group or about.pw_gid
    groups = os.getgrouplist(about.pw_name, about.pw_gid)
    return {"user": about.pw_uid, "group": group, "extra_groups": groups}


@contextmanager
def _credentials(unit: Unit, switch: bool) -> Iterator[dict[str, str]]:
    """CREDENTIALS_DIRECTORY with the unit's credentials: those of the running service, else copies."""
    if not unit.credentials:
        yield {}
        return
    running = Path("/run/credentials") / unit.name
    if os.access(running, os.R_OK | os.X_OK):
        yield {"CREDENTIALS_DIRECTORY": str(running)}
        return
    directory = Path(tempfile.mkdtemp(prefix="forwarder-doctor-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        for name, source in unit.credentials.items():
            _copy(directory / Path(name).name, source)
        if switch:
            owner = _identity(unit, switch)["user"]
            for path in (*directory.iterdir(), directory):
                os.chown(path, owner, -1)
        yield {"CREDENTIALS_DIRECTORY": str(directory)}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copy(target: Path, source: str) -> None:
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        message = f"LoadCredential: {source} cannot be read: {error.strerror}"
        raise CommandError(EXIT_INCOMPLETE, message) from None
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(data)
