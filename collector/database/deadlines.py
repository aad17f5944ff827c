"""All deadlines of database work, in seconds, by operation."""

# Opening a connection to a database server.
CONNECT_DEADLINE_S = 30
# One statement of the writer. A live batch that takes longer than its deadline goes to the disk,
# where it survives a crash.
WRITE_DEADLINE_S = 60
LIVE_WRITE_DEADLINE_S = 10.0
# Reports, verification, policies.
READ_DEADLINE_S = 600
# Refreshing all rollups over one span of late data.
REFRESH_DEADLINE_S = 3600
# Closing all connections at the end.
CLOSE_DEADLINE_S = 5
# A heartbeat. Other collectors take over the servers after two intervals without one.
BEAT_DEADLINE_S = 5.0
# The first contact with a database that this collector has never reached before.
CONTACT_DEADLINE_S = 120.0
# Small reads and writes that delay a tick or a heartbeat.
SHORT_DEADLINE_S = 5.0
# Each step of `bbbmeter check`. A pooler without a free connection lets its clients wait longer.
TRIAL_DEADLINE_S = 10.0
