"""Finds rules that can never match, mostly because an earlier rule takes their sessions."""

from collections.abc import Collection, Iterator, Sequence

from collector.settings.base import is_tenant_name
from collector.settings.tenants import (
    MetadataRule,
    OriginRule,
    ParentRule,
    PrefixRule,
    Rule,
    ServerRule,
    SuffixRule,
    is_suffix,
)


def unreachable(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield a problem for each rule, or entry of its table, that can never match.

    Only rules of the same type are compared: a session can have the mark of one type without that
    of another.
    """
    for number, rule in enumerate(rules, 1):
        where = f"attribution.rules[{number}]"
        if isinstance(rule, OriginRule) and not rule.hosts:
            yield f"{where}.hosts: is empty, so the rule can never match; add a host"
        taken: set[str] = set()  # the entries that are reported already
        for earlier_number, earlier in enumerate(rules[: number - 1], 1):
            first = f"rules[{earlier_number}]"
            if _takes_all(earlier, rule):
                yield f"{where}: can never match: {first} matches first; remove one of them"
                break
            if isinstance(earlier, PrefixRule) and isinstance(rule, PrefixRule):
                if rule.prefix.startswith(earlier.prefix):
                    yield (
                        f"{where}.prefix: {rule.prefix!r} can never match: {first} matches every "
                        f"id that begins with {earlier.prefix!r}; put the longer prefix first"
                    )
                    break
                continue
            table = "hosts" if isinstance(rule, OriginRule) else "tenants"
            for entry in _taken_entries(earlier, rule):
                if entry not in taken:
                    taken.add(entry)
                    yield f"{where}.{table}: {entry!r} can never match: {first} matches it first"


def _takes_all(earlier: Rule, rule: Rule) -> bool:
    """Return whether `earlier` matches everything that `rule` matches, whatever its table has."""
    match earlier, rule:
        case (ServerRule(), ServerRule()) | (ParentRule(), ParentRule()):
            return True
        case MetadataRule(), MetadataRule():
            return earlier.key == rule.key and not earlier.tenants and not rule.tenants
        case SuffixRule(), SuffixRule():
            same = earlier.separator == rule.separator
            # A separator with another character than letters and digits is never in a suffix. So
            # both rules split at the same place.
            if rule.separator.endswith(earlier.separator):
                same = same or not all(map(is_suffix, earlier.separator))
            return same and not earlier.tenants and not rule.tenants
        case _:
            return False


def _taken_entries(earlier: Rule, rule: Rule) -> Collection[str]:
    """Return the entries of the table of `rule` that `earlier` always matches."""
    match earlier, rule:
        case MetadataRule(), MetadataRule() if earlier.key == rule.key:
            if not earlier.tenants:  # it matches each value that is the name of a tenant
                return [value for value in rule.tenants if is_tenant_name(value)]
            return [value for value in rule.tenants if value in earlier.tenants]
        case SuffixRule(), SuffixRule():
            return [suffix for suffix in rule.tenants if _splits(earlier, rule.separator + suffix)]
        case OriginRule(), OriginRule():
            return [host for host in rule.hosts if host in earlier.hosts]
        case _:
            return []


def _splits(earlier: SuffixRule, end: str) -> bool:
    """Return whether `earlier` matches every id that ends with `end`."""
    _, separator, suffix = end.rpartition(earlier.separator)
    if not separator or not is_suffix(suffix):
        return False
    return not earlier.tenants or suffix in earlier.tenants
