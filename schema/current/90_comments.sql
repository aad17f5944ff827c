-- What everything means, for people: `\d+` in psql and every database tool shows it.

COMMENT ON SCHEMA meter IS
'Usage metering of BigBlueButton servers. People read the functions tenant_report, tenant_usage '
'and usage_by, and the rollups; bbbmeter writes the tables. Times are instants; days and months '
'are those of the time zone that meter.billing_timezone() names. Figures of usage leave '
'breakout rooms out, unless they say so.';

COMMENT ON TABLE meter.migration IS
'The run-once files of the schema that were applied: the ledger of `bbbmeter migrate`.';
COMMENT ON COLUMN meter.migration.name IS 'File name.';
COMMENT ON COLUMN meter.migration.sha256 IS 'SHA-256 of the file as shipped, in hexadecimal.';
COMMENT ON COLUMN meter.migration.applied_at IS 'When it was applied.';

COMMENT ON TABLE meter.setting IS
'The settings that are built into the rollups by the day: changing one cuts all days anew. '
'days_to_be_computed stands there until that is done.';
COMMENT ON COLUMN meter.setting.key IS 'The setting''s name, as in bbbmeter.toml.';
COMMENT ON COLUMN meter.setting.value IS 'Its value, as text.';

COMMENT ON TABLE meter.tenant IS 'Who is accountable for meetings: a customer, a faculty.';
COMMENT ON COLUMN meter.tenant.id IS 'Number of the tenant, for joins.';
COMMENT ON COLUMN meter.tenant.name IS 'Name in the settings, rules and figures; it never changes.';
COMMENT ON COLUMN meter.tenant.title IS 'Name for people; empty where the settings give none.';

COMMENT ON TABLE meter.contract IS
'What each tenant''s contract allows, and when: a change of the settings ends one and begins the '
'next.';
COMMENT ON COLUMN meter.contract.tenant_id IS 'The tenant (meter.tenant).';
COMMENT ON COLUMN meter.contract.since IS
'The tick from which it holds; a tenant''s first contract holds for all time before it too '
'(-infinity).';
COMMENT ON COLUMN meter.contract.until IS
'The tick from which it holds no more; NULL while it does.';
COMMENT ON COLUMN meter.contract.max_participants IS
'Most participants at a time, as the mean of a minute over all servers; NULL is no limit.';
COMMENT ON COLUMN meter.contract.month_minutes IS
'Participant minutes in a calendar month of the billing time zone; NULL is no limit.';

COMMENT ON TABLE meter.server IS
'The BigBlueButton servers (or load balancers seen with one tenant''s secret). One that left '
'the settings stays, for figures name it.';
COMMENT ON COLUMN meter.server.id IS 'Number of the server, for joins.';
COMMENT ON COLUMN meter.server.name IS 'Name in the settings: the server''s identity.';
COMMENT ON COLUMN meter.server.tenant_id IS
'The tenant whose meetings alone it carries; NULL where it is shared.';

COMMENT ON COLUMN meter.server.tls_expires_at IS
'When the certificate that it last showed expires; NULL without TLS, or never seen.';

COMMENT ON TABLE meter.server_due IS
'Since when, and until when, polls of a server are due: what coverage is measured by.';
COMMENT ON COLUMN meter.server_due.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_due.since IS 'The first tick for which a poll is due.';
COMMENT ON COLUMN meter.server_due.until IS
'The first tick for which none is due any more; NULL while the server is polled.';

COMMENT ON TABLE meter.late IS
'Spans of time in which data were stored late, or filled, and that meter.settle has not seen to '
'yet: a few minutes old at most.';
COMMENT ON COLUMN meter.late.since IS 'The first tick that was touched.';
COMMENT ON COLUMN meter.late.until IS 'The end of the last tick that was touched.';
COMMENT ON COLUMN meter.late.added_at IS 'When that was.';

