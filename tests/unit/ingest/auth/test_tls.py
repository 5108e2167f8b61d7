"""TLS on the data listener, on both event loops: the daemon's and Python's own."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from forwarder.config import ConfigError, TlsConfig
from tests.support.authorities import HOUR, Authority, now
from tests.support.ingest import EVENT, NATIVE, Ingest, Peer, request, serving, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(files: tuple[str, str], clients: Authority | None = None) -> TlsConfig:
    return TlsConfig(certificate=files[0], key=files[1], client_ca=str(clients.file) if clients else None)


@asynccontextmanager
async def peer_of(ingest: Ingest, context: ssl.SSLContext) -> AsyncIterator[Peer]:
    host, _, port = ingest.server.address.rpartition(":")
    async with asyncio.timeout(10):
        peer = Peer(*await asyncio.open_connection(host, int(port), ssl=context))
    try:
        yield peer
    finally:
        await peer.close()


async def post(peer: Peer) -> int:
    await peer.send(request(NATIVE, EVENT))
    return (await peer.answer()).status


def serial(peer: Peer) -> int:
    shown = peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number


def failures(ingest: Ingest) -> dict[str, int]:
    return {reason: n for reason, n in ingest.metrics.senders.failed_handshakes.items() if n}


# --- connections


async def test_events_come_over_tls(authority: Authority) -> None:
    async with serving(tls=settings(authority.issue("server"))) as ingest:
        async with peer_of(ingest, authority.trusted()) as peer:
            assert [await post(peer), await post(peer)] == [202, 202]
            assert peer.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await until(lambda: ingest.server.connections == 0)
        assert ingest.count() == 2


async def test_a_body_larger_than_any_buffer_comes_over_tls(authority: Authority) -> None:
    body = b"\n".join([b'{"Source":"s","DetailType":"t","Detail":{"x":"' + b"x" * 500 + b'"}}'] * 4000)
    tls = settings(authority.issue("server"))
    async with serving(tls=tls) as ingest, peer_of(ingest, authority.trusted()) as peer:
        await peer.send(request(NATIVE, body, {"Content-Type": "application/x-ndjson"}))
        assert (await peer.answer()).json["accepted"] == 4000


async def test_a_client_without_tls_is_cut_and_costs_no_place(authority: Authority) -> None:
    async with serving(tls=settings(authority.issue("server")), max_connections=1) as ingest:
        for _ in range(3):
            peer = await ingest.peer()
            await peer.send(request(NATIVE, EVENT))
            await asyncio.wait_for(peer.reader.read(), 10)
            await peer.close()
            await until(lambda: ingest.server.connections == 0)
        assert failures(ingest) == {"other": 3}
        async with peer_of(ingest, authority.trusted()) as peer:
            assert await post(peer) == 202


async def test_who_never_ends_its_handshake_has_a_place_only_so_long(authority: Authority) -> None:
    tls = settings(authority.issue("server"))
    async with serving(tls=tls, max_connections=1, read_timeout=0.2) as ingest:
        silent = await ingest.peer()
        await until(lambda: ingest.server.connections == 1)
        await until(lambda: ingest.server.connections == 0)
        assert await silent.is_closed()
        assert failures(ingest) == {"timeout": 1}
        await silent.close()


async def test_who_goes_away_in_its_handshake_gives_its_place_back(authority: Authority) -> None:
    async with serving(tls=settings(authority.issue("server")), max_connections=1) as ingest:
        for end in (Peer.close, Peer.reset):
            peer = await ingest.peer()
            await until(lambda: ingest.server.connections == 1)
            await end(peer)
            await until(lambda: ingest.server.connections == 0)


async def test_a_server_closes_in_the_middle_of_handshakes(authority: Authority) -> None:
    async with serving(tls=settings(authority.issue("server"))) as ingest:
        silent = await ingest.peer()
        await until(lambda: ingest.server.connections == 1)
    assert await silent.is_closed()
    await silent.close()
    await until(lambda: ingest.server.connections == 0)


async def test_a_client_of_tls_1_1_is_refused(authority: Authority) -> None:
    old = authority.trusted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    async with serving(tls=settings(authority.issue("server"))) as ingest:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with peer_of(ingest, old):
                pass
        await until(lambda: failures(ingest) == {"other": 1})


# --- certificates of clients


async def test_a_client_with_a_certificate_of_the_authority_is_let_in(authority: Authority) -> None:
    tls = settings(authority.issue("server"), clients=authority)
    async with (
        serving(tls=tls) as ingest,
        peer_of(ingest, authority.trusted(authority.issue("client"))) as peer,
    ):
        assert await post(peer) == 202


@pytest.mark.parametrize("which", ["none", "foreign", "ended"])
async def test_a_client_without_such_a_certificate_is_refused(
    authority: Authority, tmp_path: Path, which: str
) -> None:
    certificates: dict[str, Callable[[], tuple[str, str] | None]] = {
        "none": lambda: None,
        "foreign": lambda: Authority(tmp_path, "another").issue("foreign"),
        "ended": lambda: authority.issue("ended", ends=now() - HOUR),
    }
    context = authority.trusted(certificates[which]())
    async with serving(tls=settings(authority.issue("server"), clients=authority)) as ingest:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            async with peer_of(ingest, context) as peer:  # in TLS 1.3 a client hears of it when it reads
                await post(peer)
        await until(lambda: failures(ingest) == {"certificate": 1})
        assert ingest.count() == 0


async def test_words_of_any_language_beside_the_certificates_are_no_trouble(authority: Authority) -> None:
    authority.file.write_bytes("# Főtanúsítvány\n".encode() + authority.file.read_bytes())
    tls = settings(authority.issue("server"), clients=authority)
    client = authority.trusted(authority.issue("client"))
    async with serving(tls=tls) as ingest, peer_of(ingest, client) as peer:
        assert await post(peer) == 202


# --- change


async def test_a_new_certificate_is_for_new_connections_and_old_ones_go_on(authority: Authority) -> None:
    tls = settings(authority.issue("server"))
    async with serving(tls=tls) as ingest, peer_of(ingest, authority.trusted()) as old:
        assert await post(old) == 202
        authority.issue("server")
        assert await ingest.files.look() == {"tls": "good"}
        assert await post(old) == 202
        async with peer_of(ingest, authority.trusted()) as new:
            assert await post(new) == 202
            assert serial(new) != serial(old)


async def test_an_authority_that_is_taken_away_lets_nobody_in_any_more(
    authority: Authority, tmp_path: Path
) -> None:
    client = authority.trusted(authority.issue("client"))
    async with serving(tls=settings(authority.issue("server"), clients=authority)) as ingest:
        async with peer_of(ingest, client) as peer:
            assert await post(peer) == 202
        authority.file.write_bytes(Authority(tmp_path, "another").file.read_bytes())
        assert await ingest.files.look() == {"tls": "good"}
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            async with peer_of(ingest, client) as peer:
                await post(peer)


async def test_a_certificate_that_does_not_fit_its_key_leaves_the_old_one(authority: Authority) -> None:
    tls = settings(authority.issue("server"))
    async with serving(tls=tls) as ingest:
        certificate, key = authority.issue("other")
        Path(tls.certificate).write_bytes(Path(certificate).read_bytes())
        assert await ingest.files.look() == {"tls": "bad"}
        async with peer_of(ingest, authority.trusted()) as peer:
            assert await post(peer) == 202
        assert b'forwarder_secret_file_stale{file="tls"} 1' in ingest.metrics.expose()
        Path(tls.key).write_bytes(Path(key).read_bytes())
        assert await ingest.files.look() == {"tls": "good"}
        async with peer_of(ingest, authority.trusted()) as peer:
            assert await post(peer) == 202


async def test_the_end_of_the_certificate_is_a_metric(authority: Authority) -> None:
    ends = now() + datetime.timedelta(days=30)
    async with serving(tls=settings(authority.issue("server", ends))) as ingest:
        [line] = [
            line
            for line in ingest.metrics.expose().decode().splitlines()
            if line.startswith("forwarder_tls_certificate_expiry_timestamp_seconds ")
        ]
        assert float(line.split()[1]) == ends.timestamp()


# --- files


async def test_bad_files_are_named_at_start(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    _, other = authority.issue("other")
    _, sealed = authority.issue("sealed", password=b"PLANTED")
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN PLANTED-----")
    empty = tmp_path / "empty"
    empty.touch()
    torn = tmp_path / "torn"
    torn.write_text(authority.file.read_text().replace("MII", "Mű", 1))
    cases = {
        TlsConfig(
            certificate=certificate, key=key, client_ca=str(empty)
        ): f"client_ca {empty} has no certificates",
        TlsConfig(
            certificate=certificate, key=key, client_ca=str(torn)
        ): f"client_ca {torn} has no certificates",
        TlsConfig(certificate=str(tmp_path / "none"), key=key): f"ingest.tls: {tmp_path}/none: No such file",
        TlsConfig(
            certificate=certificate, key=str(tmp_path / "none")
        ): f"ingest.tls: {tmp_path}/none: No such",
        TlsConfig(certificate=certificate, key=other): "key values mismatch",
        TlsConfig(certificate=certificate, key=sealed): "the key is encrypted",
        TlsConfig(certificate=str(junk), key=key): "the certificate and its key",
        TlsConfig(
            certificate=certificate, key=key, client_ca=str(junk)
        ): f"client_ca {junk} has no certificates",
        TlsConfig(certificate=certificate, key=key, client_ca=str(tmp_path)): f"{tmp_path}: Is a directory",
    }
    for tls, problem in cases.items():
        with pytest.raises(ConfigError, match=r"ingest\.tls: ") as caught:
            async with serving(tls=tls):
                pass
        assert problem in str(caught.value)
        assert "PLANTED" not in str(caught.value)
