"""Hosts that have one address family or both: each a network namespace, with the daemon as it is deployed.

Invariants:
- In a namespace only commands run, at their default ports: none is told an address.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import DEADLINE

IPV4_ONLY = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"
IPV6_ONLY = "ip address del 127.0.0.1/8 dev lo"
DUAL_STACK = "true"

ON_THE_HOST = """
import json, socket, subprocess, sys, time
import forwarder.cli as cli

def connects(family, host):
    with socket.socket(family) as peer:
        return peer.connect_ex((host, 2780)) == 0

def sent(line, *arguments):
    done = subprocess.run([sys.executable, "-m", "forwarder", "send", *arguments], input=line)
    return done.returncode

config = sys.argv[1]
daemon = subprocess.Popen([sys.executable, "-m", "forwarder", "run", "-c", config])
sandbox = subprocess.Popen([sys.executable, "-m", "forwarder", "sandbox", "--listen", ":2790"])
deadline = time.monotonic() + float(sys.argv[2])
while cli.main(["health", "--ready"]) and time.monotonic() < deadline and daemon.poll() is None:
    time.sleep(0.1)
line = json.dumps({"Source": "a", "DetailType": "b", "Detail": {}}).encode()
seen = {
    "health": cli.main(["health"]),
    "health of the configuration": cli.main(["health", "-c", config]),
    "status": cli.main(["status", "--json"]),
    "send": sent(line, "orders"),
    "send to a port": sent(line, "orders", "--url", ":2780"),
    "IPv4": connects(socket.AF_INET, "127.0.0.1"),
    "IPv6": connects(socket.AF_INET6, "::1"),
}
daemon.terminate()
seen["exit"] = daemon.wait()
sandbox.terminate()
sandbox.wait()
print()
print(json.dumps(seen))
"""

CONFIG = """
targets: {{orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "http://{loopback}:2790"}}}}
storage: {{path: {storage}}}
ingest: {{listen: ":2780", auth: {{allow_unauthenticated: true}}}}
admin: {{listen: ":2781"}}
shutdown: {{input_grace: 0s}}
"""


def may_make_namespaces() -> bool:
    made = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return shutil.which("unshare") is not None and subprocess.run(made, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [(IPV4_ONLY, True, False), (IPV6_ONLY, False, True), (DUAL_STACK, True, True)],
    ids=["IPv4 only", "IPv6 only", "both"],
)
def test_one_configuration_works_on_hosts_with_either_family(
    tmp_path: Path, host: str, ipv4: bool, ipv6: bool
) -> None:
    if os.geteuid() != 0 or not may_make_namespaces():
        pytest.skip("needs root and network namespaces")
    config = tmp_path / "forwarder.yaml"
    config.write_text(CONFIG.format(loopback="127.0.0.1" if ipv4 else "[::1]", storage=tmp_path / "state"))
    command = ["unshare", "--net", "--kill-child", "sh", "-ec", f'ip link set lo up; {host}; exec "$@"', "sh"]
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    done = subprocess.run(
        [*command, sys.executable, "-c", ON_THE_HOST, str(config), str(3 * DEADLINE)],
        env=os.environ | keys,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "health": 0,
        "health of the configuration": 0,
        "status": 0,
        "send": 0,
        "send to a port": 0,
        "IPv4": ipv4,
        "IPv6": ipv6,
        "exit": 0,
    }, done.stderr
    assert "stopped, nothing lost" in done.stderr


def test_a_socket_is_closed_again_when_a_later_address_cannot_be_had(tmp_path: Path) -> None:
    """The daemon listens on all of a list, or does not start; the log names the one."""
    config, path = tmp_path / "forwarder.yaml", tmp_path / "in.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen = json.dumps([f"unix:{path}", f"127.0.0.1:{port}"])
        config.write_text(
            "targets: {orders: {kind: eventbridge, region: eu-west-1}}\n"
            f"storage: {{path: {tmp_path / 'state'}}}\n"
            f"ingest: {{listen: {listen}}}\nadmin: {{listen: '127.0.0.1:0'}}\nlog: {{format: json}}\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "forwarder", "run", "-c", str(config)], capture_output=True, text=True
        )
    assert done.returncode == 75, done.stderr
    (line,) = (json.loads(each) for each in done.stderr.splitlines() if "cannot start" in each)
    assert line["reason"] == f"ingest.listen[1] 127.0.0.1:{port}: Address already in use"
    assert not path.exists()