COMMENT ON TABLE meter.collector IS
'When each collector was seen, by the database''s clock. A new span begins when it is started, '
'or comes back after it was cut off, suspended or busy.';
COMMENT ON COLUMN meter.collector.id IS 'The collector: its spool''s identity.';
COMMENT ON COLUMN meter.collector.host IS 'Name of the machine or container it runs on.';
COMMENT ON COLUMN meter.collector.since IS 'When it was first seen, in this span.';
COMMENT ON COLUMN meter.collector.until IS 'When it was last seen, in this span.';
COMMENT ON COLUMN meter.collector.safe_until IS
'What it had polled until then was stored, or on its disk, when it was last seen.';
COMMENT ON COLUMN meter.collector.stopped IS 'Whether it ended in good order.';
COMMENT ON COLUMN meter.collector.interval_s IS
'Its poll interval in seconds. This and what follows is as of its last sign of life; NULL where '
'it did not say.';
COMMENT ON COLUMN meter.collector.servers IS 'How many servers it polls.';
COMMENT ON COLUMN meter.collector.newest_stored_at IS 'The newest tick that it has stored.';
COMMENT ON COLUMN meter.collector.spool_polls IS 'Polls that wait on its disk.';
COMMENT ON COLUMN meter.collector.spool_bytes IS 'Bytes that those take.';
COMMENT ON COLUMN meter.collector.spool_max_bytes IS 'Bytes that they may take.';
COMMENT ON COLUMN meter.collector.quarantined_batches IS
'Batches that the database refused for their content.';

COMMENT ON TABLE meter.tenant_role IS
'Which database role sees which tenant''s rows, through the views meter.my_…: written by what '
'`bbbmeter tenant grant-sql` prints.';
COMMENT ON COLUMN meter.tenant_role.role IS
'The role; whoever has been granted it sees the tenant''s rows.';
COMMENT ON COLUMN meter.tenant_role.tenant_id IS 'The tenant (meter.tenant).';

COMMENT ON TABLE meter.room IS 'The reusable meeting ids of BigBlueButton, by tenant.';
COMMENT ON COLUMN meter.room.id IS 'Number of the room, for joins.';
COMMENT ON COLUMN meter.room.tenant_id IS 'The tenant it belongs to (meter.tenant).';
COMMENT ON COLUMN meter.room.external_id IS
'The meeting id that its users know, without what a load balancer appends.';
COMMENT ON COLUMN meter.room.name IS
'The room''s last name. NULL unless the settings let names be stored, for they can be personal '
'data.';

COMMENT ON TABLE meter.session IS
'One row a session: one run of a room, from createTime to its end. The figures are computed '
'from meter.sample, again and again while the session is open.';
COMMENT ON COLUMN meter.session.session_id IS
'Number of the session, made from the server''s name and BigBlueButton''s internal id.';
COMMENT ON COLUMN meter.session.server_id IS 'The server that holds it (meter.server).';
COMMENT ON COLUMN meter.session.internal_id IS 'BigBlueButton''s internal meeting id.';
COMMENT ON COLUMN meter.session.started_at IS
'BigBlueButton''s createTime, by the server''s clock.';
COMMENT ON COLUMN meter.session.tenant_id IS
'The tenant it had when it was first seen (meter.tenant).';
COMMENT ON COLUMN meter.session.room_id IS
'Its room (meter.room); NULL for a breakout whose parent was never seen.';
COMMENT ON COLUMN meter.session.parent_internal_id IS
'The internal id of a breakout''s parent; NULL where it is no breakout.';
COMMENT ON COLUMN meter.session.breakout IS
'Whether it is a breakout room: its users are counted in its parent already.';
COMMENT ON COLUMN meter.session.recording IS 'Whether recording was asked for when it was created.';
COMMENT ON COLUMN meter.session.origin IS
'The product that created it, as it says itself (bbb-origin): moodle, greenlight, …; other where '
'that is no plain word, NULL where it says nothing.';
COMMENT ON COLUMN meter.session.first_seen_at IS 'The tick of the first poll that saw it.';
COMMENT ON COLUMN meter.session.last_seen_at IS
'The tick of the last sample. NULL until first computed.';
COMMENT ON COLUMN meter.session.ended_at IS
'Half a poll interval after it was last seen. NULL while it is open, also while its server does '
'not answer.';
COMMENT ON COLUMN meter.session.duration_seconds IS
'Seconds from its start to its end; while it is open, to half an interval after it was last '
'seen. NULL until first computed.';
COMMENT ON COLUMN meter.session.seconds IS
'Seconds that its samples stand for. NULL until first computed.';
COMMENT ON COLUMN meter.session.participant_seconds IS
'Participants × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3. NULL until first '
'computed.';
COMMENT ON COLUMN meter.session.video_seconds IS
'Webcam streams × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.dialin_seconds IS
'Participants by telephone × seconds. NULL until first computed.';
COMMENT ON COLUMN meter.session.filled_seconds IS
'The part of seconds that was interpolated between two polls. NULL until first computed.';
COMMENT ON COLUMN meter.session.max_participants IS
'Most participants at any tick. NULL until first computed.';
COMMENT ON COLUMN meter.session.mean_participants IS
'Mean participants over the seconds seen. NULL until first computed.';

