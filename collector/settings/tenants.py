"""`[[tenant]]` and `[attribution]`: the tenants, and the rules that find a session's tenant."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from collector.settings.base import Name, Section


class TenantSettings(Section):
    """A tenant: the organisation or unit to which sessions are charged."""

    name: Name = Field(description="Name in figures and rules. Do not change it later.")
    title: str = Field(default="", max_length=200, description="Name to show to people.")
    participant_limit: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Maximum number of concurrent participants in the contract, over all servers.",
    )
    month_minute_limit: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of participant minutes per calendar month in the contract.",
    )


class ServerRule(Section):
    """`type = "server"`: the `tenant` in the server's own settings."""

    type: Literal["server"]


class MetadataRule(Section):
    """`type = "metadata"`: the value of a metadata key that a load balancer writes."""

    type: Literal["metadata"]
    key: str = Field(
        min_length=1,
        description="`bbblb-tenant` (BBBLB), `tenant-id` (Scalelite) or `b3s-frontend` (b3scale). "
        "Another key is possible too. Trust only a key that the load balancer itself writes; "
        "clients can set all others.",
    )
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table from value to tenant. If it is empty, the value is the tenant's name.",
    )

    @field_validator("key")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()


class SuffixRule(Section):
    """`type = "suffix"`: the suffix that BBBLB appends to meeting ids, `<id>-bbblb-<tenant>`."""

    type: Literal["suffix"]
    separator: str = Field(
        default="-bbblb-", min_length=1, description="Text between the id and the tenant."
    )
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table from suffix to tenant. If it is empty, the suffix is the tenant's "
        "name. A suffix has 1 to 16 letters and digits, like tenant names in BBBLB.",
    )


class PrefixRule(Section):
    """`type = "prefix"`: room ids that begin with `prefix` belong to `tenant`."""

    type: Literal["prefix"]
    prefix: str = Field(
        min_length=1, description="Beginning of the room id, without a load balancer's suffix."
    )
    tenant: Name = Field(description="Tenant of these rooms.")


class OriginRule(Section):
    """`type = "origin"`: the host in `bbb-origin-server-name`, which clients can set freely."""

    type: Literal["origin"]
    hosts: Mapping[str, Name] = Field(description="Table from host to tenant.")


class ParentRule(Section):
    """`type = "parent"`: a breakout room belongs to the tenant of its parent."""

    type: Literal["parent"]


Rule = Annotated[
    ServerRule | MetadataRule | SuffixRule | PrefixRule | OriginRule | ParentRule,
    Field(discriminator="type"),
]


class AttributionSettings(Section):
    """Rules that find a session's tenant. They are tried in order; the first match wins."""

    rules: tuple[Rule, ...] = Field(
        default=(ServerRule(type="server"), ParentRule(type="parent")),
        description="The rules, in order; see below. Clients cannot forge the two default rules.",
    )
    default: Name = Field(
        default="unassigned", description="Tenant of sessions that no rule matches."
    )
