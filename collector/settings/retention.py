"""`[retention]` and `[columnstore]`: how long each table is kept, and when it becomes columns."""

from pydantic import Field

from collector.settings.base import Days, Section


class RetentionSettings(Section):
    """Days that each table is kept; 0 keeps it for ever."""

    sample: Days = Field(default=30, description="One row a session a tick.")
    poll: Days = Field(default=30, description="One row a server a tick.")
    usage_1m: Days = Field(default=180, description="Usage of each tenant by the minute.")
    usage_1h: Days = Field(default=1095, description="Usage of each tenant by the hour.")
    usage_1d: Days = Field(default=0, description="Usage of each tenant by the day.")
    fleet_1m: Days = Field(default=180, description="Usage of all tenants by the minute.")
    fleet_1h: Days = Field(default=1095, description="Usage of all tenants by the hour.")
    server_1h: Days = Field(default=1095, description="Polls of each server by the hour.")
    poll_1h: Days = Field(
        default=400, description="Polls of each server by the hour, outcome and latency."
    )
    server_1d: Days = Field(default=0, description="Polls of each server by the day.")
    session: Days = Field(default=400, description="One row a session.")
    session_1h: Days = Field(default=400, description="Usage of each session by the hour.")
    session_1d: Days = Field(default=0, description="Sessions of each tenant by the day.")
    start_1h: Days = Field(
        default=400, description="Sessions of all tenants by the hour in which they began."
    )


class ColumnstoreSettings(Section):
    """Days after which each table's chunks are turned into columns; 0 leaves them as rows."""

    sample: Days = Field(default=1, description="One row a session a tick.")
    poll: Days = Field(default=1, description="One row a server a tick.")
    usage_1m: Days = Field(default=7, description="Usage of each tenant by the minute.")
    usage_1h: Days = Field(default=60, description="Usage of each tenant by the hour.")
    session: Days = Field(default=30, description="One row a session.")
    session_1h: Days = Field(default=7, description="Usage of each session by the hour.")
    poll_1h: Days = Field(default=60, description="Polls by the hour, outcome and latency.")
