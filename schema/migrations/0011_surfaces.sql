-- Functions whose columns have changed since 0.1.0: ../current creates them again.

DROP FUNCTION IF EXISTS meter.tenant_ranking(timestamptz, timestamptz);
DROP FUNCTION IF EXISTS meter.month_to_date(timestamptz);
DROP FUNCTION IF EXISTS meter.server_report(timestamptz, timestamptz);
