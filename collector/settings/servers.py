"""`[[server]]`: the servers that are polled."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from yarl import URL

from collector.settings.base import Name, Section
from collector.settings.secrets import secret_from_env, secret_from_file


class ServerSettings(Section):
    """A BBB server, or a load balancer's API seen with one tenant's secret."""

    name: Name = Field(
        description="Name in figures and logs. It is the server's identity: with a new name it is "
        "a new server."
    )
    url: str = Field(
        description="Address of BigBlueButton, with or without `api/`: "
        "`https://bbb1.example.org/bigbluebutton/`."
    )
    secret: SecretStr | None = Field(
        default=None, description="The shared secret (`securitySalt`). One of the three is needed."
    )
    secret_env: str | None = Field(
        default=None, description="Name of an environment variable that holds the secret."
    )
    secret_file: Path | None = Field(
        default=None, description="Path of a file that holds the secret; line ends are cut off."
    )
    checksum: Literal["sha1", "sha256", "sha384", "sha512"] = Field(
        default="sha256", description="Hash of the request's checksum; the server must allow it."
    )
    tenant: Name | None = Field(
        default=None, description="Tenant of all of this server's meetings (rule `server`)."
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file with certificates to trust instead of the system's."
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=60, description="Seconds that one request may take in all."
    )
    enabled: bool = Field(
        default=True, description="`false`: not polled, and no poll is due (coverage ignores it)."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            url = URL(value)
        except ValueError as error:
            msg = "is no URL"
            raise ValueError(msg) from error
        if url.scheme not in {"http", "https"} or not url.host:
            msg = "must begin with http:// or https:// and name a host"
            raise ValueError(msg)
        if url.query_string or url.fragment or url.user or url.password:
            msg = "must have no query, fragment, user or password"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        given = [k for k in ("secret", "secret_env", "secret_file") if getattr(self, k) is not None]
        if len(given) != 1:
            msg = "needs exactly one of secret, secret_env and secret_file"
            raise ValueError(msg)
        if self.secret is not None and not self.secret.get_secret_value():
            msg = "secret is empty"
            raise ValueError(msg)
        return self

    @property
    def api_url(self) -> URL:
        """The URL that call names are appended to; ends in `/api/`."""
        path = URL(self.url).path.rstrip("/")
        return URL(self.url).with_path((path if path.endswith("/api") else f"{path}/api") + "/")

    def read_secret(self) -> SecretStr:
        """Return the secret from wherever it is; SettingsError where that has none."""
        if self.secret is not None:
            return self.secret
        source = f"server[{self.name}]"
        if self.secret_env is not None:
            return secret_from_env(self.secret_env, "secret_env", source)
        assert self.secret_file is not None  # noqa: S101 - _check_secret made sure
        return secret_from_file(self.secret_file, "secret_file", source)
