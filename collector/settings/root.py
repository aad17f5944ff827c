"""The whole of `bbbmeter.toml`, checked as a whole.

Every field's description is its documentation: `docs/settings.md` is generated from here.
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

from collector.rollups import ROLLUPS, Rollup
from collector.settings.base import Section
from collector.settings.retention import ColumnstoreSettings, RetentionSettings
from collector.settings.servers import ServerSettings
from collector.settings.tenants import AttributionSettings, TenantSettings

ENV_PREFIX = "BBBMETER_"


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
    concurrent_requests: int = Field(
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
    def kept_days(self) -> dict[str, int]:
        """For how many days each table and rollup is kept; 0 is without limit."""
        return _with_rollups(dict(self.retention))

    @property
    def columnstore_days(self) -> dict[str, int]:
        """After how many days each table and rollup becomes columns; 0 is never."""
        return _with_rollups(dict(self.columnstore))

    def refresh_days(self, rollup: Rollup) -> int | None:
        """Return for how many days back `rollup` is refreshed; None: all that there is.

        Nearly as far as its source is kept. What lies before the window when a refresh passes it
        is never computed: data that were stored late, or just before everything stood still for
        some days. Only what has changed costs time.
        """
        kept = self.kept_days[rollup.source]
        # A day less: a chunk is dropped when it is old as a whole, and policies run late.
        return kept - 1 if kept else None

    def _duplicates(self) -> Iterator[str]:
        for key, entries in (("server", self.server), ("tenant", self.tenant)):
            names = [entry.name for entry in entries]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield f"{key}: the name {name!r} is used more than once"

    def _retention_problems(self) -> Iterator[str]:
        for rollup in ROLLUPS.values():
            kept = self.kept_days[rollup.source]
            if kept and kept < rollup.min_source_days:
                yield (
                    f"retention.{rollup.source}: {kept} days are less than the "
                    f"{rollup.min_source_days} that the refresh of {rollup.name} needs"
                )


def _with_rollups(days: dict[str, int]) -> dict[str, int]:
    """Return `days` with the rollups that have no settings of their own."""
    others = [rollup for rollup in ROLLUPS.values() if rollup.kept_as in days]
    return days | {rollup.name: days[str(rollup.kept_as)] for rollup in others}
