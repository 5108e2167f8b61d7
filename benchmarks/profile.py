"""``make bench-profile``: a flame graph of the daemon while it takes arrays of 100 and sends calls of 10."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import Load
from benchmarks.servers import forwarder, sink

SECONDS = 5
RATE = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("into", type=Path, help="the SVG file to write")
    parser.add_argument("--per-post", type=int, default=100)
    options = parser.parse_args()
    options.into.parent.mkdir(parents=True, exist_ok=True)
    with sink() as aws, forwarder()(aws) as server:
        command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(server.pid)]
        command += ["--duration", str(SECONDS), "--rate", str(RATE), "--output", str(options.into)]
        with subprocess.Popen(command) as recording:
            while recording.poll() is None:
                Load(20_000, options.per_post).send(server)
                aws.collect(20_000)
    return recording.returncode


if __name__ == "__main__":
    sys.exit(main())
