"""`[[server]]`: the servers to poll."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from yarl import URL

from collector.errors import SettingsError
from collector.settings.base import Name, Section
from collector.settings.hosts import host_of
from collector.settings.secrets import secret_from_env, secret_from_file


class ServerSettings(Section):
    """A BigBlueButton server, or a load balancer's API with one tenant's secret."""

    name: Name = Field(
        description="Name in figures and logs. The name identifies the server: if you change it, "
        "it counts as another server."
    )
    url: str = Field(
        description="Address of BigBlueButton, with or without `api/`: "
        "`https://bbb1.example.org/bigbluebutton/`. Two enabled entries with the same address need "
        "different secrets: else each session would count twice."
    )
    secret: SecretStr | None = Field(
        default=None,
        description="The shared secret (`securitySalt`). Give exactly one of `secret`, "
        "`secret_env` and `secret_file`.",
    )
    secret_env: str | None = Field(
        default=None, description="Name of an environment variable that holds the secret."
    )
    secret_file: Path | None = Field(
        default=None, description="Path of a file that holds the secret; line ends are removed."
    )
    checksum: Literal["sha1", "sha256", "sha384", "sha512"] = Field(
        default="sha256",
        description="Hash algorithm of the request's checksum. The server must allow it.",
    )
    tenant: Name | None = Field(
        default=None, description="Tenant of all sessions on this server (rule `server`)."
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the certificates to trust instead of the system's.",
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Maximum duration of one request in seconds, from connecting to the last byte. "
        "Waiting for a place among `connections_per_host` does not count.",
    )
    enabled: bool = Field(
        default=True,
        description="`false`: the server is not polled, and coverage does not include it.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            url = URL(value)
        except ValueError as error:
            msg = "is not a valid URL; write one such as https://bbb1.example.org/bigbluebutton/"
            raise ValueError(msg) from error
        if url.scheme not in {"http", "https"} or host_of(url.host or "") is None:
            msg = "must begin with http:// or https:// and name a host"
            raise ValueError(msg)
        if url.query_string or url.fragment or url.user or url.password:
            msg = "must not contain a query, a fragment, a user or a password"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        given = [k for k in ("secret", "secret_env", "secret_file") if getattr(self, k) is not None]
        if len(given) != 1:
            msg = "must have exactly one of secret, secret_env and secret_file"
            raise ValueError(msg)
        if self.secret is not None and not self.secret.get_secret_value():
            msg = "secret is empty; copy securitySalt from the server"
            raise ValueError(msg)
        return self

    @property
    def api_url(self) -> URL:
        """The URL to which the name of a call is appended. It ends in `/api/`."""
        path = URL(self.url).path.rstrip("/")
        return URL(self.url).with_path((path if path.endswith("/api") else f"{path}/api") + "/")

    @property
    def _address(self) -> tuple[str | None, int | None, tuple[str, ...]]:
        """Host, port and path of the API, as two entries for one server have them in common.

        The scheme is left out: a server answers the same over HTTP and HTTPS. So the port is None
        if it is the default of either.
        """
        url = self.api_url
        port = None if url.port in {80, 443} else url.port
        return host_of(url.host or ""), port, tuple(filter(None, url.path.split("/")))

    @property
    def host(self) -> str:
        """Host and port to which requests are sent. Entries with the same one share connections."""
        url = URL(self.url)
        return f"{host_of(url.host or '')}:{url.port}"

    def read_secret(self) -> SecretStr:
        """Return the secret from the settings, the variable or the file.

        Raises SettingsError if the variable or file does not hold one.
        """
        if self.secret is not None:
            return self.secret
        source = f"server[{self.name}]"
        if self.secret_env is not None:
            return secret_from_env(self.secret_env, "secret_env", source)
        assert self.secret_file is not None  # noqa: S101 - _check_secret made sure
        return secret_from_file(self.secret_file, "secret_file", source)


def twins(servers: Iterable[ServerSettings]) -> Iterator[str]:
    """Yield a problem for all enabled entries that have the same address and the same secret.

    They are one server, whose sessions would count twice. Entries with different secrets are
    tenants of a load balancer. A secret that cannot be read here and now is not compared.
    """
    at_address: dict[object, list[ServerSettings]] = {}
    for server in servers:
        if server.enabled:
            at_address.setdefault(server._address, []).append(server)  # noqa: SLF001 - same module
    for entries in at_address.values():
        if len(entries) == 1:
            continue  # most secrets need not be read
        by_secret: dict[str, list[str]] = {}
        for server in entries:
            try:
                secret = server.read_secret().get_secret_value()
            except SettingsError:
                continue
            by_secret.setdefault(secret, []).append(f"server[{server.name}]")
        for names in by_secret.values():
            if len(names) > 1:
                yield (
                    f"{', '.join(names[:-1])} and {names[-1]}: have the same address and the same "
                    "secret, so each session would count twice; remove one, or set enabled = false "
                    "in it"
                )
