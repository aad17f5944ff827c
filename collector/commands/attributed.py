"""What `bbbmeter check` says of tenants: which rule gives them, and which marks give none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from collector.metering.attribution import ORIGIN_KEYS, Attribution
from collector.metering.marks import MARK_KEYS, SUFFIX, mark_of, rule_to_paste
from collector.model import Meeting
from collector.settings import (
    MetadataRule,
    OriginRule,
    PrefixRule,
    Rule,
    ServerSettings,
    Settings,
    SuffixRule,
)

_VALUES_SHOWN = 3


class Attributed:
    """Counts the sessions of all servers by the rule that gives them a tenant."""

    def __init__(self, settings: Settings) -> None:
        """Apply the rules of `settings`."""
        self._attribution = Attribution(settings.attribution)
        self._rules = settings.attribution.rules
        self._default = settings.attribution.default
        self._matched: Counter[int] = Counter()
        self._unmatched = 0
        self._unread: dict[str, set[str]] = defaultdict(set)
        # All metadata that are needed for it.
        self.metadata_keys = self._attribution.metadata_keys | MARK_KEYS

    def add(self, server: ServerSettings, meetings: Iterable[Meeting]) -> Iterator[str]:
        """Count the meetings of a server; yield notes on those that get no tenant.

        Breakouts are left out: they follow their parents.
        """
        without = 0
        values: dict[str, set[str]] = defaultdict(set)
        for meeting in meetings:
            if meeting.breakout:
                continue
            rule = self._attribution.rule_for(meeting, server)
            if rule is not None:
                self._matched[self._rules.index(rule)] += 1
                continue
            without += 1
            if mark := mark_of(meeting):
                values[mark.name].add(mark.value)
                self._unread[mark.name].add(mark.value)
        self._unmatched += without
        if without:
            yield f"{without} without a tenant"
        if values:
            marks = [f"{name} ({_some(sorted(found))})" for name, found in sorted(values.items())]
            yield f"marks that give none: {', '.join(marks)}"

    def lines(self) -> Iterator[str]:
        """Yield a line for each rule, and one for each mark that gives no tenant."""
        if not self._matched and not self._unmatched:
            return
        for number, rule in enumerate(self._rules):
            if rule.type != "parent":
                yield f"rule {number + 1} ({_label(rule)}): {_sessions(self._matched[number])}"
        if self._unmatched:
            yield f"no rule: {_sessions(self._unmatched)}, which count as {self._default}"
        for name, values in sorted(self._unread.items()):
            trust = " (clients can set it freely)" if name in ORIGIN_KEYS else ""
            if reading := self._reading(name):
                yield f"rule {reading} reads {name}, but has no tenant for {_some(sorted(values))}"
            else:
                proposed = rule_to_paste(name, values)
                yield f"to read {name}{trust}, add to attribution.rules: {proposed}"

    def _reading(self, name: str) -> int | None:
        """Return the number of the rule that reads marks of this name, counted from 1."""
        for number, rule in enumerate(self._rules, 1):
            match rule:
                case MetadataRule() if rule.key == name:
                    return number
                case OriginRule() if name in ORIGIN_KEYS:
                    return number
                case SuffixRule() if name == SUFFIX:
                    return number
        return None


def _label(rule: Rule) -> str:
    match rule:
        case MetadataRule():
            return f"metadata {rule.key}"
        case PrefixRule():
            return f"prefix {rule.prefix}"
        case SuffixRule():
            return f"suffix {rule.separator}"
        case _:
            return rule.type


def _some(values: list[str]) -> str:
    more = len(values) - _VALUES_SHOWN
    return ", ".join(values[:_VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sessions(number: int) -> str:
    return f"{number} session{'' if number == 1 else 's'}"
