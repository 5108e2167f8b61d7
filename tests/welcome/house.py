"""A daemon started as a machine of another kind would start it: in a network, mounts and names of its own.

Run as root under ``unshare --mount --net``. The argument is the plan, a file in JSON. It prints
a line for each start, in JSON: ``exit`` and ``log`` of a daemon that ended before it was ready; else the
``answer`` to some events, how many events wait then, the ``metrics``, and the ``exit`` code of a stop.

Invariants:
- Nothing outside is changed: the mounts are this process's own and go with it.
- The configuration is used as it stands, except for the paths of the files that the plan brings.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FILES = Path("/mnt/forwarder")
PATIENCE = 60.0
KUBERNETES_DATA = "..2026_11_29_00_00_00.123456789"


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def furnish(plan: dict[str, Any]) -> None:
    """The loopback, the names, the volume and the files, as the plan has them."""
    run("ip", "link", "set", "lo", "up")
    Path(plan["hosts"]).chmod(0o644)
    run("mount", "--bind", plan["hosts"], "/etc/hosts")
    for folder, mode in (("/mnt", "0755"), ("/var/lib", "0755"), ("/run", "0755")):
        run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", folder)
    mode, user, group = plan["volume"]
    for folder in plan["volumes"]:
        Path(folder).mkdir()
        os.chown(folder, user, group)
        os.chmod(folder, int(mode, 8))
    project(plan["files"])


def project(files: dict[str, str]) -> None:
    """Files as Kubernetes projects a Secret or ConfigMap: symlinks to files that all may read."""
    data = FILES / KUBERNETES_DATA
    data.mkdir(parents=True)
    (FILES / "..data").symlink_to(KUBERNETES_DATA)
    for name, text in files.items():
        (data / name).write_text(text)
        (data / name).chmod(0o644)
        (FILES / name).symlink_to(f"..data/{name}")


def start(plan: dict[str, Any], user: int, group: int) -> subprocess.Popen[bytes]:
    groups = ["--groups", ",".join(map(str, plan["groups"]))] if plan["groups"] else ["--clear-groups"]
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", *groups, "--no-new-privs"]
    log = (FILES / "log").open("ab")
    return subprocess.Popen(
        [*become, *plan["command"], "run", "-c", FILES / "forwarder.yaml"],
        env={**os.environ, **plan["environ"]},
        cwd=plan["volumes"][0],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        umask=int(plan["umask"], 8),
    )


def is_ready(admin: str, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{admin}/health/ready", timeout=2):
                return True
        except OSError:
            time.sleep(0.05)
    return False


class Unix(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("ingest")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def connection(plan: dict[str, Any]) -> http.client.HTTPConnection:
    address = plan["ingest"]
    if address.startswith("unix:"):
        return Unix(address.removeprefix("unix:"))
    if "tls.crt" not in plan["files"]:
        return http.client.HTTPConnection(address)
    context = ssl.create_default_context(cafile=FILES / "server-ca.pem")
    context.load_cert_chain(FILES / "client.crt", FILES / "client.key")
    return http.client.HTTPSConnection(address, context=context)


def send(plan: dict[str, Any]) -> dict[str, Any]:
    to = connection(plan)
    events = [{"Source": "welcome", "DetailType": "a", "Detail": {"n": n}} for n in range(plan["events"])]
    headers = {"Content-Type": "application/json", **plan["headers"]}
    to.request("POST", f"/v1/targets/{plan['target']}/events", json.dumps(events), headers)
    answer = to.getresponse()
    said = {"status": answer.status, "body": answer.read().decode()}
    to.close()
    return said


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def live_through(plan: dict[str, Any], user: int, group: int, last: bool) -> dict[str, Any]:
    """One start, some events, and a kill; at the last start a stop."""
    process = start(plan, user, group)
    if not is_ready(plan["admin"], process):
        process.kill()
        return {"exit": process.wait(), "log": (FILES / "log").read_text()}
    try:
        said: dict[str, Any] = {"answer": send(plan), "metrics": ask(f"{plan['admin']}/metrics")}
        waits = json.loads(ask(f"{plan['admin']}/status"))["targets"][plan["target"]]
        said["waits"] = waits["waiting"] + waits["in_flight"]
        process.send_signal(signal.SIGTERM if last and plan["stops"] else signal.SIGKILL)
        said["exit"] = process.wait(PATIENCE)
        return said
    finally:
        process.kill()
        process.wait()


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    furnish(plan)
    for number, (user, group) in enumerate(plan["starts"], 1):
        said = live_through(plan, user, group, last=number == len(plan["starts"]))
        print(json.dumps(said), flush=True)
        if "answer" not in said:
            break


if __name__ == "__main__":
    main()
