"""Hosts, in the one form in which they are compared."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from yarl import URL

_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//")
_BEHIND = re.compile(r"[/?#\\]")
_IN_BRACKETS = re.compile(r"\[([^\]]*)\](?::[0-9]*)?")
_WITH_PORT = re.compile(r"([^:]*):[0-9]*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_HOST = 253  # characters of a name in DNS


# Cached, because the sessions of a fleet name the same few hosts at every tick.
@lru_cache(maxsize=4096)
def host_of(text: str) -> str | None:
    """Return the host in `text`, which is a host or a URL; None if it has no valid host.

    A name is in lower case, in its ASCII form, without a dot at its end. An IPv6 address is in its
    short form, without brackets. Scheme, port, path and blanks around are left out. Never raises.
    """
    text = text.strip().lower()
    if scheme := _SCHEME.match(text):
        text = text[scheme.end() :]
    host = _BEHIND.split(text, maxsplit=1)[0]
    if found := _IN_BRACKETS.fullmatch(host):
        return _ipv6(found[1])
    if host.count(":") > 1:
        return _ipv6(host)
    if found := _WITH_PORT.fullmatch(host):
        host = found[1]
    return _name(host.removesuffix("."))


def _ipv6(text: str) -> str | None:
    try:
        return str(IPv6Address(text))
    except ValueError:
        return None


def _name(host: str) -> str | None:
    """Return a DNS name or an IPv4 address in its final form, None if it is neither."""
    if len(host) > _MAX_HOST:
        return None
    try:
        if not host.isascii():
            host = URL.build(scheme="http", host=host).raw_host or ""
        labels = host.split(".")
        if labels[-1].isdigit():
            return str(IPv4Address(host))
    except ValueError:
        return None
    valid = len(host) <= _MAX_HOST and all(map(_LABEL.fullmatch, labels))
    return host if valid else None
