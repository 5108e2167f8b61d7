"""The program of tests/e2e/programs.py with boto3, else botocore. Its argument is the API."""

from __future__ import annotations

import json
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

CALLS = {
    "eventbridge": ("events", "put_events"),
    "rum": ("rum", "put_rum_events"),
    "evidently": ("evidently", "put_project_events"),
}


def client(service: str) -> Any:
    try:
        import boto3
    except ImportError:
        import botocore.session

        return botocore.session.get_session().create_client(service)
    return boto3.client(service)


def main() -> None:
    service, operation = CALLS[sys.argv[1]]
    call = getattr(client(service), operation)
    for line in sys.stdin:
        said: dict[str, Any]
        try:
            answer = call(**json.loads(line))
            del answer["ResponseMetadata"]
            said = {"answer": answer}
        except ClientError as error:
            told = error.response["Error"]
            said = {"error": {"code": told["Code"], "message": told["Message"]}}
        except BotoCoreError as error:
            said = {"error": {"code": type(error).__name__, "message": str(error)}}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