COMMENT ON TABLE meter.poll IS
'One row a server a tick, whether the poll succeeded or not. It is the commit record of the '
'samples that the poll gave: no sample without its poll.';
COMMENT ON COLUMN meter.poll.ts IS
'The tick: a multiple of the poll interval, the same for all servers.';
COMMENT ON COLUMN meter.poll.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.poll.ok IS 'Whether the server answered as BigBlueButton does.';
COMMENT ON COLUMN meter.poll.error IS
'The kind of error, such as timeout or http_status:502; partial where ok with skipped meetings; '
'else NULL.';
COMMENT ON COLUMN meter.poll.latency_ms IS
'Milliseconds from asking to the whole answer, or to the error.';
COMMENT ON COLUMN meter.poll.seconds IS
'Seconds that the poll stands for, from ts on: the poll interval.';
COMMENT ON COLUMN meter.poll.sessions IS
'Sessions without breakouts; NULL (unknown) where the poll failed.';
COMMENT ON COLUMN meter.poll.participants IS 'Participants in them; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.voice IS
'Participants with voice in them; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.video IS 'Webcam streams in them; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.listeners IS
'Listen-only participants in them, always 0 in BigBlueButton 3; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.dialins IS
'Participants by telephone in them; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.breakouts IS 'Breakout rooms; NULL where the poll failed.';
COMMENT ON COLUMN meter.poll.skipped IS 'Meetings in the answer that could not be read.';

COMMENT ON TABLE meter.sample IS
'One row a session a tick. A sample stands for the seconds from ts on, so sums cut exactly at '
'the edges of minutes, hours and days.';
COMMENT ON COLUMN meter.sample.ts IS 'The tick.';
COMMENT ON COLUMN meter.sample.tenant_id IS 'The tenant when it was stored (meter.tenant).';
COMMENT ON COLUMN meter.sample.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.sample.session_id IS 'The session (meter.session).';
COMMENT ON COLUMN meter.sample.participants IS
'Participants; one person twice counts twice, guests in the lobby do not count.';
COMMENT ON COLUMN meter.sample.voice IS
'Participants with voice; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.sample.video IS 'Webcam streams.';
COMMENT ON COLUMN meter.sample.listeners IS
'Listen-only participants; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.sample.dialins IS 'Participants by telephone.';
COMMENT ON COLUMN meter.sample.seconds IS 'Seconds that the sample stands for.';
COMMENT ON COLUMN meter.sample.breakout IS 'Whether the session is a breakout room.';
COMMENT ON COLUMN meter.sample.filled IS
'Whether it was interpolated between two polls, because those between them are missing.';

COMMENT ON VIEW meter.usage_1m IS
'Usage of each tenant by the minute, without breakouts, up to the present.';
COMMENT ON COLUMN meter.usage_1m.bucket IS 'Beginning of the minute.';
COMMENT ON COLUMN meter.usage_1m.tenant_id IS
'The tenant (meter.tenant). No row where it had no session.';
COMMENT ON COLUMN meter.usage_1m.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.usage_1m.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1m.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.usage_1m.listener_seconds IS
'Listen-only participants × seconds; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1m.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.usage_1m.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.usage_1m.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.usage_1m.breakout_seconds IS
'Participants in breakout rooms × seconds; in none of the other figures.';
COMMENT ON COLUMN meter.usage_1m.largest_session IS
'Participants in the largest session at any tick.';

