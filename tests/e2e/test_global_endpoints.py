"""Global endpoints: with ``awscrt`` beside the daemon, a call with an ``EndpointId`` is signed by SigV4A.

Invariants:
- AWS is a server of the test's own, which keeps what the daemon sent.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.e2e.environments import environment
from tests.e2e.processes import FRESH, a_daemon, ask, until

TARGET = '  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "http://127.0.0.1:{port}"}}\n'
EVENT = {"Source": "my.app", "DetailType": "Hello", "Detail": {}}


@contextmanager
def an_aws() -> Iterator[tuple[int, list[tuple[str, dict[str, object]]]]]:
    """Its port, and of each call the ``Authorization`` header and the body."""
    calls: list[tuple[str, dict[str, object]]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls.append((self.headers["Authorization"], body))
            entries = [{"EventId": str(n)} for n, _ in enumerate(body.get("Entries", ()))]
            answer = json.dumps({"FailedEntryCount": 0, "Entries": entries}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_call_to_a_global_endpoint_is_signed_for_every_region(tmp_path: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment("awscrt").parent / "lib" / version / "site-packages"
    beside = ("env", f"PYTHONPATH={packages}", *FRESH)
    with an_aws() as (port, calls), a_daemon(tmp_path, TARGET.format(port=port), program=beside) as daemon:
        events = [{**EVENT, "EndpointId": "abcde.veo"}, EVENT]
        ask(f"{daemon.url}/v1/targets/orders/events", events, "POST")
        daemon.deliver("orders")
        until(lambda: len([1 for _, body in calls if "Entries" in body]) >= 2, "two calls", daemon.log)
    signed = {body.get("EndpointId"): sign.partition(" ")[0] for sign, body in calls if "Entries" in body}
    assert signed == {"abcde.veo": "AWS4-ECDSA-P256-SHA256", None: "AWS4-HMAC-SHA256"}
