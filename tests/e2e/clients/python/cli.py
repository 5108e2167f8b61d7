"""The program of tests/e2e/programs.py with the AWS CLI, run anew for each call.

Its arguments are the path of the CLI and the API; between them ``--endpoint-url`` where the CLI reads no
variable for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

COMMANDS = {"eventbridge": ("events", "put-events"), "rum": ("rum", "put-rum-events")}
_ERROR = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation[^:]*: (.*)", re.DOTALL)


def main() -> None:
    aws, *options, api = sys.argv[1:]
    if options:
        options.append(os.environ[f"AWS_ENDPOINT_URL_{api.upper()}"])
    command = [aws, *COMMANDS[api], *options, "--output", "json", "--cli-input-json"]
    for line in sys.stdin:
        ran = subprocess.run([*command, line], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        said: dict[str, Any]
        if ran.returncode == 0:
            said = {"answer": json.loads(ran.stdout or "{}")}
        else:
            found = _ERROR.search(ran.stderr)
            code, message = found.groups() if found else (f"exit code {ran.returncode}", ran.stderr)
            said = {"error": {"code": code, "message": message.strip()}}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