COMMENT ON VIEW meter.usage_1h IS
'Usage of each tenant by the hour, without breakouts, up to the present. Buckets are hours of '
'UTC; of 30 or 15 minutes where the days of the billing time zone do not begin on such an hour.';
COMMENT ON COLUMN meter.usage_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.usage_1h.tenant_id IS
'The tenant (meter.tenant). No row where it had no session.';
COMMENT ON COLUMN meter.usage_1h.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.usage_1h.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1h.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.usage_1h.listener_seconds IS
'Listen-only participants × seconds; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1h.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.usage_1h.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.usage_1h.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.usage_1h.breakout_seconds IS
'Participants in breakout rooms × seconds; in none of the other figures.';
COMMENT ON COLUMN meter.usage_1h.largest_session IS
'Participants in the largest session at any tick.';
COMMENT ON COLUMN meter.usage_1h.peak_participants IS
'The minute with the most participants over all servers at once, as {participant_seconds of the '
'minute, minus its epoch}. Divide the first by 60 for the mean of the minute; max() keeps the '
'earliest of equals.';
COMMENT ON COLUMN meter.usage_1h.peak_sessions IS
'The same of sessions: {session_seconds of the minute, minus its epoch}.';

COMMENT ON VIEW meter.usage_1d IS
'Usage of each tenant by the day of the billing time zone, without breakouts, up to the '
'present.';
COMMENT ON COLUMN meter.usage_1d.bucket IS 'Beginning of the day in the billing time zone.';
COMMENT ON COLUMN meter.usage_1d.tenant_id IS
'The tenant (meter.tenant). No row where it had no session.';
COMMENT ON COLUMN meter.usage_1d.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.usage_1d.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1d.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.usage_1d.listener_seconds IS
'Listen-only participants × seconds; always 0 in BigBlueButton 3.';
COMMENT ON COLUMN meter.usage_1d.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.usage_1d.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.usage_1d.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.usage_1d.breakout_seconds IS
'Participants in breakout rooms × seconds; in none of the other figures.';
COMMENT ON COLUMN meter.usage_1d.largest_session IS
'Participants in the largest session at any tick.';
COMMENT ON COLUMN meter.usage_1d.peak_participants IS
'The minute with the most participants over all servers at once, as {participant_seconds of the '
'minute, minus its epoch}. Divide the first by 60 for the mean of the minute; max() keeps the '
'earliest of equals.';
COMMENT ON COLUMN meter.usage_1d.peak_sessions IS
'The same of sessions: {session_seconds of the minute, minus its epoch}.';

COMMENT ON VIEW meter.session_1h IS
'Usage of each session (breakouts too) by the hour, up to the present. Buckets are hours of '
'UTC; of 30 or 15 minutes where the days of the billing time zone do not begin on such an hour.';
COMMENT ON COLUMN meter.session_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.session_1h.tenant_id IS 'The tenant (meter.tenant).';
COMMENT ON COLUMN meter.session_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.session_1h.session_id IS 'The session (meter.session).';
COMMENT ON COLUMN meter.session_1h.breakout IS 'Whether it is a breakout room.';
COMMENT ON COLUMN meter.session_1h.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.session_1h.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.session_1h.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.session_1h.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.session_1h.session_seconds IS
'Seconds that the session was seen in the bucket.';
COMMENT ON COLUMN meter.session_1h.filled_seconds IS
'The part of them that was interpolated between two polls.';
COMMENT ON COLUMN meter.session_1h.max_participants IS 'Most participants at any tick.';

