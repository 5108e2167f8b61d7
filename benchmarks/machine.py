"""Processes, what they cost, and a certificate: everything the rows need of the machine.

CPU is the user and system time of one process with all its threads, by the kernel's clock for it.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import ipaddress
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = Path(__file__).parent
WAIT_SECONDS = 60.0
PORTS = (15_000, 32_000)


class Code(NamedTuple):
    """Which ``forwarder`` package runs: the one in ``tree``, on a Python that has what it needs."""

    tree: Path
    python: str


CHECKOUT = Code(HERE.parent, sys.executable)


@functools.cache
def certificate() -> Path:
    """A PEM file with a key and a certificate for 127.0.0.1, which every process here trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "certificate.pem"
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, form, plain) + made.public_bytes(pem))
    return path


def environment(code: Code = CHECKOUT) -> dict[str, str]:
    """Credentials with a session token, as roles have, the trust in our certificate, and whose code runs."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_SESSION_TOKEN": "t" * 700,
        "AWS_CA_BUNDLE": str(certificate()),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(code.tree),
    }


def free_port() -> int:
    """A free port outside the range of outgoing connections, since one of those could take it meanwhile."""
    while True:
        port = random.randrange(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def process(*command: str, code: Code = CHECKOUT) -> Iterator[int]:
    """Run Python with these arguments until the block ends; its process id.

    ``python -m`` looks into the working directory first, then into PYTHONPATH: both are the code's tree.
    """
    running = subprocess.Popen(
        [code.python, *command], cwd=code.tree, env=environment(code), stderr=subprocess.DEVNULL
    )
    try:
        yield running.pid
    except KeyboardInterrupt:
        running.kill()
        raise
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for_port(port: int, pid: int | None = None) -> None:
    """Return when something listens; give up early when the process that should has ended."""
    ends = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < ends:
        if pid is not None and (ended := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
            raise SystemExit(f"the server ended with exit code {ended.si_status} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.005)
    raise SystemExit(f"nothing listens on {port}")


def cpu_seconds(pid: int) -> float:
    """What the process has used so far, all its threads."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) gives on Linux


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """A field of /proc/PID/status, in MB: ``VmRSS``, or ``RssAnon`` for what is not a file's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"/proc/{pid}/status has no {field}")


def about() -> dict[str, str]:
    """What the figures depend on."""
    names = ("aiobotocore", "aiohttp", "botocore", "msgspec", "uvloop")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {_cpu_model()}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
