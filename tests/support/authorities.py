"""Certificate authorities, and the certificates they sign."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
HOUR = datetime.timedelta(hours=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """``file``: its own certificate."""

    def __init__(self, folder: Path, name: str = "a test's authority") -> None:
        self._folder = folder
        self._name = named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(self._name, self._key.public_key(), now() + HOUR, authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(PEM))

    def issue(
        self, name: str, ends: datetime.datetime | None = None, password: bytes | None = None
    ) -> tuple[str, str]:
        """The files of a new certificate for 127.0.0.1, and of its key, which replace those of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(named(name), key.public_key(), ends or now() + HOUR, authority=False)
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        files[0].write_bytes(certificate.public_bytes(PEM))
        files[1].write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, sealed))
        return str(files[0]), str(files[1])

    def trusted(self, client: tuple[str, str] | None = None) -> ssl.SSLContext:
        """What a client needs that trusts it, with a certificate of its own or none."""
        context = ssl.create_default_context(cafile=str(self.file))
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime.datetime, *, authority: bool
    ) -> x509.Certificate:
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder(self._name, name, key, x509.random_serial_number())
            .not_valid_before(min(now(), ends) - HOUR)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(address, critical=False)
            # Python 3.13 verifies strictly, by RFC 5280: key identifiers and, of an authority, the key usage.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_usage(authority), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
