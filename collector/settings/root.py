"""The whole of `bbbmeter.toml`, and the checks that concern several of its keys.

The descriptions of the fields are the documentation: `make docs` writes `docs/settings.md` from
them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from collector.rollups import ROLLUPS, TABLES_KEPT_AS, Rollup, setting_of
from collector.settings.base import Section
from collector.settings.reach import unreachable
from collector.settings.retention import ColumnstoreSettings, RetentionSettings
from collector.settings.servers import ServerSettings
from collector.settings.tenants import AttributionSettings, ServerRule, TenantSettings

ENV_PREFIX = "BBBMETER_"


class SpoolSettings(Section):
    """Batches wait here on disk while the database is unavailable, slow, or rejects them."""

    directory: Path = Field(
        default=Path("spool"),
        description="Directory on a local disk. Each collector uses its own subdirectory.",
    )
    max_bytes: int = Field(
        default=1024**3,
        ge=1024**2,
        description="Maximum size of one collector's spool, in bytes. When it is full, further "
        "polls are not stored and lower the coverage.",
    )


class HttpSettings(Section):
    """The daemon's HTTP port with `/healthz`, `/readyz` and `/metrics`. It has no login."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9713, ge=0, le=65535, description="Port; 0 takes any free port.")


class Settings(BaseSettings):
    """The whole file. Every key can also come from the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database: SecretStr = Field(
        default=SecretStr("embedded:./data"),
        description="`embedded:DIRECTORY` for the built-in engine, or `postgresql://…` for a "
        "server. The password can also come from PGPASSWORD or a pgpass file.",
    )
    database_password_file: Path | None = Field(
        default=None,
        description="Path of a file that holds the database's password; line ends are removed. "
        "`database` must then contain a user but no password.",
    )
    poll_interval_s: int = Field(
        default=30,
        ge=5,
        le=60,
        description="Seconds between ticks: 5, 6, 10, 12, 15, 20, 30 or 60.",
    )
    billing_timezone: str = Field(
        default="UTC",
        description="IANA time zone in which days and months begin, such as `Europe/Berlin`. "
        "After a change, run `bbbmeter migrate --rebuild-days`.",
    )
    max_gap_s: int = Field(
        default=300,
        ge=0,
        le=3600,
        description="Longest gap without successful polls that is filled, in seconds. Filled "
        "samples are interpolated and marked.",
    )
    close_after_s: int = Field(
        default=120,
        ge=0,
        le=3600,
        description="Seconds without a sighting in successful polls after which a session counts "
        "as ended.",
    )
    concurrent_requests: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Maximum number of concurrent requests. Requests slower than one second are "
        "not counted; up to twice this number of them can run in addition.",
    )
    connections_per_host: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Maximum number of concurrent requests to one host and port. Entries with the "
        "same one share them, such as the tenants of a load balancer. This limits the load that "
        "a collector puts on a load balancer. A tick has time for about "
        "`connections_per_host * (poll_interval_s - 1) / seconds per answer` of its entries.",
    )
    max_body_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Maximum size of an answer in bytes, as sent and after decompression. A "
        "larger answer is a failed poll.",
    )
    store_room_names: bool = Field(
        default=False,
        description="Store the names of rooms. They can be personal data: ask your data "
        "protection officer first.",
    )
    large_session_participants: int = Field(
        default=100,
        ge=1,
        description="Reports count a session as large if it had more participants than this. "
        "After a change, run `bbbmeter migrate --rebuild-days`.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log format: `console` for people, `json` for programs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum severity to log."
    )
    server: tuple[ServerSettings, ...] = Field(
        default=(), description="The servers to poll; see `[[server]]`."
    )
    tenant: tuple[TenantSettings, ...] = Field(
        default=(), description="The tenants; see `[[tenant]]`."
    )
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
        """Let the environment override the file, whose content is `init_settings`."""
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
            msg = "must be 5, 6, 10, 12, 15, 20, 30 or 60, as it must divide a minute"
            raise ValueError(msg)
        return value

    @field_validator("billing_timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            msg = f"{value!r} is not an IANA time zone; write one such as Europe/Berlin"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        problems = [*self._duplicates(), *self._tenant_problems(), *self._retention_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def enabled_servers(self) -> tuple[ServerSettings, ...]:
        """The servers that are polled."""
        return tuple(server for server in self.server if server.enabled)

    @property
    def kept_days(self) -> dict[str, int]:
        """For how many days each table and rollup is kept; 0 is without limit."""
        return _with_rollups(dict(self.retention))

    @property
    def columnstore_days(self) -> dict[str, int]:
        """After how many days each table and rollup becomes columns; 0 is never."""
        return _with_rollups(dict(self.columnstore))

    def refresh_days(self, rollup: Rollup) -> int | None:
        """Return how many days back `rollup` is refreshed; None is without limit.

        The window covers nearly everything that the source keeps. Data before the window are never
        computed: for example data that were stored late, or just before all collectors stopped for
        some days. A long window is cheap, because only changed data are computed.
        """
        kept = self.kept_days[rollup.source]
        # A day less: a chunk is dropped as a whole, and policies run late.
        return kept - 1 if kept else None

    def _duplicates(self) -> Iterator[str]:
        for key, entries in (("server", self.server), ("tenant", self.tenant)):
            names = [entry.name for entry in entries]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield f"{key}: the name {name!r} is used more than once"

    def _tenant_problems(self) -> Iterator[str]:
        rules = self.attribution.rules
        yield from unreachable(rules)
        if not any(isinstance(rule, ServerRule) for rule in rules):
            for server in self.server:
                if server.tenant is not None:
                    yield (
                        f"server[{server.name}].tenant: has no effect without a rule of type "
                        "server; add one to attribution.rules, or remove the tenant"
                    )

    def _retention_problems(self) -> Iterator[str]:
        for rollup in ROLLUPS.values():
            kept = self.kept_days[rollup.source]
            if kept and kept < rollup.min_source_days:
                yield (
                    f"retention.{setting_of(rollup.source)}: {kept} days are too few; the refresh "
                    f"of {rollup.name} needs at least {rollup.min_source_days}"
                )


def _with_rollups(days: dict[str, int]) -> dict[str, int]:
    """Return `days` with the tables and rollups that have no settings of their own."""
    names = (*TABLES_KEPT_AS, *ROLLUPS)
    return days | {name: days[key] for name in names if (key := setting_of(name)) in days}
