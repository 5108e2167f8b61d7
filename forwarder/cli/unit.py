"""A systemd unit as systemd has it: its environment, user, configuration, credentials and sandbox.

Invariants:
- What counts is what systemd says, drop-ins included. Of the unit's files only the credentials are read here,
  which ``systemctl show`` does not print.
"""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from forwarder.cli.common import CommandError
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_USAGE

SANDBOX = (
    *("DynamicUser", "User", "Group", "SupplementaryGroups", "UMask", "LimitNOFILE"),
    *("WorkingDirectory", "RootDirectory", "RootImage", "StateDirectory", "StateDirectoryMode"),
    *(
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "CacheDirectory",
        "ConfigurationDirectory",
        "LogsDirectory",
    ),
    *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths"),
    *("TemporaryFileSystem", "PrivateTmp", "PrivateNetwork", "PrivateUsers", "PrivateDevices"),
    *("ProtectHome", "ProtectSystem", "ProtectProc", "RestrictAddressFamilies", "IPAddressAllow"),
    *("IPAddressDeny", "NetworkNamespacePath", "PassEnvironment", "UnsetEnvironment"),
)
"""What decides what a process of the unit may read, write and reach."""

PROPERTIES = ("LoadState", "ActiveState", "ExecStart", "Environment", "EnvironmentFiles", *SANDBOX)
CREDENTIALS = (
    *("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"),
    "ImportCredential",
)
DIRECTORIES = (("State", "/var/lib"), ("Runtime", "/run"), ("Cache", "/var/cache"), ("Logs", "/var/log"))
STORES = ("/run/credstore", "/etc/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore")
"""systemd.exec(5): where a credential without a path is looked for."""

Ask = Callable[[str, str], str]
"""What systemd says of a unit: ``show``, its properties; ``cat``, its files. Lines of ``Name=value``."""


class Unit(NamedTuple):
    """``config``: the file that the command of the unit names, "" for none.

    ``environment``: of the unit alone. ``files``: those with more of it, ``-`` before an optional one.
    ``credentials``: the settings as the unit has them. ``sandbox``: those of ``SANDBOX`` that have a value.
    """

    name: str
    environment: dict[str, str]
    files: list[str]
    config: str
    is_active: bool
    credentials: list[tuple[str, str]]
    sandbox: dict[str, str]

    @property
    def user(self) -> str:
        return self.sandbox.get("User", "root")

    @property
    def credentials_directory(self) -> str:
        """Where systemd has the credentials of the service while it runs."""
        return f"/run/credentials/{self.name}"

    def directories(self) -> dict[str, str]:
        """The variables that name the unit's directories, as systemd sets them."""
        found = {}
        for kind, parent in DIRECTORIES:
            if names := self.sandbox.get(f"{kind}Directory", "").split():
                paths = (f"{parent}/{name.partition(':')[0]}" for name in names)
                found[f"{kind.upper()}_DIRECTORY"] = ":".join(paths)
        return found

    def everything(self) -> dict[str, str]:
        """The whole environment, with that of its files. Raises CommandError."""
        found = self.directories() | self.environment
        for path in self.files:
            found |= _of_file(path.removeprefix("-"), optional=path.startswith("-"))
        return found

    def sources(self) -> Iterator[tuple[str, Path | None]]:
        """Each credential of a plain file, and the file; None where systemd finds none and needs none."""
        for setting, value in self.credentials:
            if setting == "LoadCredential":
                name, _, path = value.partition(":")
                yield name, Path(path) if path.startswith("/") else _in_stores(path or name)


def read_unit(name: str, ask: Ask) -> Unit:
    """What systemd says of a unit. Raises CommandError."""
    name = name if "." in name else f"{name}.service"
    said = _lines(ask("show", name))
    if said.get("LoadState") != ["loaded"]:
        message = f"no systemd unit {name} found; list units with: systemctl list-unit-files 'forwarder*'"
        raise CommandError(EXIT_USAGE, message)
    first = {key: values[0] for key, values in said.items()}
    words = [word for line in said.get("Environment", ()) for word in shlex.split(line)]
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    files = [_optional(value) for value in said.get("EnvironmentFiles", ())]
    unit = Unit(
        name,
        environment,
        files,
        "",
        first.get("ActiveState") in ("active", "reloading"),
        _credentials(name, ask("cat", name)),
        {key: first[key] for key in SANDBOX if key in first},
    )
    return unit._replace(config=_config_of(first.get("ExecStart", ""), unit.everything()))


