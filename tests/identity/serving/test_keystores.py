"""PKCS#12 stores hold what the PEM files hold, and Java uses them as they are."""

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.identity.serving.authority import Identities
from watertight.identity.credential_files import CredentialFiles, DeliveryError, check
from watertight.identity.keystores import (
    KEYSTORE,
    PASSWORD,
    PRIVATE_KEY_DER,
    TRUSTSTORE,
    keystore,
    truststore,
)

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK (java)")
HANDSHAKE = Path(__file__).with_name("Handshake.java")


@pytest.fixture
def current(tmp_path: Path, identities: Identities) -> Path:
    """A delivered set of ``orders``."""
    CredentialFiles(tmp_path / "tls").put(identities.svids["orders"], identities.bundle())
    return tmp_path / "tls" / "current"


async def test_the_keystore_holds_the_svid_under_its_name(
    current: Path, identities: Identities
) -> None:
    held = pkcs12.load_pkcs12((current / KEYSTORE).read_bytes(), PASSWORD.encode())
    svid = identities.svids["orders"]
    assert held.cert is not None
    assert (held.cert.friendly_name, held.cert.certificate) == (b"orders", svid.leaf)
    assert [extra.certificate for extra in held.additional_certs] == list(svid.chain[1:])


async def test_an_older_set_without_stores_is_completed(
    current: Path, identities: Identities
) -> None:
    (current / KEYSTORE).unlink()
    files = CredentialFiles(current.parent)
    assert files.put(identities.svids["orders"], identities.bundle())
    assert (current / KEYSTORE).is_file()
    assert not files.put(identities.svids["orders"], identities.bundle())


@pytest.mark.parametrize("name", [KEYSTORE, TRUSTSTORE, PRIVATE_KEY_DER])
async def test_a_store_of_something_else_is_refused(
    current: Path, identities: Identities, name: str
) -> None:
    check(current)
    identities.rotate_root()
    other = identities.svids["payments"]
    wrong = {
        KEYSTORE: keystore(other),
        TRUSTSTORE: truststore(identities.bundle()),
        PRIVATE_KEY_DER: other.private_key_der,
    }
    (current / name).write_bytes(wrong[name])
    with pytest.raises(DeliveryError, match="does not hold the new SVID"):
        check(current)
    (current / name).write_bytes(b"not a store")
    with pytest.raises(DeliveryError, match="cannot be read back"):
        check(current)


@needs_java
async def test_java_shakes_hands_with_the_files_as_they_are(
    current: Path, identities: Identities, tmp_path: Path
) -> None:
    """TLS 1.3 with a client certificate, at a server with another SVID of the same authority."""
    CredentialFiles(tmp_path / "server").put(identities.svids["payments"], identities.bundle())
    serving = tmp_path / "server" / "current"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(serving / "combined.pem")
    context.load_verify_locations(serving / "bundle.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names = writer.get_extra_info("peercert")["subjectAltName"]
        writer.write(f"hello {dict(names)['URI']}\n".encode())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        java = await asyncio.create_subprocess_exec(
            *("java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(HANDSHAKE)),
            *(str(current), str(server.sockets[0].getsockname()[1]), PASSWORD),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await java.communicate()
    assert output.decode().splitlines() == ["TLSv1.3", "hello spiffe://shop.internal/orders"]
