"""TLS on the data listener: a context made from files, new for every change, for the connections to come.

Invariants:
- At least TLS 1.2, and HTTP/1.1 in it.
- A context is never changed: connections keep the one they began with.
- A key that needs a password is refused, never asked for on a terminal.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from forwarder.config import TlsConfig
from forwarder.ingest.auth.certificates import ends_at
from forwarder.ingest.auth.files import read_text


class Tls(NamedTuple):
    """``certificate_ends_at``: seconds since 1970."""

    context: ssl.SSLContext
    certificate_ends_at: float


def make_tls(settings: TlsConfig) -> Tls:
    """Read the files. Raises OSError or ValueError with a sentence."""
    chain = read_text(settings.certificate)
    read_text(settings.key)  # OpenSSL's own error would not say which of the files is missing
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    except ssl.SSLError as problem:
        raise ValueError(
            f"the certificate and its key {settings.key} cannot be used: {_reason(problem)}"
        ) from None
    if settings.client_ca is not None:
        _ask_for_certificates(context, settings.client_ca)
    return Tls(context, ends_at(chain))


def _ask_for_certificates(context: ssl.SSLContext, client_ca: str) -> None:
    authorities = read_text(client_ca)
    certificates = authorities.encode("ascii", "replace").decode()  # beside them may be words of any language
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError) as problem:  # ValueError: of an empty file
        why = _reason(problem) if isinstance(problem, ssl.SSLError) else "it is empty"
        raise ValueError(f"client_ca {client_ca} has no certificates: {why}") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _no_password() -> str:
    raise ValueError("the key is encrypted; it must have no password")


def _reason(problem: ssl.SSLError) -> str:
    return (problem.reason or "it cannot be read").lower().replace("_", " ")