def systemctl(verb: str, name: str) -> str:
    properties = [f"--property={','.join(PROPERTIES)}"] if verb == "show" else []
    command = ["systemctl", verb, "--no-pager", *properties, "--", name]
    problem = f"cannot query systemd about {name}"
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "no answer within 10s"
        raise CommandError(EXIT_INCOMPLETE, f"{problem}: systemctl: {reason}") from None
    if ran.returncode:
        raise CommandError(EXIT_INCOMPLETE, f"{problem}: {ran.stderr.strip()}")
    return ran.stdout


def _lines(text: str) -> dict[str, list[str]]:
    """The values of each name."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and value:
            said.setdefault(key, []).append(value)
    return said


def _optional(value: str) -> str:
    path, _, options = value.partition(" (")
    return f"-{path}" if "ignore_errors=yes" in options else path


def _of_file(pattern: str, *, optional: bool) -> dict[str, str]:
    """systemd.exec(5), EnvironmentFile: lines of assignments, comments with ``#`` or ``;``, quotes."""
    found: dict[str, str] = {}
    paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
    for path in paths:
        try:
            text = Path(path).read_text("utf-8").replace("\\\n", "")
        except OSError as error:
            if optional and isinstance(error, FileNotFoundError):
                continue
            cure = "; use sudo" if isinstance(error, PermissionError) else ""
            message = f"the environment of the unit cannot be read: {path}: {error.strerror}{cure}"
            raise CommandError(EXIT_INCOMPLETE, message) from None
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith(("#", ";")):
                found[key.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if not re.search(r"""["'\\]""", value):
        return value
    try:
        return " ".join(shlex.split(value, comments=False))
    except ValueError:  # a quote that is not closed
        return value


def _config_of(command: str, environ: Mapping[str, str]) -> str:
    """The file after ``-c`` in ``{ path=... ; argv[]=... ; ... }``."""
    _, _, rest = command.partition("argv[]=")
    words = shlex.split(rest.partition(" ;")[0])
    for number, word in enumerate(words):
        if word in ("-c", "--config"):
            return _filled_in(words[number + 1], environ) if number + 1 < len(words) else ""
        for option in ("--config=", "-c"):
            if word.startswith(option):
                return _filled_in(word.removeprefix(option), environ)
    return ""


def _filled_in(text: str, environ: Mapping[str, str]) -> str:
    """With the variables that systemd fills in."""
    return re.sub(r"\$\{(\w+)\}|^\$(\w+)$", lambda found: environ.get(found[1] or found[2], ""), text)


def _credentials(unit: str, files: str) -> list[tuple[str, str]]:
    """The settings of credentials, in order, without those that an empty one took back."""
    found: list[tuple[str, str]] = []
    for line in files.replace("\\\n", " ").splitlines():
        setting, equals, value = line.strip().partition("=")
        setting, value = setting.strip(), value.strip()
        if not equals or setting not in CREDENTIALS:
            continue
        if value:
            found.append((setting, _expanded(unit, value)))
        else:
            found = [each for each in found if each[0] != setting]
    return found


def _expanded(unit: str, value: str) -> str:
    """systemd.unit(5): the specifiers that paths of units have."""
    prefix, _, instance = unit.rpartition(".")[0].partition("@")
    meanings = {
        **{"%": "%", "i": instance, "I": instance, "p": prefix, "n": unit, "N": unit.rpartition(".")[0]},
        **{"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc"},
        "d": f"/run/credentials/{unit}",
    }
    return re.sub("%(.)", lambda found: meanings.get(found[1], found[0]), value)


def _in_stores(name: str) -> Path | None:
    return next((path for store in STORES if (path := Path(store, name)).exists()), None)
