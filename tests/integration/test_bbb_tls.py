"""The client and TLS: which certificates are trusted, and where HTTPS ends."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.bbb import BbbClient
from collector.errors import SettingsError
from collector.model import Answer
from tests.support.fake_servers import failure, redirects, response, serving, signed

pytestmark = pytest.mark.usefixtures("_no_proxy")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, valid for 30 days, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
    names = ["-subj", "/CN=bbb", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def test_untrusted_certificate(
    make_client: Callable[..., BbbClient[Answer]], tls: ssl.SSLContext
) -> None:
    """A self-signed certificate is refused."""
    async with serving(signed, tls) as server:
        assert await failure(make_client(server.port, "https")) == "tls"
    assert not server.requests


async def test_own_authority(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """With `ca_file` the certificate is trusted, and its end is known."""
    async with serving(signed, tls) as server:
        client = make_client(server.port, "https", ca_file=certificate[0])
        reply = await client.ask()
    assert reply.tls_expires_at is not None
    assert timedelta(29) < reply.tls_expires_at - datetime.now(UTC) < timedelta(31)


async def test_certificate_for_another_name(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """A trusted certificate for another host is refused."""
    async with serving(signed, tls) as server:
        url = f"https://localhost:{server.port}/bigbluebutton"
        assert await failure(make_client(url=url, ca_file=certificate[0])) == "tls"


async def test_no_tls_behind_https(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A server that answers TLS in plain text, or hangs up, fails in TLS."""

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(b"", "400 Bad Request"))
        await writer.drain()
        writer.close()

    for handler in (plain, hangs_up):
        listener = await asyncio.start_server(handler, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            assert await failure(make_client(port, "https")) == "tls"


async def test_no_way_from_https_to_http(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """A redirect from HTTPS to HTTP is refused, one from HTTP to HTTPS followed."""
    ca_file = certificate[0]
    path = "/bigbluebutton/api/getMeetings?QUERY"
    async with serving(signed) as plain, serving(signed, tls) as secure:
        down, up = (
            f"http://127.0.0.1:{plain.port}{path}",
            f"https://127.0.0.1:{secure.port}{path}",
        )
        async with serving(redirects(down), tls) as server:
            assert await failure(make_client(server.port, "https", ca_file=ca_file)) == "redirect"
        assert not plain.requests
        async with serving(redirects(up)) as server:
            await make_client(server.port, ca_file=ca_file).ask()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_ca_file(
    make_client: Callable[..., BbbClient[Answer]], tmp_path: Path, content: str | None
) -> None:
    """A `ca_file` that is missing or holds no certificate is a matter of the settings."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"server\[bbb1\]: ca_file: .*ca\.pem"):
        make_client(1, "https", ca_file=ca_file)
