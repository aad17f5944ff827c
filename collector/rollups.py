"""The rollups of the database: what each is made from, and what that asks of retention."""

# What each rollup is made from, no rollup before its source. Its refresh looks back nearly as far
# as that is kept, and never behind it, which would delete the rollup's rows.
ROLLUP_SOURCE = {
    "usage_1m": "sample",
    "session_1h": "sample",
    "server_1h": "poll",
    "poll_1h": "poll",
    "usage_1h": "usage_1m",
    "fleet_1m": "usage_1m",
    "fleet_1h": "fleet_1m",
    "usage_1d": "usage_1h",
    "server_1d": "server_1h",
    "session_1d": "session",
    "start_1h": "session",
}
# For how many days a rollup's source must be kept at least, for the refresh to have a chance: it
# runs late when all stood still for a weekend, and a session changes until it has ended.
LEAST_KEPT_DAYS = {
    "usage_1m": 3,
    "session_1h": 3,
    "server_1h": 3,
    "poll_1h": 3,
    "usage_1h": 4,
    "fleet_1m": 4,
    "fleet_1h": 4,
    "usage_1d": 5,
    "server_1d": 5,
    "session_1d": 9,
    "start_1h": 9,
}
