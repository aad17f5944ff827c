"""The marks of tenants that meetings carry, with the rule that would read each.

They help people to write `attribution.rules`. Only meetings that no rule matches are looked at.
"""

import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

from collector.metering.attribution import BBBLB_TENANT_KEY, ORIGIN_KEYS, split_suffix
from collector.model import Meeting
from collector.settings.hosts import host_of

# Metadata that load balancers write. Clients cannot set them.
_SCALELITE_KEY = "tenant-id"  # a number, for which people need a name
BALANCER_KEYS = (BBBLB_TENANT_KEY, _SCALELITE_KEY, "b3s-frontend")
MARK_KEYS = frozenset((*BALANCER_KEYS, *ORIGIN_KEYS))
_BBBLB_SEPARATOR = "-bbblb-"
SUFFIX = f"meetingID …{_BBBLB_SEPARATOR}"
# What people replace in a rule.
_TENANT = "NAME OF THE TENANT"


class Mark(NamedTuple):
    """The name of a mark (a metadata key, or a part of the meeting id), and its value."""

    name: str
    value: str


def mark_of(meeting: Meeting) -> Mark | None:
    """Return the most reliable mark of a meeting, None if it has none."""
    return next(_marks(meeting), None)


def _marks(meeting: Meeting) -> Iterator[Mark]:
    for key in BALANCER_KEYS:
        if value := meeting.metadata.get(key, "").strip():
            yield Mark(key, value)
    _, suffix = split_suffix(meeting.external_id, _BBBLB_SEPARATOR)
    if suffix:
        yield Mark(SUFFIX, suffix)
    for key in ORIGIN_KEYS:
        if host := host_of(meeting.metadata.get(key, "")):
            yield Mark(key, host)


def rule_to_paste(name: str, values: Collection[str]) -> str:
    """Return a rule in TOML that reads the marks of this name; tables have these values."""
    table = ", ".join(f'{json.dumps(value)} = "{_TENANT}"' for value in sorted(values))
    if name == SUFFIX:
        return '{ type = "suffix" }'
    if name in ORIGIN_KEYS:
        return f'{{ type = "origin", hosts = {{ {table} }} }}'
    if name == _SCALELITE_KEY:
        return f'{{ type = "metadata", key = "{name}", tenants = {{ {table} }} }}'
    return f'{{ type = "metadata", key = "{name}" }}'
