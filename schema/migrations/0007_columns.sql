-- No bloom filter on (session_id, ts) of samples in columns, which TimescaleDB makes for their
-- index: a fifth of their size, and the order finds a session's batches by their bounds.
ALTER TABLE meter.sample SET (timescaledb.sparse_index = '');
