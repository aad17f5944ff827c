"""TLS of hostile servers: handshakes that go wrong, certificates that prove nothing."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.hostile_servers import LONG_S, SHORT_S, healthy, listening, poll_both
from tests.support.settings import make_server

pytestmark = pytest.mark.usefixtures("_no_proxy")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"\x16\x03\x03"], "timeout"),  # half a record's head
        ([b"\x16\x03\x03\x40\x00\x02", *[b"\0"] * 10_000], "timeout"),  # byte by byte
        ([b"\x16\x03\x03\xff\xff" + bytes(70_000)], "tls"),  # a record that is too long
        ([b"\x15\x03\x03\0\2\2\x28"], "tls"),  # the alert handshake_failure
    ],
)
async def test_handshake_that_goes_wrong(parts: list[bytes], code: str) -> None:
    """A handshake that hangs is a timeout, one that breaks a matter of TLS."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)
        while await reader.read(65_536):  # until the client has gone
            pass

    async with listening(handle) as listener:
        url = f"https://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, timeout_s=SHORT_S if code == "timeout" else 20)
        results = await poll_both(hostile, listener.gone)
    assert (results["hostile"].outcome, results["healthy"].outcome) == (code, "ok")


CA_CONFIG = """
[ca]
default_ca = it
[it]
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = policy
x509_extensions = extensions
[policy]
commonName = supplied
[extensions]
subjectAltName = IP:127.0.0.1
basicConstraints = CA:TRUE
"""


def openssl(*arguments: str) -> None:
    """Run openssl."""
    command = ["openssl", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def certificate(folder: Path, since: str, until: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1, valid as said; return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    config = folder / "ca.conf"
    config.write_text(CA_CONFIG.format(folder=folder))
    request = folder / "request.pem"
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=bbb", "-keyout", str(key), "-out", str(request)),
    )
    openssl(
        *("ca", "-selfsign", "-batch", "-notext", "-config", str(config), "-keyfile", str(key)),
        *("-startdate", since, "-enddate", until, "-in", str(request), "-out", str(cert)),
    )
    return cert, key


@pytest.mark.parametrize(
    ("since", "until", "own", "code"),
    [
        ("20200101000000Z", "20990101000000Z", True, "ok"),
        ("20200101000000Z", "20200201000000Z", True, "tls"),  # expired
        ("20980101000000Z", "20990101000000Z", True, "tls"),  # not yet valid
        ("20200101000000Z", "20990101000000Z", False, "tls"),  # of another authority
    ],
)
async def test_certificate(tmp_path: Path, since: str, until: str, *, own: bool, code: str) -> None:
    """One that is out of its time, or of an authority that is not trusted, is refused."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    cert, key = certificate(folders[0], since, until)
    trusted = cert if own else certificate(folders[1], since, until)[0]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    async with listening(healthy, tls) as listener:
        url = f"https://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, ca_file=trusted, timeout_s=LONG_S)
        results = await poll_both(hostile)
    assert (results["hostile"].outcome, results["healthy"].outcome) == (code, "ok")
