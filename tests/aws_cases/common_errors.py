"""Errors that every AWS API answers with, in every shape they come in."""

from __future__ import annotations

from tests.aws_cases import Error

_PAGE = "CloudWatch RUM API reference, Common Errors (2026); the same list stands in every API reference"
_SDK = "AWS JSON 1.1 and rest-json protocols, error serialization (Smithy)"
_REDIRECT = "HTTP Semantics (RFC 9110), section 15.4"


def _common(code: str, status: int, means: str) -> Error:
    return {
        "name": f"{code} {status}",
        "page": _PAGE,
        "status": status,
        "headers": {"Content-Type": "application/x-amz-json-1.1"},
        "body": b'{"__type":"' + code.encode() + b'","message":"what AWS says"}',
        "code": code,
        "message": "what AWS says",
        "means": means,
    }


ERRORS: tuple[Error, ...] = (
    _common("AccessDenied", 403, "held"),
    _common("AccessDeniedException", 403, "held"),
    _common("ExpiredToken", 403, "held"),
    _common("ExpiredTokenException", 403, "held"),
    _common("ExpiredTokenException", 400, "held"),
    _common("IncompleteSignature", 403, "held"),
    _common("InternalFailure", 500, "unavailable"),
    _common("InvalidClientTokenId", 403, "held"),
    _common("InvalidSignatureException", 403, "held"),
    _common("MalformedHttpRequestException", 400, "unavailable"),
    _common("MissingAuthenticationToken", 403, "held"),
    _common("NotAuthorized", 401, "held"),
    _common("OptInRequired", 403, "held"),
    _common("RequestAbortedException", 400, "unavailable"),
    _common("RequestEntityTooLargeException", 413, "refused"),
    _common("RequestExpired", 400, "held"),
    _common("RequestTimeoutException", 408, "unavailable"),
    _common("SerializationException", 400, "refused"),
    _common("ServiceUnavailable", 503, "unavailable"),
    _common("SignatureDoesNotMatch", 403, "held"),
    _common("ThrottlingException", 400, "throttled"),
    _common("ThrottlingException", 429, "throttled"),
    _common("TooManyRequestsException", 400, "throttled"),
    _common("UnknownOperationException", 404, "held"),
    _common("UnrecognizedClientException", 403, "held"),
    _common("UnrecognizedClientException", 400, "held"),
    _common("ValidationError", 400, "refused"),
    _common("ValidationException", 400, "refused"),
    # codes nobody has heard of: the status decides
    _common("BrandNewException", 400, "unavailable"),
    _common("BrandNewException", 403, "held"),
    _common("BrandNewException", 404, "held"),
    _common("BrandNewException", 410, "held"),
    _common("BrandNewException", 429, "throttled"),
    _common("BrandNewException", 500, "unavailable"),
)
"""Every common error, and codes that are in no list."""

SHAPES: tuple[Error, ...] = (
    {
        "name": "a namespaced type in the body",
        "page": _SDK,
        "status": 400,
        "headers": {},
        "body": b'{"__type":"com.amazonaws.events#ValidationException","Message":"over the limit"}',
        "code": "ValidationException",
        "message": "over the limit",
        "means": "refused",
    },
    {
        "name": "a code in the header, with the address of its model",
        "page": _SDK,
        "status": 429,
        "headers": {"x-amzn-ErrorType": "ThrottlingException:http://internal.amazon.com/coral/com.amazon.x/"},
        "body": b'{"message":"slow down"}',
        "code": "ThrottlingException",
        "message": "slow down",
        "means": "throttled",
    },
    {
        "name": "a header in lower case, as HTTP libraries hand it on",
        "page": _SDK,
        "status": 404,
        "headers": {"x-amzn-errortype": "ResourceNotFoundException"},
        "body": b"{}",
        "code": "ResourceNotFoundException",
        "message": "HTTP status 404",
        "means": "held",
    },
    {
        "name": "a code in the body",
        "page": _SDK,
        "status": 500,
        "headers": {},
        "body": b'{"code":"InternalServerException","message":"oops"}',
        "code": "InternalServerException",
        "message": "oops",
        "means": "unavailable",
    },
    {
        "name": "413 without a body, as the front end in front of EventBridge answers",
        "page": "boto/boto3#3411 on GitHub",
        "status": 413,
        "headers": {"Content-Length": "0", "Connection": "close"},
        "body": b"",
        "code": "413",
        "message": "HTTP status 413",
        "means": "refused",
    },
    {
        "name": "a proxy's page",
        "page": _SDK,
        "status": 502,
        "headers": {"Content-Type": "text/html"},
        "body": b"<html><body>Bad Gateway</body></html>",
        "code": "502",
        "message": "HTTP status 502",
        "means": "unavailable",
    },
    {
        "name": "a body that is a list",
        "page": _SDK,
        "status": 503,
        "headers": {},
        "body": b"[]",
        "code": "503",
        "message": "HTTP status 503",
        "means": "unavailable",
    },
    {
        "name": "a redirect",
        "page": _REDIRECT,
        "status": 307,
        "headers": {"Location": "https://elsewhere.example/"},
        "body": b"",
        "code": "307",
        "message": "HTTP status 307",
        "means": "held",
    },
)
"""The shapes that codes and messages come in."""
