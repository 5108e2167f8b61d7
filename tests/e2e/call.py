"""One call of AWS by whatever SDK the Python that runs this has: boto3, else botocore. Knows nothing of us.

Reads ``{"service", "operation", "params", "config"}`` from standard input. Prints ``answer`` or ``error`` as
the SDK gives them to a program, the HTTP ``status`` and ``headers``, and how many ``retries`` it made. Where
AWS is and how often to try comes from the environment, as in any program.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError


def client(service: str, config: dict[str, Any]) -> Any:
    try:
        import boto3
    except ImportError:
        import botocore.session

        return botocore.session.get_session().create_client(service, config=Config(**config))
    return boto3.client(service, config=Config(**config))


def main() -> None:
    order = json.load(sys.stdin)
    aws = client(order["service"], order.get("config", {}))
    said: dict[str, Any] = {}
    try:
        answer = getattr(aws, order["operation"])(**order["params"])
        metadata = answer.pop("ResponseMetadata")
        said["answer"] = answer
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        said["error"] = error.response["Error"]
    said["status"] = metadata["HTTPStatusCode"]
    said["headers"] = metadata["HTTPHeaders"]
    said["retries"] = metadata["RetryAttempts"]
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
