"""The image in podman, its root read-only, without capabilities, on one volume under several users.

Not a part of ``make e2e``, which has no container engine. As root, with the image built:

    python -m tests.e2e.in_podman IMAGE [OPTION_OF_PODMAN ...]

Invariants:
- Each user starts where the one before it was killed; nothing that was accepted is lost.
- The container has a network of its own, and is asked from inside, so no port of the host is used.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from uuid import uuid4

USERS = ("10001:10001", "1000650000:0", "10001:0", "1000650001:0")
"""The first is outside group 0, the third the image's own; the others are such as OpenShift chooses."""

EVENTS = 5
PATIENCE = 120.0
CONFIG = """
ingest: {listen: ":2780", auth: {allow_unauthenticated: true}}
admin: {listen: ":2781"}
targets: {orders: {kind: eventbridge, region: eu-west-1, endpoint_url: "http://127.0.0.1:2790", queue: disk}}
"""
SAFE = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--no-healthcheck")
ASK = "import urllib.request as r; print(r.urlopen({url!r}, {data!r}).read().decode())"


class Podman:
    """``options``: of podman itself, such as ``--runtime=runc``."""

    def __init__(self, image: str, options: list[str]) -> None:
        self._podman = ["podman", *options]
        self.image = image

    def __call__(self, *command: str, check: bool = True) -> str:
        done = subprocess.run([*self._podman, *command], capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"podman {' '.join(command)}: {done.stderr}")
        said = done.stdout + done.stderr if command[0] == "logs" else done.stdout
        return said.strip()

    def start(self, name: str, *options: str, command: list[str]) -> None:
        self("run", "--detach", "--name", name, *SAFE, *LIMITS, *options, self.image, *command)

    def ask(self, name: str, url: str, data: bytes | None = None) -> str:
        return self("exec", name, "python", "-c", ASK.format(url=url, data=data))


def until_ready(podman: Podman, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while podman("exec", name, "sh", "-c", "forwarder health --ready && echo ready", check=False) != "ready":
        if time.monotonic() > deadline:
            sys.exit(f"{name} is not ready: {podman('logs', name)}")
        time.sleep(0.5)


def main() -> None:
    podman = Podman(sys.argv[1], sys.argv[2:])
    mark = uuid4().hex[:8]
    pause, daemon, volume = f"sandbox-{mark}", f"forwarder-{mark}", f"state-{mark}"
    podman.start(pause, "--network=none", command=["sandbox", "--listen", ":2790"])
    keys = ("--env=AWS_ACCESS_KEY_ID=any", "--env=AWS_SECRET_ACCESS_KEY=any")
    podman("volume", "create", volume)
    events = json.dumps([{"Source": "a", "DetailType": "b", "Detail": {}}] * EVENTS).encode()
    try:
        for number, user in enumerate(USERS):
            beside = (f"--network=container:{pause}", f"--volume={volume}:/var/lib/forwarder")
            write = f"cat > /tmp/c.yaml <<'END'\n{CONFIG}END\nexec forwarder run -c /tmp/c.yaml"
            podman.start(
                daemon,
                *beside,
                *keys,
                f"--user={user}",
                "--tmpfs=/tmp",
                "--entrypoint=sh",
                command=["-c", write],
            )
            until_ready(podman, daemon)
            podman.ask(daemon, "http://127.0.0.1:2780/v1/targets/orders/events", events)
            if number + 1 < len(USERS):
                podman("kill", "--signal=KILL", daemon)
            else:
                podman("stop", "--time=40", daemon)
            code = podman("wait", daemon)
            print(f"user {user}: accepted {EVENTS} events, exit code {code}")
            podman("rm", daemon)
        seen = podman.ask(pause, "http://127.0.0.1:2790/_sandbox/events?api=eventbridge").splitlines()
        if len(seen) < EVENTS * len(USERS):
            sys.exit(f"{len(seen)} events arrived of {EVENTS * len(USERS)}")
        print(f"{len(seen)} events arrived of {EVENTS * len(USERS)} accepted; {podman('--version')}")
    finally:
        for name in (daemon, pause):
            podman("rm", "--force", name, check=False)
        podman("volume", "rm", "--force", volume, check=False)


if __name__ == "__main__":
    main()
