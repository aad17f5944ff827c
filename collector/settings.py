"""The settings: `bbbmeter.toml` and the environment, checked as a whole.

Every field's description is its documentation: `docs/settings.md` is generated from here.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from yarl import URL

from collector.errors import SettingsError
from collector.rollups import LEAST_KEPT_DAYS, ROLLUP_SOURCE

ENV_PREFIX = "BBBMETER_"

_TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant_name(name: str) -> bool:
    """Say whether `name` can name a tenant: 1 to 64 of letters, digits, `.`, `_`, `-`."""
    return _TENANT_NAME.fullmatch(name) is not None


def _check_name(name: str) -> str:
    if not is_tenant_name(name):
        msg = "must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit"
        raise ValueError(msg)
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Days = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of the file's tables: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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
        if self.secret_env is not None:
            value = os.environ.get(self.secret_env, "")
            where = f"environment variable {self.secret_env} (secret_env)"
        else:
            assert self.secret_file is not None  # noqa: S101 - _check_secret saw to it
            where = f"{self.secret_file} (secret_file)"
            try:
                value = self.secret_file.read_text(encoding="utf-8").strip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
                raise SettingsError([f"{where}: {reason}"], f"server[{self.name}]") from error
        if not value:
            raise SettingsError([f"{where} is empty or not set"], f"server[{self.name}]")
        return SecretStr(value)


class TenantSettings(Section):
    """Who is accountable for meetings."""

    name: Name = Field(description="Name in figures, rules and marks; it never changes.")
    title: str = Field(default="", max_length=200, description="Name for people.")
    max_participants: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most participants at a time that the contract allows, over all servers.",
    )
    month_minutes: int | None = Field(
        default=None,
        ge=1,
        description="Participant minutes a calendar month that the contract allows.",
    )


class ServerRule(Section):
    """`type = "server"`: the server's own `tenant`."""

    type: Literal["server"]


class MetadataRule(Section):
    """`type = "metadata"`: a metadata key that a load balancer writes."""

    type: Literal["metadata"]
    key: str = Field(
        min_length=1,
        description="`bbblb-tenant` (BBBLB), `tenant-id` (Scalelite) or `b3s-frontend` (b3scale). "
        "Only a key that the load balancer itself writes can be trusted; clients set the others.",
    )
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table value → tenant. When empty, the value is the tenant's name.",
    )

    @field_validator("key")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()


class SuffixRule(Section):
    """`type = "suffix"`: the suffix that BBBLB appends to meeting ids, `<id>-bbblb-<tenant>`."""

    type: Literal["suffix"]
    separator: str = Field(
        default="-bbblb-", min_length=1, description="What stands between id and tenant."
    )
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table suffix → tenant. When empty, the suffix is the tenant's name.",
    )


class PrefixRule(Section):
    """`type = "prefix"`: room ids that begin with `prefix` belong to `tenant`."""

    type: Literal["prefix"]
    prefix: str = Field(min_length=1, description="Beginning of the (unscoped) room id.")
    tenant: Name = Field(description="The tenant.")


class OriginRule(Section):
    """`type = "origin"`: the client's host in `bbb-origin-server-name`. Clients set it freely."""

    type: Literal["origin"]
    hosts: Mapping[str, Name] = Field(description="Table host → tenant.")


class ParentRule(Section):
    """`type = "parent"`: a breakout belongs to the tenant of its parent."""

    type: Literal["parent"]


Rule = Annotated[
    ServerRule | MetadataRule | SuffixRule | PrefixRule | OriginRule | ParentRule,
    Field(discriminator="type"),
]


class AttributionSettings(Section):
    """Whose meeting is it? Rules in order, the first match wins."""

    rules: tuple[Rule, ...] = Field(
        default=(ServerRule(type="server"), ParentRule(type="parent")),
        description="The rules, in order; see below. By default only what cannot be forged.",
    )
    default: Name = Field(
        default="unassigned", description="Tenant of meetings that no rule matches."
    )


class RetentionSettings(Section):
    """Days that each table is kept; 0 keeps it for ever."""

    sample: Days = Field(default=30, description="One row a session a tick.")
    poll: Days = Field(default=30, description="One row a server a tick.")
    usage_1m: Days = Field(default=180, description="Usage of each tenant by the minute.")
    usage_1h: Days = Field(default=1095, description="Usage of each tenant by the hour.")
    usage_1d: Days = Field(default=0, description="Usage of each tenant by the day.")
    fleet_1m: Days = Field(default=180, description="Usage of all tenants by the minute.")
    fleet_1h: Days = Field(default=1095, description="Usage of all tenants by the hour.")
    server_1h: Days = Field(default=1095, description="Polls of each server by the hour.")
    poll_1h: Days = Field(
        default=400, description="Polls of each server by the hour, outcome and latency."
    )
    server_1d: Days = Field(default=0, description="Polls of each server by the day.")
    session: Days = Field(default=400, description="One row a session.")
    session_1h: Days = Field(default=400, description="Usage of each session by the hour.")
    session_1d: Days = Field(default=0, description="Sessions of each tenant by the day.")
    start_1h: Days = Field(
        default=400, description="Sessions of all tenants by the hour in which they began."
    )