COMMENT ON VIEW meter.server_1h IS
'Polls of each server by the hour, up to the present. Buckets are hours of UTC; of 30 or 15 '
'minutes where the days of the billing time zone do not begin on such an hour.';
COMMENT ON COLUMN meter.server_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.server_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_1h.polls IS 'Polls tried.';
COMMENT ON COLUMN meter.server_1h.ok_polls IS 'Polls that succeeded.';
COMMENT ON COLUMN meter.server_1h.covered_seconds IS 'Seconds that successful polls stand for.';
COMMENT ON COLUMN meter.server_1h.participant_seconds IS
'Participants × seconds, from successful polls, without breakouts and without filled gaps.';
COMMENT ON COLUMN meter.server_1h.session_seconds IS 'Sessions × seconds, likewise.';
COMMENT ON COLUMN meter.server_1h.max_participants IS
'Most participants at any tick; NULL where no poll succeeded.';
COMMENT ON COLUMN meter.server_1h.max_sessions IS
'Most sessions at any tick; NULL where no poll succeeded.';
COMMENT ON COLUMN meter.server_1h.latency_ms IS
'Sum of the successful polls'' milliseconds: divide by ok_polls for the mean.';
COMMENT ON COLUMN meter.server_1h.max_latency_ms IS
'Longest successful poll in milliseconds; NULL where none succeeded.';
COMMENT ON COLUMN meter.server_1h.skipped IS 'Meetings that could not be read.';

COMMENT ON VIEW meter.server_1d IS
'Polls of each server by the day of the billing time zone, up to the present.';
COMMENT ON COLUMN meter.server_1d.bucket IS 'Beginning of the day in the billing time zone.';
COMMENT ON COLUMN meter.server_1d.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_1d.polls IS 'Polls tried.';
COMMENT ON COLUMN meter.server_1d.ok_polls IS 'Polls that succeeded.';
COMMENT ON COLUMN meter.server_1d.covered_seconds IS 'Seconds that successful polls stand for.';
COMMENT ON COLUMN meter.server_1d.participant_seconds IS
'Participants × seconds, from successful polls, without breakouts and without filled gaps.';
COMMENT ON COLUMN meter.server_1d.session_seconds IS 'Sessions × seconds, likewise.';
COMMENT ON COLUMN meter.server_1d.max_participants IS
'Most participants at any tick; NULL where no poll succeeded.';
COMMENT ON COLUMN meter.server_1d.max_sessions IS
'Most sessions at any tick; NULL where no poll succeeded.';
COMMENT ON COLUMN meter.server_1d.latency_ms IS
'Sum of the successful polls'' milliseconds: divide by ok_polls for the mean.';
COMMENT ON COLUMN meter.server_1d.max_latency_ms IS
'Longest successful poll in milliseconds; NULL where none succeeded.';
COMMENT ON COLUMN meter.server_1d.skipped IS 'Meetings that could not be read.';

COMMENT ON VIEW meter.session_1d IS
'Sessions (no breakouts) of each tenant, by the day of the billing time zone on which they '
'began, up to the present.';
COMMENT ON COLUMN meter.session_1d.bucket IS 'Beginning of the day in the billing time zone.';
COMMENT ON COLUMN meter.session_1d.tenant_id IS
'The tenant (meter.tenant). No row where none of its sessions began.';
COMMENT ON COLUMN meter.session_1d.sessions IS 'Sessions that began.';
COMMENT ON COLUMN meter.session_1d.duration_seconds IS 'Sum of their durations.';
COMMENT ON COLUMN meter.session_1d.max_duration_seconds IS 'The longest of them.';
COMMENT ON COLUMN meter.session_1d.mean_participants_sum IS
'Sum of their mean participants: divide by sessions for the average size.';
COMMENT ON COLUMN meter.session_1d.max_participants IS
'Most participants at any tick in any of them.';
COMMENT ON COLUMN meter.session_1d.large_sessions IS
'Those that had more participants than the setting large_session_participants at some tick.';

COMMENT ON VIEW meter.fleet_1m IS
'Usage of all tenants together by the minute, without breakouts, up to the present. Columns as in '
'meter.usage_1m.';
COMMENT ON COLUMN meter.fleet_1m.bucket IS 'Beginning of the minute. No row without a session.';
COMMENT ON COLUMN meter.fleet_1m.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.fleet_1m.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.fleet_1m.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.fleet_1m.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.fleet_1m.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.fleet_1m.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.fleet_1m.breakout_seconds IS
'Participants in breakout rooms × seconds; in none of the other figures.';
COMMENT ON COLUMN meter.fleet_1m.largest_session IS
'Participants in the largest session at any tick.';

