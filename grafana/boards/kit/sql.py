"""Queries: the data source, the time range that Grafana fills in, and the query itself."""

from dataclasses import dataclass
from textwrap import dedent

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common

PLUGIN = "grafana-postgresql-datasource"
# A variable, so that the imported dashboards work with a data source of any name.
SOURCE = common.DataSourceRef(type_val=PLUGIN, uid="${datasource}")

# The chosen time range. Grafana fills in both ends.
FROM = "$__timeFrom()::timestamptz"
TO = "$__timeTo()::timestamptz"
# The length of one step: Grafana fits it to the range and to the width of the panel.
STEP = "'$__interval'::interval"
# The range of all figures that are not steps of a chart: the chosen one, widened to whole minutes,
# or to whole hours or days where the minutes are no longer kept.
SINCE = f"meter.report_edge({FROM})"
REPORT = f"{SINCE}, meter.report_edge({TO}, TRUE)"
# For the descriptions of panels: which time their figures cover.
EDGES = (
    "The time range is widened to whole minutes, and to whole hours or days where minutes or hours "
    "are no longer kept."
)
STEPS = "Steps are whole: the first one can begin before the time range."
SESSIONS_KEPT = (
    "Sessions that are no longer kept (400 days unless the settings say otherwise) are not counted."
)


@dataclass
class Sql(Dataquery):
    """A query for the PostgreSQL data source."""

    sql: str
    format: str = "time_series"
    ref_id: str = "A"

    def to_json(self) -> dict[str, object]:
        """Return it as the data source expects it."""
        return {
            "refId": self.ref_id,
            "datasource": SOURCE.to_json(),
            "rawSql": dedent(self.sql).strip(),
            "format": self.format,
            "editorMode": "code",
            "rawQuery": True,
        }


class Ready(Builder[Dataquery]):
    """A finished query, for the SDK's methods that accept only the builder of a query."""

    def __init__(self, query: Sql) -> None:
        """Keep the finished `query`."""
        self._query = query

    def build(self) -> Dataquery:
        """Return the query."""
        return self._query
