"""`[retention]` and `[columnstore]`: how long tables are kept, and when they are compressed."""

from pydantic import Field

from collector.settings.base import Days, Section


class RetentionSettings(Section):
    """Days to keep each table; 0 keeps it permanently. After a change, run `bbbmeter migrate`."""

    sample: Days = Field(default=30, description="One row per session and tick.")
    poll: Days = Field(default=30, description="One row per server and tick.")
    usage_1m: Days = Field(default=180, description="Usage per tenant and minute.")
    usage_1h: Days = Field(default=1095, description="Usage per tenant and hour.")
    usage_1d: Days = Field(default=0, description="Usage per tenant and day.")
    fleet_1m: Days = Field(default=180, description="Usage of all tenants together, per minute.")
    fleet_1h: Days = Field(default=1095, description="Usage of all tenants together, per hour.")
    server_1h: Days = Field(default=1095, description="Polls per server and hour.")
    poll_1h: Days = Field(
        default=400, description="Polls per server and hour, by outcome and latency."
    )
    server_1d: Days = Field(default=0, description="Polls per server and day.")
    session: Days = Field(default=400, description="One row per session.")
    session_1h: Days = Field(default=400, description="Usage per session and hour.")
    session_1d: Days = Field(default=0, description="Sessions per tenant and day.")
    start_1h: Days = Field(
        default=400, description="Sessions of all tenants, by the hour in which they began."
    )


class ColumnstoreSettings(Section):
    """Days until chunks are compressed into columns; 0: never. To apply, run `bbbmeter migrate`."""

    sample: Days = Field(default=1, description="One row per session and tick.")
    poll: Days = Field(default=1, description="One row per server and tick.")
    usage_1m: Days = Field(default=7, description="Usage per tenant and minute.")
    usage_1h: Days = Field(default=60, description="Usage per tenant and hour.")
    session: Days = Field(default=30, description="One row per session.")
    session_1h: Days = Field(default=7, description="Usage per session and hour.")
    poll_1h: Days = Field(
        default=60, description="Polls per server and hour, by outcome and latency."
    )
