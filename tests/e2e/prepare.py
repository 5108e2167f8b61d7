"""Makes the programs of all clients, at the same time: ``make e2e`` does it first, with no limit of a test's.

The tests make what is missing themselves; what is there is not made again. ``make welcome`` runs two tests at
once, so everything that both may need is made here first.

``python -m tests.e2e.prepare image`` builds the image as well; its base takes minutes, once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import image
from tests.e2e.environments import HERE, debian_program, environment, node_packages
from tests.e2e.programs import CLIENTS, CLOUDEVENTS, OLDER

JAVA = ("java", "java-1")
DEBIAN = (
    ("chromium", "chromium"),
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("/usr/bin/aws", "awscli"),
    ("victoria-metrics", "victoria-metrics"),
    ("prometheus", "prometheus"),
    ("tmux", "tmux"),
)
OF_THE_IMAGE = (("buildah", "buildah"), ("debootstrap", "debootstrap"))
IMAGE = "image"
APART = (*JAVA, "aws-cli-2")


def debian_programs() -> None:
    """One after another: apt lets nobody else in meanwhile."""
    for program, package in (*DEBIAN, *(OF_THE_IMAGE if IMAGE in sys.argv else ())):
        debian_program(program, package)
    if IMAGE in sys.argv:
        image.build()


def java_programs() -> None:
    """One build makes the programs of both releases, and the one with the CloudEvents SDK."""
    for client in (*CLIENTS, *OLDER):
        if client.name in JAVA:
            client.command()


PREPARED: dict[str, Callable[[], object]] = {
    **{client.name: client.command for client in (*CLIENTS, *OLDER) if client.name not in APART},
    "java": java_programs,
    "httpx": lambda: environment("httpx"),
    **{f"cloudevents {name}": command for name, command in CLOUDEVENTS.items() if name not in JAVA},
    "deploy": lambda: environment("deploy"),
    "schemathesis": lambda: environment("schemathesis"),
    "browser": lambda: node_packages(HERE / "browser"),
    "debian": debian_programs,
}


def prepare(name: str) -> str:
    began = time.monotonic()
    try:
        PREPARED[name]()
    except pytest.skip.Exception as missing:
        return f"{name}: {missing}"
    return f"{name}: ready after {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    with ThreadPoolExecutor(len(PREPARED)) as pool:
        for line in pool.map(prepare, PREPARED):
            print(line, file=sys.stderr)
