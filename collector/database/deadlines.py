"""All deadlines of work on the database, in seconds, by operation."""

# To reach a server, or to be told that there is none.
CONNECT_DEADLINE_S = 30
# One statement of the writer; a live batch that takes longer waits on disk, where no crash takes
# it.
WRITE_DEADLINE_S = 60
LIVE_WRITE_DEADLINE_S = 10.0
# Reports, verification, policies.
READ_DEADLINE_S = 600
# One span of late data, over all rollups.
REFRESH_DEADLINE_S = 3600
# To hand back all connections at the end.
CLOSE_DEADLINE_S = 5
# A sign of life: the others take over servers after two intervals without one.
BEAT_DEADLINE_S = 5.0
# The first contact with a database that this collector does not know.
CONTACT_DEADLINE_S = 120.0
# What a tick or a sign of life waits for: small reads and writes of a database that is there.
SHORT_DEADLINE_S = 5.0
