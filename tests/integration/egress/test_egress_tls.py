import asyncio
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from egress_receivers import Peer, loopback_engine, post, receiving

from pulse_egress.engine import HttpEngine
from pulse_egress.errors import ConnectFailed, ConnectFailure, EgressTimeout, Phase

HOST = "hooks.example.com"


def certificate(folder: Path, *, host: str = HOST, age_days: int = 1) -> Path:
    """Writes a self-signed certificate, valid for 30 days since its age, and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    start = datetime.now(UTC) - timedelta(days=age_days)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    path = folder / "certificate.pem"
    key_bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key_bytes + made.public_bytes(Encoding.PEM))
    return path


def serving(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def trusting(path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(path))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def tls_failure(engine: HttpEngine, url: str) -> str:
    with pytest.raises(ConnectFailed) as caught:
        await post(engine, url)
    assert caught.value.reason is ConnectFailure.TLS
    return caught.value.detail


async def test_a_trusted_certificate_of_the_right_host_is_accepted(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    async with receiving(tls=serving(path)) as receiver, loopback_engine(tls=trusting(path)) as engine:
        answers = [await post(engine, receiver.url(host=HOST)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert receiver.contacts == 1


async def test_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    async with receiving(tls=serving(certificate(tmp_path))) as receiver, loopback_engine() as engine:
        assert "self" in await tls_failure(engine, receiver.url(host=HOST))
    assert receiver.requests == []


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    path = certificate(tmp_path, host="other.example.com")
    async with receiving(tls=serving(path)) as receiver, loopback_engine(tls=trusting(path)) as engine:
        assert "mismatch" in await tls_failure(engine, receiver.url(host=HOST))
    assert receiver.requests == []


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    path = certificate(tmp_path, age_days=60)
    async with receiving(tls=serving(path)) as receiver, loopback_engine(tls=trusting(path)) as engine:
        assert "expired" in await tls_failure(engine, receiver.url(host=HOST))
    assert receiver.requests == []


async def test_a_version_below_1_2_is_refused(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    server, lax_client = serving(path), trusting(path)
    for context in (server, lax_client):
        context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        server.maximum_version = lax_client.minimum_version = ssl.TLSVersion.TLSv1_1
        server.minimum_version = ssl.TLSVersion.TLSv1_1
    async with receiving(tls=server) as receiver, loopback_engine(tls=trusting(path)) as engine:
        with pytest.raises(ConnectFailed) as caught:
            await post(engine, receiver.url(host=HOST))
        assert receiver.contacts == 0
        _, writer = await asyncio.open_connection(
            "127.0.0.1", receiver.port, ssl=lax_client, server_hostname=HOST
        )  # the receiver does speak 1.1 to those who let it
        writer.close()
        await writer.wait_closed()
    assert caught.value.reason in {ConnectFailure.TLS, ConnectFailure.RESET}


async def test_plain_http_on_a_tls_port_is_a_tls_failure() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with receiving(script) as receiver, loopback_engine() as engine:
        await tls_failure(engine, f"https://{HOST}:{receiver.port}/")


async def test_a_stalled_handshake_ends_at_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_closed()

    async with receiving(script) as receiver, loopback_engine() as engine:
        async with asyncio.timeout(4):
            with pytest.raises(EgressTimeout) as caught:
                await post(engine, f"https://{HOST}:{receiver.port}/", deadline_s=0.2)
    assert caught.value.phase is Phase.CONNECT


@pytest.mark.parametrize("weakness", ["verify", "host", "version"])
def test_a_context_that_verifies_less_is_an_error(weakness: str) -> None:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if weakness != "version":
        context.check_hostname = False
    if weakness == "verify":
        context.verify_mode = ssl.CERT_NONE
    if weakness == "version":
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.raises(ValueError, match="must verify"):
        HttpEngine(ssl_context=context)
