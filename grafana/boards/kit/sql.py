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
# The range of a report. It starts and ends at whole minutes, or at whole hours or days where the
# minutes are no longer kept.
REPORT = f"meter.report_edge({FROM}, {TO} - {FROM}), meter.report_edge({TO}, {TO} - {FROM})"


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
