"""Finds the tenant and the room of a session, by the rules of the settings in their order."""

import re
from collections.abc import Iterable, Mapping
from typing import assert_never

from collector.metering.tenants import KnownTenants
from collector.model import Meeting, Place
from collector.settings import (
    AttributionSettings,
    MetadataRule,
    OriginRule,
    ParentRule,
    PrefixRule,
    Rule,
    ServerRule,
    ServerSettings,
    SuffixRule,
    is_tenant_name,
)
from collector.settings.hosts import host_of

# The first one that has a host counts.
ORIGIN_KEYS = ("bbb-origin-server-name", "bbb-origin-server-common-name")
BBBLB_TENANT_KEY = "bbblb-tenant"
# Metadata that names the product that created a meeting. Greenlight 2 sends only the second key.
PRODUCT_KEY = "bbb-origin"
GREENLIGHT_KEY = "gl-listed"
# Rules that read what operators and load balancers write.
_TRUSTED = (ServerRule, MetadataRule, SuffixRule)
_PRODUCT = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_BBBLB_TENANT = re.compile(r"[a-zA-Z0-9]{1,16}")


class Attribution:
    """Applies the attribution rules. A change of the settings needs a new object."""

    def __init__(self, settings: AttributionSettings, known: KnownTenants | None = None) -> None:
        """Read the rules and the default tenant from `settings`.

        `known` bounds the tenants that rules without a table make.
        """
        self._known = known or KnownTenants()
        self._rules = settings.rules
        self.default_tenant = settings.default
        # A breakout's own mark that clients cannot forge goes before its parent's.
        self._breakout_rules = sorted(self._rules, key=lambda rule: not isinstance(rule, _TRUSTED))
        self._suffixes = [rule for rule in settings.rules if isinstance(rule, SuffixRule)]
        self.metadata_keys = frozenset((*_keys(settings.rules), PRODUCT_KEY, GREENLIGHT_KEY))

    def place(self, meeting: Meeting, server: ServerSettings, parent: Place | None) -> Place:
        """Return tenant and room of `meeting`, which `server` reported.

        `parent` is the place of a breakout room's parent, None if it is unknown. Then the rule
        `parent` does not match the breakout, and its room is its own.
        """
        own = self._unscoped(meeting)
        if not meeting.breakout:
            return Place(self._tenant(self._rules, meeting, server, own, None), own)
        # BBB gives a breakout a new id each time, so it counts for the room of its parent, if both
        # belong to one tenant.
        room = parent.room if parent else own
        tenant = self._tenant(self._breakout_rules, meeting, server, room, parent)
        return Place(tenant, room if parent and tenant == parent.tenant else own)

    def _tenant(
        self,
        rules: Iterable[Rule],
        meeting: Meeting,
        server: ServerSettings,
        room: str | None,
        parent: Place | None,
    ) -> str:
        for rule in rules:
            tenant = _match(rule, meeting, server, room, parent)
            if tenant is not None:
                is_open = isinstance(rule, MetadataRule | SuffixRule) and not rule.tenants
                return tenant if not is_open or self._known.admit(tenant) else self.default_tenant
        return self.default_tenant

    def rule_for(self, meeting: Meeting, server: ServerSettings) -> Rule | None:
        """Return the first rule that gives a tenant to `meeting`, which may not be a breakout."""
        room = self._unscoped(meeting)
        matching = (r for r in self._rules if _match(r, meeting, server, room, None) is not None)
        return next(matching, None)

    def _unscoped(self, meeting: Meeting) -> str:
        """Return the meeting id without the suffix that a load balancer appended, if any."""
        external_id = meeting.external_id
        for rule in self._suffixes:
            head, tenant = split_suffix(external_id, rule.separator)
            if tenant is not None:
                return head
        marked = meeting.metadata.get(BBBLB_TENANT_KEY)
        if marked and external_id.endswith(f"-bbblb-{marked}"):
            return external_id.removesuffix(f"-bbblb-{marked}") or external_id
        return external_id


def origin(meeting: Meeting) -> str | None:
    """Return the product that created `meeting`, None if the metadata do not name it.

    Clients choose the text. If it is not a short plain word, the result is `other`.
    """
    said = meeting.metadata.get(PRODUCT_KEY, "").strip().lower()
    if said:
        return said if _PRODUCT.fullmatch(said) else "other"
    return "greenlight" if GREENLIGHT_KEY in meeting.metadata else None


def _match(
    rule: Rule, meeting: Meeting, server: ServerSettings, room: str | None, parent: Place | None
) -> str | None:
    """Return the tenant that `rule` gives, None if the rule does not match."""
    match rule:
        case ServerRule():
            return server.tenant
        case MetadataRule():
            return _named(meeting.metadata.get(rule.key, "").strip(), rule.tenants)
        case SuffixRule():
            _, suffix = split_suffix(meeting.external_id, rule.separator)
            return _named(suffix, rule.tenants)
        case PrefixRule():
            return rule.tenant if room is not None and room.startswith(rule.prefix) else None
        case OriginRule():
            name, common_name = (meeting.metadata.get(key, "") for key in ORIGIN_KEYS)
            return rule.hosts.get(host_of(name) or host_of(common_name) or "")
        case ParentRule():
            return parent.tenant if meeting.breakout and parent else None
        case _:
            assert_never(rule)


def _named(mark: str | None, tenants: Mapping[str, str]) -> str | None:
    """Return the tenant for `mark`: its entry in `tenants`, or `mark` itself without a table.

    Returns None if there is no mark or no entry, or if the mark is not a valid tenant name.
    """
    if not mark:
        return None
    if tenants:
        return tenants.get(mark)
    return mark if is_tenant_name(mark) else None


def split_suffix(external_id: str, separator: str) -> tuple[str, str | None]:
    """Split `<id><separator><tenant>` from the right; return (id, None) if it has another form."""
    head, found, tail = external_id.rpartition(separator)
    if found and head and _BBBLB_TENANT.fullmatch(tail):
        return head, tail
    return external_id, None


def _keys(rules: tuple[Rule, ...]) -> list[str]:
    """Return the metadata keys that the rules read. All other metadata are discarded."""
    keys = [rule.key for rule in rules if isinstance(rule, MetadataRule)]
    if any(isinstance(rule, OriginRule) for rule in rules):
        keys.extend(ORIGIN_KEYS)
    return keys
