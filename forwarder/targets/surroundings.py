"""What of a target's place and credentials can be judged by the SDK's own data, before any call is made.

Invariants:
- These are warnings, never errors: AWS opens regions that this SDK does not know yet, and a profile may come
  later, as the daemon looks for it again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ProfileNotFound
from botocore.loaders import Loader

from forwarder.config import Problem
from forwarder.nearest import did_you_mean, others
from forwarder.targets.session import configured_region, reading_session


def unknown_profiles(targets: Mapping[str, Any]) -> Iterator[Problem]:
    """Each profile that is not there, once, with the targets that have it."""
    profiles: dict[str, list[str]] = {}
    for name, options in targets.items():
        if profile := _missing_profile(options.profile):
            profiles.setdefault(profile, []).append(name)
    for profile, names in profiles.items():
        yield _no_profile(profile, names)


def unknown_regions(targets: Mapping[str, Any]) -> Iterator[Problem]:
    """Each region that the SDK does not know, once, with the targets that have it."""
    regions: dict[str, list[str]] = {}
    for name, options in targets.items():
        try:
            region = configured_region(options)
        except BotoCoreError:  # the target will be held, and the reason is for the doctor
            continue
        if region and options.endpoint_url is None and region not in _known_regions():
            regions.setdefault(region, []).append(name)
    for region, names in regions.items():
        yield Problem(
            f"targets.{names[0]}.region",
            f'"{region}" is not a region that the AWS SDK knows.{did_you_mean(region, _known_regions())}'
            f"{others(names)}",
        )


def _missing_profile(profile: str | None) -> str:
    """The profile, or else the one that the environment names, if there is none of that name."""
    try:
        reading_session(profile).get_scoped_config()
    except ProfileNotFound as error:
        return str(error.kwargs["profile"])
    except BotoCoreError:
        pass
    return ""


def _no_profile(profile: str, names: list[str]) -> Problem:
    session = reading_session()
    files = " and ".join(
        str(session.get_config_variable(f"{name}_file")) for name in ("config", "credentials")
    )
    near = did_you_mean(profile, session.available_profiles)
    return Problem(
        f"targets.{names[0]}.profile",
        f'there is no profile "{profile}" in {files}, as the user of this command reads them: the target is '
        f"held until it is there.{near}{others(names)}",
    )


@cache
def _known_regions() -> frozenset[str]:
    data = Loader().load_data("partitions")
    return frozenset(region for partition in data["partitions"] for region in partition["regions"])
