"""The pictures of the page and of ``status --watch`` in ``docs/``, of a daemon under load and in trouble.

``python -m tests.e2e.pictures [MINUTES]`` (15, so that the plots are full) writes them anew.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.conftest import MONITOR
from tests.e2e.devtools import a_tab
from tests.e2e.processes import Daemon, Sandbox, a_daemon, a_sandbox, ask, until
from tests.e2e.terminals import a_terminal

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
TARGETS = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", queue: disk}}
  audit: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", buses: [audit]}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{url}", app_monitors: [MONITOR]}}
""".replace("MONITOR", MONITOR)
MINUTE = 60.0
DENIED = (
    "User: arn:aws:sts::111122223333:assumed-role/forwarder/me is not authorized to perform: events:PutEvents"
)
LATE = 0.8
"""The part of the time after which access to one bus is taken away."""


def send(daemon: Daemon, size: int, reject: int) -> None:
    details = [{"sandbox": "reject"} if i < reject else {"order": i} for i in range(size)]
    events = [{"Source": "my.app", "DetailType": "OrderPlaced", "Detail": detail} for detail in details]
    ask(f"{daemon.url}/v1/targets/orders/events", events, "POST")
    ask(f"{daemon.url}/v1/targets/audit/events", events[reject : size // 3 + reject], "POST")
    session = {"sessionId": "00000000-0000-4000-8000-0000000000cc"}
    view = {"type": "page_view", "details": {"page": "/"}, "UserDetails": session}
    ask(f"{daemon.url}/v1/targets/web/events", [view] * (size // 2), "POST")


def play(sandbox: Sandbox, daemon: Daemon, minutes: float) -> None:
    """Some load that comes and goes, some throttles, and at last a policy that is wrong."""
    chance = random.Random(1)
    began, denied = time.monotonic(), False
    while (part := (time.monotonic() - began) / (minutes * MINUTE)) < 1:
        if part > LATE and not denied:
            denied = True
            sandbox.order({"fault": "access_denied", "name": "audit", "message": DENIED})
        if 0.4 < part < 0.45:
            sandbox.order({"fault": "throttle", "api": "eventbridge", "name": "default", "seconds": 2})
        send(daemon, int(60 + 40 * chance.random() + 60 * (0.3 < part < 0.5)), int(chance.random() < 0.05))
        time.sleep(0.5)


async def take(daemon: Daemon) -> None:
    async with a_tab() as tab:
        await tab.look(1200, 900)
        await tab.open(f"{daemon.admin}/")
        await tab.shows("document.querySelectorAll('#plots figure').length", lambda found: found == 9)
        for name, width, height, scheme in (
            ("page-light", 1200, 1000, "light"),
            ("page-dark", 1200, 1000, "dark"),
            ("page-phone", 390, 844, "light"),
        ):
            await tab.look(width, height, scheme=scheme)
            await asyncio.sleep(0.5)
            await tab.picture(PICTURES / f"{name}.png")


def take_screen(daemon: Daemon, folder: Path) -> None:
    with a_terminal(folder) as terminal:
        command = [sys.executable, "-m", "forwarder", "status", "--watch", "--url", daemon.admin]
        terminal.run(command, columns=110, lines=42)
        until(lambda: "q quits" in terminal.screen(), "the status on the screen")
        text = re.sub(r"in /tmp/\S+", "in /var/lib/forwarder", terminal.screen())
        (PICTURES / "status-watch.txt").write_text(text.rstrip() + "\n")
        terminal.type("q")


def main(minutes: float) -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, a_sandbox(Path(folder), "--bus", "audit") as sandbox:
        place = Path(folder)
        with a_daemon(place, TARGETS.format(url=sandbox.url)) as daemon:
            play(sandbox, daemon, minutes)
            asyncio.run(take(daemon))
            take_screen(daemon, place)
            sandbox.mend()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15.0)
