"""Makes the programs of all clients, at the same time: ``make e2e`` does it first, with no limit of a test's.

The tests make what is missing themselves; what is there is not made again.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.programs import CLIENTS, OLDER, Client


ALL = (*CLIENTS, *OLDER)


def prepare(client: Client) -> str:
    began = time.monotonic()
    try:
        client.command()
    except pytest.skip.Exception as missing:
        return f"{client.name}: {missing}"
    return f"{client.name}: ready after {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    with ThreadPoolExecutor(len(ALL)) as pool:
        for line in pool.map(prepare, ALL):
            print(line, file=sys.stderr)
