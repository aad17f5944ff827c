"""`[[tenant]]` and `[attribution]`: the tenants, and the rules that find a session's tenant.

A rule or entry that no session can match is refused, because its sessions would be charged to
another tenant without a word. `reach` checks the rules against each other.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from collector.settings.base import Name, Section
from collector.settings.hosts import host_of

# Characters of a room id or a metadata value. Longer ones are not read from an answer.
MAX_TEXT = 512
# What BigBlueButton takes as the name of metadata; it answers with it in lower case.
_METADATA_KEY = re.compile(r"[a-z][a-z0-9-]*")
_SUFFIX = re.compile(r"[a-zA-Z0-9]{1,16}")
# Room ids with one of these are not read. In metadata, only those that XML forbids are left out.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def is_suffix(text: str) -> bool:
    """Say whether `text` can be a tenant's name in BBBLB: 1 to 16 letters and digits."""
    return _SUFFIX.fullmatch(text) is not None


def _check_part_of_id(text: str, longest: int) -> str:
    if not text:
        msg = "is empty"
    elif len(text) > longest:
        msg = f"is longer than {longest} characters, so no room id can contain it"
    elif _CONTROL.search(text):
        msg = "has a control character, which no room id contains"
    else:
        return text
    raise ValueError(msg)


def _in_one_form(table: Mapping[str, str], form: Callable[[str], str], what: str) -> dict[str, str]:
    """Return `table` with its keys in the form in which they are compared; `what` names a key.

    Raises ValueError if two keys become the same, but have different tenants.
    """
    written: dict[str, str] = {}
    result: dict[str, str] = {}
    for key, tenant in table.items():
        formed = form(key)
        if result.setdefault(formed, tenant) != tenant:
            msg = f"{written[formed]!r} and {key!r} are the same {what}, but have different tenants"
            raise ValueError(msg)
        written.setdefault(formed, key)
    return result


def _value(text: str) -> str:
    text = text.strip()
    if not text:
        msg = "an empty value can never match; remove it"
    elif len(text) > MAX_TEXT:
        msg = f"{text[:20]!r}… is longer than {MAX_TEXT} characters, so it can never match"
    elif _FORBIDDEN.search(text):
        msg = f"{text!r} has a character that XML does not allow, so it can never match"
    else:
        return text
    raise ValueError(msg)


def _host(text: str) -> str:
    host = host_of(text)
    if host is None:
        msg = f"{text!r} is not a valid host; write one such as moodle.example.org"
        raise ValueError(msg)
    return host


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
        description="`bbblb-tenant` (BBBLB), `tenant-id` (Scalelite) or `b3s-frontend` (b3scale). "
        "Another key is possible too. Trust only a key that the load balancer itself writes; "
        "clients can set all others."
    )
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table from value to tenant. If it is empty, the value is the tenant's name. "
        "Capitals count, blanks around do not.",
    )

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        key = value.strip().lower()
        if not _METADATA_KEY.fullmatch(key):
            msg = (
                f"{value!r} is not a metadata key of BigBlueButton: these have only letters, "
                "digits and '-', begin with a letter, and stand here without meta_"
            )
            raise ValueError(msg)
        return key

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        return _in_one_form(value, _value, "value")


class SuffixRule(Section):
    """`type = "suffix"`: the suffix that BBBLB appends to meeting ids, `<id>-bbblb-<tenant>`."""

    type: Literal["suffix"]
    separator: str = Field(default="-bbblb-", description="Text between the id and the tenant.")
    tenants: Mapping[str, Name] = Field(
        default_factory=dict,
        description="Table from suffix to tenant. If it is empty, the suffix is the tenant's "
        "name. A suffix has 1 to 16 letters and digits, like tenant names in BBBLB.",
    )

    @field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str) -> str:
        return _check_part_of_id(value, MAX_TEXT - 2)  # the id and the suffix need one each

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, value: Mapping[str, str], info: ValidationInfo) -> Mapping[str, str]:
        separator = info.data.get("separator", "")
        for suffix in value:
            if not is_suffix(suffix):
                msg = f"{suffix!r} is not 1 to 16 letters and digits, so it can never match"
                raise ValueError(msg)
            if separator and (separator + suffix).rfind(separator):
                msg = (
                    f"{suffix!r} can never match: an id that ends with {separator + suffix!r} is "
                    f"split at its last {separator!r}"
                )
                raise ValueError(msg)
        return value


class PrefixRule(Section):
    """`type = "prefix"`: room ids that begin with `prefix` belong to `tenant`."""

    type: Literal["prefix"]
    prefix: str = Field(
        description="Beginning of the room id, without a load balancer's suffix. Capitals count. "
        "A longer prefix must come before a shorter one with which it begins."
    )
    tenant: Name = Field(description="Tenant of these rooms.")

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not value:
            msg = "is empty and would match all rooms; for these, set attribution.default instead"
            raise ValueError(msg)
        return _check_part_of_id(value, MAX_TEXT)


class OriginRule(Section):
    """`type = "origin"`: the host in `bbb-origin-server-name`, which clients can set freely."""

    type: Literal["origin"]
    hosts: Mapping[str, Name] = Field(
        description="Table from host to tenant. Capitals, scheme, port, path, blanks around and a "
        "dot at the end do not matter, here and in the metadata. If `bbb-origin-server-name` has "
        "no host, the one in `bbb-origin-server-common-name` counts."
    )

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        return _in_one_form(value, _host, "host")


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
    max_tenants: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of tenants. Rules without a table make a tenant of each new "
        "value, and clients may choose values. Once this number is reached, sessions with new "
        "values belong to the default tenant.",
    )
