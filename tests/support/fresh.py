"""The command ``forwarder``; its admin listener makes every answer anew, as a test reads what it just did."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from forwarder.admin import server

server.MAX_AGE_SECONDS = 0.0  # before the daemon takes it as its default

from forwarder.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
