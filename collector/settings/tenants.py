"""`[[tenant]]` and `[attribution]`: the tenants, and the rules that find a meeting's tenant."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from collector.settings.base import Name, Section


class TenantSettings(Section):
    """Who is accountable for meetings."""

    name: Name = Field(description="Name in figures, rules and marks; it never changes.")
    title: str = Field(default="", max_length=200, description="Name for people.")
    participant_limit: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most participants at a time that the contract allows, over all servers.",
    )
    month_minute_limit: int | None = Field(
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
        description="Table suffix → tenant. When empty, the suffix is the tenant's name. A suffix "
        "is 1 to 16 letters and digits, as BBBLB names tenants.",
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