COMMENT ON VIEW meter.start_1h IS
'Rollup: sessions of all tenants, without breakouts, by the hour in which they began, the product '
'that created them, and when they ended. For charts; bills read meter.session.';
COMMENT ON COLUMN meter.start_1h.bucket IS 'Beginning of the hour. No row without a session.';
COMMENT ON COLUMN meter.start_1h.origin IS
'Product that created them, as it says itself; empty if it says nothing.';
COMMENT ON COLUMN meter.start_1h.ended_after IS
'Buckets from that in which they began to that in which they ended; -1: they are on.';
COMMENT ON COLUMN meter.start_1h.sessions IS 'Sessions that began.';
COMMENT ON COLUMN meter.start_1h.participant_seconds IS
'Participants × seconds of these sessions, in whichever hour they fell.';
COMMENT ON COLUMN meter.start_1h.sessions_of_1 IS
'Those with one participant, or none yet, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_2 IS
'Those with two, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_3 IS
'Those with 3 to 5, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_6 IS
'Those with 6 to 10, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_11 IS
'Those with 11 to 20, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_21 IS
'Those with 21 to 50, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_51 IS
'Those with 51 to 100, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_101 IS
'Those with 101 to 200, at most at a time.';
COMMENT ON COLUMN meter.start_1h.sessions_of_201 IS
'Those with more than 200, at most at a time.';
COMMENT ON VIEW meter.fleet_1h IS
'Usage of all tenants together by the hour, without breakouts, up to the present. Buckets as in '
'meter.usage_1h.';
COMMENT ON COLUMN meter.fleet_1h.bucket IS 'Beginning of the hour. No row without a session.';
COMMENT ON COLUMN meter.fleet_1h.participant_seconds IS 'Participants × seconds.';
COMMENT ON COLUMN meter.fleet_1h.voice_seconds IS
'Participants with voice × seconds; listen-only counts too in BigBlueButton 3.';
COMMENT ON COLUMN meter.fleet_1h.video_seconds IS 'Webcam streams × seconds.';
COMMENT ON COLUMN meter.fleet_1h.dialin_seconds IS 'Participants by telephone × seconds.';
COMMENT ON COLUMN meter.fleet_1h.session_seconds IS 'Sessions × seconds.';
COMMENT ON COLUMN meter.fleet_1h.filled_seconds IS
'The part of session_seconds that was interpolated between two polls.';
COMMENT ON COLUMN meter.fleet_1h.breakout_seconds IS
'Participants in breakout rooms × seconds; in none of the other figures.';
COMMENT ON COLUMN meter.fleet_1h.largest_session IS
'Participants in the largest session at any tick.';
COMMENT ON COLUMN meter.fleet_1h.peak_participants IS
'The minute with the most participants of all tenants at once, as in meter.usage_1h: '
'{participant_seconds of the minute, minus its epoch}.';
COMMENT ON COLUMN meter.fleet_1h.peak_sessions IS
'The same of sessions: {session_seconds of the minute, minus its epoch}.';

COMMENT ON VIEW meter.poll_1h IS
'Polls of each server by the hour, by how they ended and how long they took, up to the present. '
'Buckets as in meter.server_1h.';
COMMENT ON COLUMN meter.poll_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.poll_1h.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.poll_1h.ok IS 'Whether they succeeded.';
COMMENT ON COLUMN meter.poll_1h.error IS
'The kind of error as in meter.poll; empty where there was none.';
COMMENT ON COLUMN meter.poll_1h.latency_class IS
'How many of the bounds 10, 20, 50, 100, 200, 500, 1000, 2000, 5000 and 10000 ms they reached.';
COMMENT ON COLUMN meter.poll_1h.polls IS 'How many there were.';
COMMENT ON COLUMN meter.poll_1h.skipped IS 'Meetings in them that could not be read.';

COMMENT ON FUNCTION meter.latency_bounds IS
'The latencies in ms at which the classes of meter.poll_1h begin. Class 0 lies below the first '
'one.';
COMMENT ON FUNCTION meter.size_bounds IS
'The smallest numbers of participants of the classes of size of meter.start_1h. The number of the '
'class is the position in the array.';
COMMENT ON FUNCTION meter.size_class IS
'The class of size (meter.size_bounds) of a session with a maximum of `participants` at once.';
