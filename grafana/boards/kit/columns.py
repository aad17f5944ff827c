"""How a column of a table, or a series of a chart, looks: colours, thresholds, units, links."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import places

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE = "green", "yellow", "orange", "red", "blue", "purple"
GREY = "#8e8e8e"
# Thresholds of a share from 0 to 1 that should be 1.
COVERAGE = ((None, RED), (0.9, ORANGE), (0.98, YELLOW), (0.995, GREEN))
# Thresholds of the share of a time range that was metered: what is less than 1 is only a part.
METERED = ((None, ORANGE), (0.99999, GREEN))
# Thresholds of a share that should stay below 1, such as the use of a limit.
USE = ((None, GREEN), (0.8, ORANGE), (1.0, RED))
NONE_IS_GOOD = ((None, GREEN), (1.0, RED))

Steps = Sequence[tuple[float | None, str]]


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Return thresholds: the colour from each value upwards; None is the lowest step."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


@dataclass
class Column:
    """How a column of a table, or a series of a chart, is shown."""

    name: str
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None
    link: dict[str, object] | None = None
    color: str | None = None
    steps: Steps | None = None
    gauge: bool = False
    mappings: list[dict[str, object]] = field(default_factory=list)
    more: dict[str, object] = field(default_factory=dict)

    def properties(self) -> list[models.DynamicConfigValue]:
        """Return it as the properties of an override."""
        values: dict[str, object] = {}
        if self.unit:
            values["unit"] = self.unit
        if self.decimals is not None:
            values["decimals"] = self.decimals
        if self.width:
            values["custom.width"] = self.width
        if self.link:
            values["links"] = [self.link]
        if self.color:
            values["color"] = {"mode": "fixed", "fixedColor": self.color}
        if self.steps:
            values["thresholds"] = thresholds(self.steps).build().to_json()
            values["custom.cellOptions"] = {"type": "color-text"}
        if self.gauge:
            values |= {"min": 0, "max": 1}
            values["custom.cellOptions"] = {
                "type": "gauge",
                "mode": "basic",
                "valueDisplayMode": "text",
            }
        if self.mappings:
            values["mappings"] = self.mappings
        return [models.DynamicConfigValue(k, v) for k, v in (values | self.more).items()]


def mapped(value: str, shown: str, color: str | None = None) -> dict[str, object]:
    """Return a mapping of one value to what is shown instead."""
    result: dict[str, object] = {"text": shown, "index": 0}
    if color:
        result["color"] = color
    return {"type": "value", "options": {value: result}}


# Shows a cell's text in the colour of its value.
COLORED: dict[str, object] = {"custom.cellOptions": {"type": "color-text"}}
# Shows a series as separate points: nothing is known about the time between them.
POINTS: dict[str, object] = {"custom.drawStyle": "points", "custom.pointSize": 7}


def hidden(name: str) -> Column:
    """Return a column that is not shown, for the links of other columns."""
    return Column(name, more={"custom.hideFrom": {"viz": True, "legend": True, "tooltip": True}})


# Part of a SELECT, for the links of a list of sessions: the time from five minutes before each
# session to five minutes after it, in milliseconds.
SPAN = """
            floor(extract(EPOCH FROM started_at - interval '5 minutes') * 1000) AS "from_ms",
            ceil(extract(
                EPOCH FROM coalesce(ended_at, now()) + interval '5 minutes'
            ) * 1000) AS "to_ms",""".strip()

# The columns that all lists of sessions have.
SESSION_COLUMNS = (
    hidden("session"),
    hidden("from_ms"),
    hidden("to_ms"),
    Column(
        "began",
        unit="dateTimeAsIso",
        width=175,
        more={
            "links": [
                places.link("Session", places.SESSION, session="session"),
                {
                    "title": "Session, from its beginning to its end",
                    "url": f"/d/{places.SESSION}?var-session="
                    '${__data.fields["session"]:percentencode}'
                    '&from=${__data.fields["from_ms"].numeric}&to=${__data.fields["to_ms"].numeric}',
                },
            ]
        },
    ),
    Column("ended", unit="dateTimeAsIso", width=175),
    Column("mean", decimals=1),
    Column("filled", unit="percentunit", decimals=2),
)
