"""The way into the database, exactly once.

`outbox` holds what is to be stored: live batches go to the database at once, the rest waits on disk
(`spool`) and is replayed. `writer` stores a batch in one statement. `refused` remembers polls that
found no room. `registry` keeps servers, tenants and contracts of the settings in the database.
"""