class ColumnstoreSettings(Section):
    """Days after which each table's chunks are turned into columns; 0 leaves them as rows."""

    sample: Days = Field(default=1, description="One row a session a tick.")
    poll: Days = Field(default=1, description="One row a server a tick.")
    usage_1m: Days = Field(default=7, description="Usage of each tenant by the minute.")
    usage_1h: Days = Field(default=60, description="Usage of each tenant by the hour.")
    session: Days = Field(default=30, description="One row a session.")
    session_1h: Days = Field(default=7, description="Usage of each session by the hour.")
    poll_1h: Days = Field(default=60, description="Polls by the hour, outcome and latency.")


class SpoolSettings(Section):
    """Where batches wait on disk while the database is away, slow or refuses."""

    directory: Path = Field(
        default=Path("spool"),
        description="Directory on a local disk. Each collector takes a part of its own in it.",
    )
    max_bytes: int = Field(
        default=1024**3,
        ge=1024**2,
        description="Largest size of one collector's spool; what it cannot take is refused.",
    )


class HttpSettings(Section):
    """The daemon's own port: `/healthz`, `/readyz`, `/metrics`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9713, ge=0, le=65535, description="Port; 0 takes any free one.")


class Settings(BaseSettings):
    """The whole file. Any key can come from the environment too."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database: SecretStr = Field(
        default=SecretStr("embedded:./data"),
        description="`embedded:DIRECTORY` for the built-in engine, or `postgresql://…`. "
        "The password can also come from PGPASSWORD or a pgpass file.",
    )
    database_password_file: Path | None = Field(
        default=None,
        description="Path of a file with the database's password, so that it stands in no DSN; "
        "line ends are cut off. `database` then names a user and no password.",
    )
    poll_interval_s: int = Field(
        default=30, ge=5, le=60, description="Seconds between ticks; 5 to 60, and divides 60."
    )
    billing_timezone: str = Field(
        default="UTC", description="Time zone in which days and months are cut."
    )
    max_gap_s: int = Field(
        default=300, ge=0, le=3600, description="Longest hole between polls that is filled."
    )
    close_after_s: int = Field(
        default=120,
        ge=0,
        le=3600,
        description="A session has ended when successful polls have missed it for so long.",
    )
    concurrency: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Requests under way at a time; those that take longer than a second come on "
        "top, up to twice as many.",
    )
    max_body_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Largest answer, as sent and after decompression.",
    )
    store_room_names: bool = Field(
        default=False,
        description="Store the names of rooms. They can be personal data: ask your data "
        "protection officer.",
    )
    large_session_participants: int = Field(
        default=100, ge=1, description="Reports count sessions with more participants than this."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log for people or for machines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged."
    )
    server: tuple[ServerSettings, ...] = Field(default=(), description="The servers.")
    tenant: tuple[TenantSettings, ...] = Field(default=(), description="The tenants.")
    attribution: AttributionSettings = AttributionSettings()
    retention: RetentionSettings = RetentionSettings()
    columnstore: ColumnstoreSettings = ColumnstoreSettings()
    spool: SpoolSettings = SpoolSettings()
    http: HttpSettings = HttpSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment before the file, whose content comes as `init_settings`."""
        return EnvSettingsSource(settings_cls), init_settings

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("embedded:", "postgresql://", "postgres://")):
            msg = "must begin with embedded: or postgresql://"
            raise ValueError(msg)
        if value.get_secret_value() == "embedded:":
            msg = "must name a directory: embedded:DIRECTORY"
            raise ValueError(msg)
        return value

    @field_validator("poll_interval_s")
    @classmethod
    def _check_interval(cls, value: int) -> int:
        if 60 % value:
            msg = "must divide 60: 5, 6, 10, 12, 15, 20, 30 or 60"
            raise ValueError(msg)
        return value

    @field_validator("billing_timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            msg = f"{value!r} is no time zone of the IANA database, such as Europe/Berlin"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        problems = [*self._duplicates(), *self._retention_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def enabled_servers(self) -> tuple[ServerSettings, ...]:
        """The servers that are polled."""
        return tuple(server for server in self.server if server.enabled)

    @property
    def late_days(self) -> int | None:
        """How many days late data may come; None: any.

        A day less than samples and polls are kept: of what is older, a part may be dropped, and
        rollups are not refreshed any more.
        """
        kept = [days for days in (self.retention.sample, self.retention.poll) if days]
        return min(kept) - 1 if kept else None

    def _duplicates(self) -> Iterator[str]:
        for key, entries in (("server", self.server), ("tenant", self.tenant)):
            names = [entry.name for entry in entries]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield f"{key}: the name {name!r} is used more than once"

    def _retention_problems(self) -> Iterator[str]:
        for rollup, source in ROLLUP_SOURCE.items():
            kept = getattr(self.retention, source)
            needed = LEAST_KEPT_DAYS[rollup]
            if kept and kept < needed:
                yield (
                    f"retention.{source}: {kept} days are less than the {needed} that the "
                    f"refresh of {rollup} needs"
                )
