"""How load balancers and clients mark a meeting with its tenant.

The mark determines the room's id, the meeting's external id, its metadata, and the attribution rule
that finds the tenant.
"""

import hashlib
import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from collector.simulator.plan import Mark, SimTenant

SUBJECTS = (
    "Analysis I & <b>Übung</b>",
    'Seminar "Netze"',
    "Sprechstunde",
    "Daily stand-up",
    "Algèbre linéaire",
    "Statistics for Everyone",
    "Büro 2.0 / Team",
    "Chor 🎶 Probe",
    "Kolloquium",
    "C++ > Rust? A debate",
)


def room_id(tenant: SimTenant, number: int) -> str:
    """Return the id of a tenant's room as the client chose it, without a load balancer's suffix."""
    digest = hashlib.sha1(f"{tenant.name}/{number}".encode(), usedforsecurity=False).hexdigest()
    if tenant.mark == "moodle":
        return f"{digest}-{100 + number}-{number % 7 + 1}"
    if tenant.mark == "greenlight":
        return "-".join(digest[at : at + 3] for at in range(0, 12, 3))
    if tenant.mark == "prefix":
        return f"{tenant.name}-room-{number}"
    return f"course-{number}-{digest[:6]}"


def room_name(tenant: SimTenant, number: int) -> str:
    """Return the name of a tenant's room, some with markup, umlauts and emoji."""
    return f"{SUBJECTS[(number + len(tenant.name)) % len(SUBJECTS)]} {number}"


def external_id(tenant: SimTenant, room: str) -> str:
    """Return the meetingID that BBB sees for a room: BBBLB appends the tenant."""
    return f"{room}-bbblb-{tenant.name}" if tenant.mark == "bbblb" else room


def origin_host(tenant: SimTenant) -> str:
    """Return the host of the tenant's Moodle or Greenlight."""
    return f"{'lms' if tenant.mark == 'moodle' else 'rooms'}.{tenant.name.lower()}.example"


def tenant_id(tenant: SimTenant) -> str:
    """Return the UUID by which Scalelite knows a tenant."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{tenant.name}.example"))


def metadata(
    tenant: SimTenant, room: str, name: str, server: str, size: int, rng: random.Random
) -> dict[str, str]:
    """Return the metadata of one session, sorted, with keys in lower case as in BBB."""
    context = {"bbb-context-id": room, "bbb-context-name": name}
    callback = {"endcallbackurl": f"https://{origin_host(tenant)}/cb?x=1&y={len(room)}"}
    origin = {"bbb-origin-server-name": origin_host(tenant), **context, **callback}
    makers: dict[Mark, Callable[[], dict[str, str]]] = {
        "bbblb": lambda: {
            "bbblb-tenant": tenant.name,
            "bbblb-uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "bbblb-origin": origin_host(tenant),
            "bbblb-server": f"{server}.example",
            **context,
        },
        "scalelite": lambda: {
            "tenant-id": tenant_id(tenant),
            "tenant-name": tenant.name,
            "server-tag": "none",
        },
        "b3scale": lambda: {"b3s-frontend": tenant.name, **callback},
        "greenlight": lambda: {"bbb-origin": "greenlight", "bbb-origin-version": "3", **origin},
        "moodle": lambda: {
            "bbb-origin": "Moodle",
            "bbb-origin-server-common-name": "",
            "bbb-origin-tag": "moodle-mod_bigbluebuttonbn (2024100700)",
            "bbb-origin-version": "4.5",
            "bbb-meeting-size-hint": str(size),
            "bbb-recording-name": name,
            **origin,
        },
        "prefix": dict,
    }
    return dict(sorted(makers[tenant.mark]().items()))


def attribution_rules(tenants: Iterable[SimTenant]) -> list[dict[str, Any]]:
    """Return entries for `attribution.rules` of the settings that find these tenants."""
    by_mark: dict[Mark, list[SimTenant]] = {}
    for tenant in tenants:
        by_mark.setdefault(tenant.mark, []).append(tenant)
    rules: list[dict[str, Any]] = []
    if "bbblb" in by_mark:
        rules += [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "suffix"}]
    if "scalelite" in by_mark:
        table = {tenant_id(tenant): tenant.name for tenant in by_mark["scalelite"]}
        rules.append({"type": "metadata", "key": "tenant-id", "tenants": table})
    if "b3scale" in by_mark:
        rules.append({"type": "metadata", "key": "b3s-frontend"})
    # The longest name first, as one tenant's name can be the beginning of another's.
    for tenant in sorted(by_mark.get("prefix", []), key=lambda t: (-len(t.name), t.name)):
        rules.append({"type": "prefix", "prefix": f"{tenant.name}-", "tenant": tenant.name})
    hosts = {
        origin_host(tenant): tenant.name
        for mark in ("greenlight", "moodle")
        for tenant in by_mark.get(mark, [])
    }
    if hosts:
        rules.append({"type": "origin", "hosts": hosts})
    rules.append({"type": "parent"})
    return rules
