"""When a certificate ends, as far as its bytes tell."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from forwarder.config import TlsConfig
from forwarder.ingest.auth.certificates import ends_at
from forwarder.ingest.auth.tls import make_tls
from tests.support.authorities import Authority


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 9999])
def test_the_end_is_the_one_that_the_library_reads(tmp_path: Path, year: int) -> None:
    ends = datetime.datetime(year, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    files = Authority(tmp_path).issue("server", ends)
    chain = Path(files[0]).read_text()
    read = x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc
    assert ends_at(chain) == read.timestamp() == ends.timestamp()
    assert make_tls(TlsConfig(certificate=files[0], key=files[1])).certificate_ends_at == ends.timestamp()


def test_bytes_that_are_no_certificate_are_a_value_error(tmp_path: Path) -> None:
    chain = Path(Authority(tmp_path).issue("server")[0]).read_text()
    der = ssl.PEM_cert_to_DER_cert(chain)
    answers = set()
    for size in range(0, len(der), 3):
        for damaged in (der[:size], der[:size] + b"\xff" + der[size + 1 :]):
            try:
                answers.add(ends_at(ssl.DER_cert_to_PEM_cert(damaged)) > 0)
            except ValueError:
                answers.add(False)
    assert answers == {True, False}  # some damage is behind what is read
    with pytest.raises(ValueError, match="no certificate in PEM"):
        ends_at("what is none")
