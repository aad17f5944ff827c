-- Counts that a version after the first added to samples. An earlier sample has NULL there.

-- The sums of such a count between two instants, by tenant: from its rollups meter.<of>_1d and
-- meter.<of>_1h, and from samples at the edges that are not full hours. known_seconds is the time
-- of sessions (no breakouts) in which the count is known. An edge whose samples have been dropped
-- has no row: its time is not known.
CREATE OR REPLACE FUNCTION meter.count_between(
    of text, since timestamptz, until timestamptz
)
RETURNS TABLE (
    bucket timestamptz,
    tenant_id integer,
    count_seconds bigint,
    known_seconds bigint
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        IF tile.grain = 'minute' THEN
            RETURN QUERY EXECUTE format(
                'SELECT
                    public.time_bucket(''1 minute'', a.ts), a.tenant_id,
                    sum(a.%1$I::integer * a.seconds), sum(a.seconds)
                FROM meter.sample AS a
                WHERE a.ts >= $1 AND a.ts < $2 AND NOT a.breakout AND a.%1$I IS NOT NULL
                GROUP BY 1, 2', of
            ) USING tile.lo, tile.hi;
        ELSE
            RETURN QUERY EXECUTE format(
                'SELECT u.bucket, u.tenant_id, u.count_seconds, u.known_seconds
                FROM meter.%I AS u WHERE u.bucket >= $1 AND u.bucket < $2',
                of || CASE tile.grain WHEN 'day' THEN '_1d' ELSE '_1h' END
            ) USING tile.lo, tile.hi;
        END IF;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.count_between IS
'Sums of a later count (named by its column in meter.sample) between two instants, and the time of '
'sessions in which it is known.';
