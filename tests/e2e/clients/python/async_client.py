"""The program of tests/e2e/programs.py with aiobotocore. Its argument is the API."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

CALLS = {"eventbridge": ("events", "put_events"), "rum": ("rum", "put_rum_events")}


async def main() -> None:
    service, operation = CALLS[sys.argv[1]]
    async with get_session().create_client(service) as client:
        call = getattr(client, operation)
        while line := await asyncio.to_thread(sys.stdin.readline):
            said: dict[str, Any]
            try:
                answer = await call(**json.loads(line))
                del answer["ResponseMetadata"]
                said = {"answer": answer}
            except ClientError as error:
                told = error.response["Error"]
                said = {"error": {"code": told["Code"], "message": told["Message"]}}
            except BotoCoreError as error:
                said = {"error": {"code": type(error).__name__, "message": str(error)}}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
