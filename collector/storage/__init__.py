"""Polls are written to the database, each exactly once.

`outbox` holds batches until they are stored: live batches go to the database at once, the others
wait on disk (`spool`) and are replayed. `writer` stores a batch in one statement. `refused`
remembers polls that were dropped for lack of room. `registry` writes the servers, tenants and
contracts of the settings to the database.
"""
