"""The addresses of the dashboards, and the links between them, which keep the time range."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

FLEET = "bbbmeter-fleet"
TENANTS = "bbbmeter-tenants"
TENANT = "bbbmeter-tenant"
ROOMS = "bbbmeter-rooms"
ROOM = "bbbmeter-room"
SESSION = "bbbmeter-session"
QUALITY = "bbbmeter-quality"
TAG = "bbbmeter"


def to(uid: str, **columns: str) -> str:
    """Return the address of a dashboard, with each variable filled from a column of the same row.

    Column values are encoded as a part of the address, because rooms can have any name.
    """
    filled = [
        f'var-{name}=${{__data.fields["{column}"]:percentencode}}'
        for name, column in columns.items()
    ]
    return f"/d/{uid}?" + "&".join([*filled, "${__url_time_range}"])


def link(title: str, uid: str, **columns: str) -> dict[str, object]:
    """Return a data link for a column of a table, as Grafana's JSON has it."""
    return {"title": title, "url": to(uid, **columns)}


def menu() -> dashboard.DashboardLink:
    """Return the menu of all dashboards, for the top of each."""
    return (
        dashboard.DashboardLink("bbbmeter")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .icon("external link")
    )
