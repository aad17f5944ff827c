-- The meaning of each table and rollup and of their columns, as `\d+` in psql and other database
-- tools show it. The comment of a function or a view stands under it, in its file.

-- Give each column of `target` the comment of the column of `source` that has the same name.
CREATE OR REPLACE FUNCTION meter.copy_comments(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql
AS $fn$
DECLARE
    shared record;
BEGIN
    FOR shared IN
        SELECT t.attname, col_description(source, s.attnum) AS description
        FROM pg_attribute AS t
        INNER JOIN pg_attribute AS s ON t.attname = s.attname
        WHERE t.attrelid = target AND s.attrelid = source AND t.attnum > 0
    LOOP
        EXECUTE format(
            'COMMENT ON COLUMN %s.%I IS %L', target, shared.attname, shared.description
        );
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.copy_comments IS
'Gives each column of a relation the comment of the column of another relation that has the same '
'name.';

COMMENT ON SCHEMA meter IS
'Usage metering of BigBlueButton servers. bbbmeter writes the tables; people read the functions '
'tenant_report, tenant_usage and usage_by, and the rollups. Times are instants; days and months '
'are those of the time zone that meter.billing_timezone() returns. Figures do not include breakout '
'rooms unless they say so.';

COMMENT ON TABLE meter.migration IS
'The ledger of `bbbmeter migrate`: the run-once files of the schema that were applied.';
COMMENT ON COLUMN meter.migration.name IS 'File name.';
COMMENT ON COLUMN meter.migration.sha256 IS 'SHA-256 of the file as shipped, in hexadecimal.';
COMMENT ON COLUMN meter.migration.applied_at IS 'When it was applied.';

COMMENT ON TABLE meter.setting IS
'The settings that the daily rollups are built with. Changing one means rebuilding all days; '
'days_to_be_computed is set until that is done.';
COMMENT ON COLUMN meter.setting.key IS 'Name of the setting, as in bbbmeter.toml.';
COMMENT ON COLUMN meter.setting.value IS 'Its value, as text.';

COMMENT ON TABLE meter.tenant IS 'Those who are accountable for usage: customers or faculties.';
COMMENT ON COLUMN meter.tenant.id IS 'Number of the tenant, for joins.';
COMMENT ON COLUMN meter.tenant.name IS 'Name in the settings, rules and reports. It never changes.';
COMMENT ON COLUMN meter.tenant.title IS 'Name for people; empty if the settings have none.';

COMMENT ON TABLE meter.contract IS
'What each tenant''s contract allows, and when. A change in the settings ends one contract and '
'begins the next.';
COMMENT ON COLUMN meter.contract.tenant_id IS 'The tenant (meter.tenant).';
COMMENT ON COLUMN meter.contract.since IS
'The tick from which it applies. A tenant''s first contract applies to all time before, too '
'(-infinity).';
COMMENT ON COLUMN meter.contract.until IS
'The tick from which it no longer applies; NULL for the current contract.';
COMMENT ON COLUMN meter.contract.participant_limit IS
'Maximum number of participants at once, as the mean of a minute over all servers; NULL is no '
'limit.';
COMMENT ON COLUMN meter.contract.month_minute_limit IS
'Participant minutes in a calendar month of the billing time zone; NULL is no limit.';

COMMENT ON TABLE meter.server IS
'The BigBlueButton servers, or load balancers with one tenant''s secret. A server that was removed '
'from the settings stays, because figures refer to it.';
COMMENT ON COLUMN meter.server.id IS 'Number of the server, for joins.';
COMMENT ON COLUMN meter.server.name IS 'Name in the settings: the identity of the server.';
COMMENT ON COLUMN meter.server.tls_expires_at IS
'When the last certificate that was seen expires; NULL without TLS, or if none was seen yet.';

COMMENT ON TABLE meter.server_due IS
'The spans of time in which polls of a server are due. Coverage is measured against them.';
COMMENT ON COLUMN meter.server_due.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_due.since IS 'The first tick for which a poll is due.';
COMMENT ON COLUMN meter.server_due.until IS
'The first tick for which no poll is due any more; NULL while the server is polled.';

COMMENT ON TABLE meter.late IS
'Spans of time in which data were stored late, or filled, and that meter.settle has not handled '
'yet. A row is a few minutes old at most.';
COMMENT ON COLUMN meter.late.since IS 'The first tick with such data.';
COMMENT ON COLUMN meter.late.until IS 'The end of the last tick with such data.';
COMMENT ON COLUMN meter.late.added_at IS 'When they were stored.';

COMMENT ON TABLE meter.collector IS
'The spans of time in which each collector was alive, by the clock of the database. A new span '
'begins when the collector is started, when it writes a heartbeat after an interruption, and when '
'its fleet changes.';
COMMENT ON COLUMN meter.collector.id IS 'The collector: the identity of its spool.';
COMMENT ON COLUMN meter.collector.host IS 'Name of the machine or container it runs on.';
COMMENT ON COLUMN meter.collector.since IS 'The first heartbeat of this span.';
COMMENT ON COLUMN meter.collector.until IS 'The last heartbeat of this span.';
COMMENT ON COLUMN meter.collector.safe_until IS
'All polls up to this instant were in the database or in its spool at the last heartbeat.';
COMMENT ON COLUMN meter.collector.stopped IS 'Whether it has shut down properly.';
COMMENT ON COLUMN meter.collector.interval_s IS
'Its poll interval in seconds. This and the following columns are as of the last heartbeat; '
'NULL if not reported.';
COMMENT ON COLUMN meter.collector.servers IS 'Number of servers that it polls.';
COMMENT ON COLUMN meter.collector.newest_stored_at IS
'The newest tick that it has stored in the database.';
COMMENT ON COLUMN meter.collector.spool_polls IS 'Number of polls in its spool on disk.';
COMMENT ON COLUMN meter.collector.spool_bytes IS 'Size of its spool in bytes.';
COMMENT ON COLUMN meter.collector.spool_max_bytes IS 'Maximum size of its spool in bytes.';
COMMENT ON COLUMN meter.collector.quarantined_batches IS
'Number of batches that the database rejected because of their content.';

COMMENT ON TABLE meter.tenant_role IS
'The database roles that can read the rows of one tenant, through the views meter.my_…. The SQL '
'that `bbbmeter tenant grant-sql` prints adds rows here.';
COMMENT ON COLUMN meter.tenant_role.role IS
'The role. Users who have been granted it can read the tenant''s rows.';
COMMENT ON COLUMN meter.tenant_role.tenant_id IS 'The tenant (meter.tenant).';

COMMENT ON TABLE meter.room IS 'The rooms: BigBlueButton''s reusable meeting ids, by tenant.';
COMMENT ON COLUMN meter.room.id IS 'Number of the room, for joins.';
COMMENT ON COLUMN meter.room.tenant_id IS 'The tenant it belongs to (meter.tenant).';
COMMENT ON COLUMN meter.room.external_id IS
'The meeting id as its users know it, without what a load balancer appends.';
COMMENT ON COLUMN meter.room.name IS
'The latest name of the room. NULL unless the settings allow storing names, which can be personal '
'data.';

COMMENT ON TABLE meter.session IS
'The sessions. A session is one run of a room, from its creation until it disappears. Its figures '
'are computed from meter.sample, again and again while it is open.';
COMMENT ON COLUMN meter.session.session_id IS
'Number of the session, computed from the server''s name and BigBlueButton''s internal id.';
COMMENT ON COLUMN meter.session.server_id IS 'Its server (meter.server).';
COMMENT ON COLUMN meter.session.internal_id IS 'BigBlueButton''s internal meeting id.';
COMMENT ON COLUMN meter.session.started_at IS
'When it was created: BigBlueButton''s createTime, corrected if the server''s clock was wrong by '
'more than 10 seconds. If that is not possible (after the end of the tick, or more than a year '
'before it), it is the tick at which the session was first seen.';
COMMENT ON COLUMN meter.session.tenant_id IS
'Its tenant (meter.tenant), fixed when the session was first seen.';
COMMENT ON COLUMN meter.session.room_id IS
'Its room (meter.room); NULL for a breakout whose parent was never seen.';
COMMENT ON COLUMN meter.session.parent_internal_id IS
'The internal id of a breakout''s parent, empty if the server names none; NULL for a session that '
'is not a breakout.';
COMMENT ON COLUMN meter.session.breakout IS
'Whether it counts through another session: a breakout room through its parent, a meeting that two '
'servers show through the session on the other server (meter.duplicate_session).';
COMMENT ON COLUMN meter.session.recording IS 'Whether it was created with recording allowed.';
COMMENT ON COLUMN meter.session.origin IS
'The product that created it, as the product says itself (bbb-origin): moodle, greenlight, …; '
'other if that is not a single plain word; NULL if it says nothing.';
COMMENT ON COLUMN meter.session.first_seen_at IS 'The tick of the first poll that saw it.';
COMMENT ON COLUMN meter.session.last_seen_at IS
'The tick of its last sample. NULL until first computed.';
COMMENT ON COLUMN meter.session.ended_at IS
'Half a poll interval after its last sample. NULL while it is open, also while its server does not '
'answer.';
COMMENT ON COLUMN meter.session.duration_seconds IS
'Seconds from its start to its end or, while it is open, to half a poll interval after its last '
'sample. NULL until first computed.';
COMMENT ON COLUMN meter.session.session_seconds IS
'Seconds that its samples stand for. NULL until first computed.';
COMMENT ON COLUMN meter.session.participant_seconds IS
'Participants × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.voice_seconds IS
'Participants with voice × seconds; in BigBlueButton 3 this includes listen-only. NULL until first '
'computed.';
COMMENT ON COLUMN meter.session.video_seconds IS
'Webcam streams × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.dialin_seconds IS
'Participants by telephone × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.filled_seconds IS
'The part of seconds that was interpolated between two polls. NULL until first computed.';
COMMENT ON COLUMN meter.session.max_participants IS
'Maximum number of participants at any tick. NULL until first computed.';
COMMENT ON COLUMN meter.session.mean_participants IS
'Mean number of participants over the seconds of its samples. NULL until first computed.';

COMMENT ON TABLE meter.poll IS
'The polls, successful and failed: one row for each server and tick. A poll is stored in one '
'transaction with its samples, and there is no sample without its poll.';
COMMENT ON COLUMN meter.poll.ts IS
'The tick: a multiple of the poll interval, the same for all servers.';
COMMENT ON COLUMN meter.poll.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.poll.ok IS 'Whether the server answered as BigBlueButton does.';
COMMENT ON COLUMN meter.poll.outcome IS
'How the poll ended: ok, partial (some meetings could not be read), or why it failed, such as '
'timeout or http_status:502. docs/runbooks/server-down.md lists all outcomes.';
COMMENT ON COLUMN meter.poll.latency_ms IS
'Milliseconds from the request to the whole answer, or to the error.';
COMMENT ON COLUMN meter.poll.seconds IS
'Seconds that the poll stands for, from ts on: the poll interval.';
COMMENT ON COLUMN meter.poll.sessions IS
'Sessions without breakouts; NULL (unknown) if the poll failed.';
COMMENT ON COLUMN meter.poll.participants IS
'Participants in these sessions; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.voice IS
'Participants with voice in these sessions; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.video IS
'Webcam streams in these sessions; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.listeners IS
'Listen-only participants in these sessions, always 0 in BigBlueButton 3; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.dialins IS
'Participants by telephone in these sessions; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.breakouts IS 'Breakout rooms; NULL if the poll failed.';
COMMENT ON COLUMN meter.poll.skipped IS
'Number of meetings in the answer that could not be read.';

COMMENT ON TABLE meter.sample IS
'The samples: one row for each session and tick. A sample stands for the seconds from ts on, so '
'that sums can be split exactly at the edges of minutes, hours and days.';
COMMENT ON COLUMN meter.sample.ts IS 'The tick.';
COMMENT ON COLUMN meter.sample.tenant_id IS
'The tenant at the time when the sample was stored (meter.tenant).';
COMMENT ON COLUMN meter.sample.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.sample.session_id IS 'The session (meter.session).';
COMMENT ON COLUMN meter.sample.participants IS
'Participants. A person who joined twice counts twice; guests in the lobby do not count.';
COMMENT ON COLUMN meter.sample.voice IS
'Participants with voice; in BigBlueButton 3 this includes listen-only.';
COMMENT ON COLUMN meter.sample.video IS 'Webcam streams.';
COMMENT ON COLUMN meter.sample.listeners IS
'Listen-only participants; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.sample.dialins IS 'Participants by telephone.';
COMMENT ON COLUMN meter.sample.seconds IS 'Seconds that the sample stands for.';
COMMENT ON COLUMN meter.sample.breakout IS 'Whether the session is a breakout room.';
COMMENT ON COLUMN meter.sample.filled IS
'Whether it was interpolated between two polls, because the polls between them are missing.';

-- Rollups. Those by the hour and the day, and those of the fleet, first get the comments of the
-- rollup that they are computed from.

COMMENT ON VIEW meter.usage_1m IS
'Rollup: usage of each tenant by the minute, without breakouts, up to the present.';
COMMENT ON COLUMN meter.usage_1m.bucket IS 'Beginning of the minute.';
COMMENT ON COLUMN meter.usage_1m.tenant_id IS
'The tenant (meter.tenant). There is no row if it had no session.';
COMMENT ON COLUMN meter.usage_1m.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.usage_1m.voice_seconds IS
'Participants with voice × seconds; in BigBlueButton 3 this includes listen-only.';
COMMENT ON COLUMN meter.usage_1m.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.usage_1m.listener_seconds IS
'Listen-only participants × seconds; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1m.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.usage_1m.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.usage_1m.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.usage_1m.breakout_participant_seconds IS
'Participants in breakout rooms × seconds. No other figure includes them.';
COMMENT ON COLUMN meter.usage_1m.max_session_size IS
'Participants in the largest session at any tick.';

COMMENT ON VIEW meter.usage_1h IS
'Rollup: usage of each tenant by the hour, without breakouts, up to the present. Buckets are hours '
'of UTC; or half or quarter hours if the days of the billing time zone do not begin on a full '
'hour.';
SELECT meter.copy_comments('meter.usage_1m', 'meter.usage_1h');
COMMENT ON COLUMN meter.usage_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.usage_1h.peak_minute IS
'The minute with the most participants over all servers together, as {participant_seconds of the '
'minute, minus its epoch}. Divide the first number by 60 for the mean of the minute. max() keeps '
'the earliest of equal minutes.';
COMMENT ON COLUMN meter.usage_1h.peak_sessions_minute IS
'The minute with the most sessions, in the same form: {session_seconds of the minute, minus its '
'epoch}.';

COMMENT ON VIEW meter.usage_1d IS
'Rollup: usage of each tenant by the day of the billing time zone, without breakouts, up to the '
'present.';
SELECT meter.copy_comments('meter.usage_1h', 'meter.usage_1d');
COMMENT ON COLUMN meter.usage_1d.bucket IS 'Beginning of the day in the billing time zone.';

COMMENT ON VIEW meter.fleet_1m IS
'Rollup: usage of all tenants together by the minute, without breakouts, up to the present.';
SELECT meter.copy_comments('meter.usage_1m', 'meter.fleet_1m');
COMMENT ON COLUMN meter.fleet_1m.bucket IS
'Beginning of the minute. There is no row without a session.';

COMMENT ON VIEW meter.fleet_1h IS
'Rollup: usage of all tenants together by the hour, without breakouts, up to the present. Buckets '
'as in meter.usage_1h.';
SELECT meter.copy_comments('meter.usage_1h', 'meter.fleet_1h');
COMMENT ON COLUMN meter.fleet_1h.bucket IS
'Beginning of the hour. There is no row without a session.';

COMMENT ON VIEW meter.session_1h IS
'Rollup: usage of each session, also of breakouts, by the hour, up to the present. Buckets as in '
'meter.usage_1h.';
COMMENT ON COLUMN meter.session_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.session_1h.tenant_id IS 'The tenant (meter.tenant).';
COMMENT ON COLUMN meter.session_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.session_1h.session_id IS 'The session (meter.session).';
COMMENT ON COLUMN meter.session_1h.breakout IS 'Whether it is a breakout room.';
COMMENT ON COLUMN meter.session_1h.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.session_1h.voice_seconds IS
'Participants with voice × seconds; in BigBlueButton 3 this includes listen-only.';
COMMENT ON COLUMN meter.session_1h.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.session_1h.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.session_1h.session_seconds IS
'Seconds that its samples in the bucket stand for.';
COMMENT ON COLUMN meter.session_1h.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.session_1h.max_participants IS
'Maximum number of participants at any tick.';

COMMENT ON VIEW meter.session_1d IS
'Rollup: sessions (no breakouts) of each tenant by the day of the billing time zone on which they '
'began, up to the present.';
COMMENT ON COLUMN meter.session_1d.bucket IS 'Beginning of the day in the billing time zone.';
COMMENT ON COLUMN meter.session_1d.tenant_id IS
'The tenant (meter.tenant). There is no row if none of its sessions began.';
COMMENT ON COLUMN meter.session_1d.sessions IS 'Number of sessions that began.';
COMMENT ON COLUMN meter.session_1d.duration_seconds IS 'Sum of their durations in seconds.';
COMMENT ON COLUMN meter.session_1d.max_duration_seconds IS
'Duration of the longest of them in seconds.';
COMMENT ON COLUMN meter.session_1d.mean_participants_sum IS
'Sum of their mean numbers of participants: divide it by sessions for the average size.';
COMMENT ON COLUMN meter.session_1d.max_participants IS
'Maximum number of participants at any tick in any of them.';
COMMENT ON COLUMN meter.session_1d.large_sessions IS
'Number of those that had more participants than large_session_participants (a setting) at a tick.';

COMMENT ON VIEW meter.server_1h IS
'Rollup: polls of each server by the hour, up to the present. Buckets as in meter.usage_1h.';
COMMENT ON COLUMN meter.server_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.server_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_1h.polls IS 'Number of polls, successful and failed.';
COMMENT ON COLUMN meter.server_1h.ok_polls IS 'Number of successful polls.';
COMMENT ON COLUMN meter.server_1h.covered_seconds IS 'Seconds that successful polls stand for.';
COMMENT ON COLUMN meter.server_1h.participant_seconds IS
'Participants × seconds, from successful polls, without breakouts and without filled gaps.';
COMMENT ON COLUMN meter.server_1h.session_seconds IS
'Sessions × seconds, from successful polls, without breakouts and without filled gaps.';
COMMENT ON COLUMN meter.server_1h.max_participants IS
'Maximum number of participants at any tick; NULL if no poll succeeded.';
COMMENT ON COLUMN meter.server_1h.max_sessions IS
'Maximum number of sessions at any tick; NULL if no poll succeeded.';
COMMENT ON COLUMN meter.server_1h.latency_ms_sum IS
'Sum of the latencies of successful polls in ms: divide it by ok_polls for the mean.';
COMMENT ON COLUMN meter.server_1h.max_latency_ms IS
'Maximum latency of successful polls in ms; NULL if none succeeded.';
COMMENT ON COLUMN meter.server_1h.skipped IS 'Number of meetings that could not be read.';

COMMENT ON VIEW meter.server_1d IS
'Rollup: polls of each server by the day of the billing time zone, up to the present.';
SELECT meter.copy_comments('meter.server_1h', 'meter.server_1d');
COMMENT ON COLUMN meter.server_1d.bucket IS 'Beginning of the day in the billing time zone.';

COMMENT ON VIEW meter.poll_1h IS
'Rollup: polls of each server by the hour, outcome and latency, up to the present. Buckets as in '
'meter.usage_1h.';
COMMENT ON COLUMN meter.poll_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.poll_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.poll_1h.ok IS 'Whether they succeeded.';
COMMENT ON COLUMN meter.poll_1h.outcome IS
'How the polls ended, as in meter.poll.';
COMMENT ON COLUMN meter.poll_1h.latency_class IS
'Class of latency, from 0 on: the number of bounds in meter.latency_bounds() that they reached.';
COMMENT ON COLUMN meter.poll_1h.polls IS 'Number of polls.';
COMMENT ON COLUMN meter.poll_1h.skipped IS
'Number of meetings in their answers that could not be read.';
COMMENT ON FUNCTION meter.latency_bounds IS
'The latencies in ms at which the classes of meter.poll_1h begin. Class 0 lies below the first '
'one.';

COMMENT ON VIEW meter.start_1h IS
'Rollup: sessions of all tenants, without breakouts, by the hour in which they began, the product '
'that created them, and when they ended. For charts; bills read meter.session.';
COMMENT ON COLUMN meter.start_1h.bucket IS
'Beginning of the hour. There is no row without a session.';
COMMENT ON COLUMN meter.start_1h.origin IS
'The product that created them, as in meter.session; empty if it says nothing.';
COMMENT ON COLUMN meter.start_1h.ended_after IS
'Number of buckets from their beginning to their end; -1 while they are open.';
COMMENT ON COLUMN meter.start_1h.sessions IS 'Number of sessions that began.';
COMMENT ON COLUMN meter.start_1h.participant_seconds IS
'Participants × seconds of these sessions up to their ends, also in later hours.';
COMMENT ON COLUMN meter.start_1h.sessions_of_1 IS
'Those with a maximum of 1 participant at once, or in which nobody was seen yet.';
COMMENT ON COLUMN meter.start_1h.sessions_of_2 IS
'Those with a maximum of 2 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_3 IS
'Those with a maximum of 3 to 5 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_6 IS
'Those with a maximum of 6 to 10 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_11 IS
'Those with a maximum of 11 to 20 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_21 IS
'Those with a maximum of 21 to 50 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_51 IS
'Those with a maximum of 51 to 100 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_101 IS
'Those with a maximum of 101 to 200 participants at once.';
COMMENT ON COLUMN meter.start_1h.sessions_of_201 IS
'Those with a maximum of more than 200 participants at once.';
COMMENT ON FUNCTION meter.size_bounds IS
'The smallest numbers of participants of the classes of size of meter.start_1h. The number of the '
'class is the position in the array.';
COMMENT ON FUNCTION meter.size_class IS
'The class of size (meter.size_bounds) of a session with a maximum of `participants` at once.';
