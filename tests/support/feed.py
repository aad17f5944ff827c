"""Feeds planned sessions into a database through the writer."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from collector.model import LATER_COUNTS, Batch, PollRow, Sample, SessionRow, session_id
from collector.rollups import ROLLUPS
from collector.settings import Settings
from collector.storage.registry import sync_fleet
from collector.storage.writer import Stored, Writer
from tests.support.settings import make_server, make_settings

COLUMNSTORES = tuple(make_settings().columnstore_days)


@dataclass(frozen=True, slots=True)
class Run:
    """One session: on `server` in [begin, end), with the same counts at every tick."""

    server: str
    tenant: str
    room: str | None
    begin: datetime
    end: datetime
    participants: int = 1
    voice: int = 0
    video: int = 0
    listeners: int = 0
    dialins: int = 0
    breakout: bool = False
    created_at: datetime | None = None

    @property
    def internal_id(self) -> str:
        """An id like BigBlueButton's, made from the room and the time of creation."""
        return f"{self.room}-{self.begin:%s}{'-b' if self.breakout else ''}"

    @property
    def session_id(self) -> int:
        """The session id that the collector computes."""
        created_ms = round((self.created_at or self.begin).timestamp() * 1000)
        return session_id(
            self.server, self.tenant, self.internal_id, created_ms, nested=self.breakout
        )


class Feed:
    """Writes the rows that polls would give, and does the work of the database's policies."""

    def __init__(self, pool: asyncpg.Pool, interval_s: int = 30) -> None:
        """Feed the migrated database of `pool`."""
        self.pool = pool
        self.writer = Writer(pool)
        self.interval_s = interval_s

    async def due(self, tick: datetime, **servers: str | None) -> None:
        """Make polls of exactly `servers` (name = its tenant or None) due from `tick` on.

        Without servers, the polls of all servers are due until `tick`.
        """
        entries = tuple(make_server(n, tenant=tenant) for n, tenant in servers.items())
        async with self.pool.acquire() as connection:
            await sync_fleet(connection, entries, (), tick)

    def batch(
        self,
        servers: Iterable[str],
        ticks: Iterable[datetime],
        runs: Collection[Run] = (),
        *,
        failed: Collection[tuple[str, datetime]] = (),
        missed: Collection[tuple[str, datetime]] = (),
    ) -> Batch:
        """Return the batch of polls of `servers` at `ticks`; some can be failed or missing.

        As in the pipeline, a session is announced if the last successful poll did not see it.
        """
        batch = Batch()
        ticks = list(ticks)
        for server in servers:
            own = [run for run in runs if run.server == server]
            known: set[int] = set()
            for ts in ticks:
                if (server, ts) in missed:
                    continue
                if (server, ts) in failed:
                    batch.polls.append(
                        PollRow(ts, server, False, "timeout", 10_000, self.interval_s)  # noqa: FBT003
                    )
                    continue
                seen = [run for run in own if run.begin <= ts < run.end]
                main = [run for run in seen if not run.breakout]
                batch.polls.append(
                    PollRow(
                        ts,
                        server,
                        ok=True,
                        outcome="ok",
                        latency_ms=50,
                        seconds=self.interval_s,
                        sessions=len(main),
                        participants=sum(run.participants for run in main),
                        voice=sum(run.voice for run in main),
                        video=sum(run.video for run in main),
                        listeners=sum(run.listeners for run in main),
                        dialins=sum(run.dialins for run in main),
                        breakouts=len(seen) - len(main),
                    )
                )
                batch.sessions += [
                    self.announce(run, ts) for run in seen if run.session_id not in known
                ]
                known = {run.session_id for run in seen}
                batch.samples += [self.sample(run, ts) for run in seen]
        return batch

    def announce(self, run: Run, ts: datetime) -> SessionRow:
        """Return the row that announces `run` at the poll `ts`."""
        return SessionRow(
            ts=ts,
            server=run.server,
            session_id=run.session_id,
            internal_id=run.internal_id,
            started_at=run.created_at or run.begin,
            tenant=run.tenant,
            room=run.room,
            room_name=None,
            parent_internal_id="its parent" if run.breakout else None,
            breakout=run.breakout,
            recording=False,
        )

    def sample(self, run: Run, ts: datetime, *, poll_ts: datetime | None = None) -> Sample:
        """Return the sample of `run` at `ts`; with `poll_ts` it is filled in by that poll."""
        return Sample(
            poll_ts=poll_ts or ts,
            server=run.server,
            ts=ts,
            tenant=run.tenant,
            session_id=run.session_id,
            participants=run.participants,
            voice=run.voice,
            video=run.video,
            listeners=run.listeners,
            dialins=run.dialins,
            seconds=self.interval_s,
            breakout=run.breakout,
            filled=poll_ts is not None,
            **dict.fromkeys(LATER_COUNTS, run.participants),
        )

    async def play(
        self,
        servers: Iterable[str],
        ticks: Iterable[datetime],
        runs: Collection[Run] = (),
        *,
        failed: Collection[tuple[str, datetime]] = (),
        missed: Collection[tuple[str, datetime]] = (),
    ) -> Stored:
        """Store the batch that `batch` returns for the same arguments."""
        return await self.writer.write(
            self.batch(servers, ticks, runs, failed=failed, missed=missed)
        )

    def ticks(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the ticks of [since, until)."""
        while since < until:
            yield since
            since += timedelta(seconds=self.interval_s)

    async def refresh(self, until: datetime | None = None) -> None:
        """Refresh all rollups: completely, or the buckets that end at `until` or earlier."""
        for rollup in ROLLUPS:
            await self.pool.execute(
                "CALL public.refresh_continuous_aggregate($1::regclass, NULL, $2::timestamptz)",
                f"meter.{rollup}",
                until,
            )

    async def columnize(self) -> int:
        """Convert every chunk to the columnstore; return their number."""
        done = 0
        for relation in COLUMNSTORES:
            done += await self.pool.fetchval(
                "SELECT count(public.compress_chunk(c, if_not_compressed => TRUE)) "
                "FROM public.show_chunks($1::regclass) AS c",
                f"meter.{relation}",
            )
        return done

    async def session(self, run: Run) -> asyncpg.Record:
        """Return the session's only row."""
        rows = await self.pool.fetch(
            "SELECT * FROM meter.session WHERE session_id = $1", run.session_id
        )
        (row,) = rows
        return row


# The fixture `make_feed`: migrates the test's database to settings, and feeds it.
MakeFeed = Callable[[Settings], Awaitable[Feed]]
