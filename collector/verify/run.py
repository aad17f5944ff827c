"""Runs all checks of `bbbmeter verify`, in order."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import asyncpg

from collector.database import translated
from collector.errors import DatabaseError
from collector.settings import Settings
from collector.verify.duplicates import check_duplicates
from collector.verify.overlaps import check_overlaps
from collector.verify.polls import check_late, check_polls
from collector.verify.result import Result
from collector.verify.rollups import check_rollups
from collector.verify.samples import check_samples
from collector.verify.scope import Scope, load_scope
from collector.verify.sessions import check_sessions
from collector.verify.storage import check_chunks, check_jobs, check_policies

# Seconds before a difference is checked again; a refresh of late data takes less.
SECOND_LOOK_S = 60.0

_CHECKS: tuple[tuple[str, Callable[[Scope], Awaitable[Result]]], ...] = (
    ("sessions", check_sessions),
    ("samples", check_samples),
    ("overlaps", check_overlaps),
    ("duplicates", check_duplicates),
    ("polls", check_polls),
    ("late data", check_late),
    ("chunks", check_chunks),
    ("policies", check_policies),
    ("jobs", check_jobs),
)


async def verify(
    pool: asyncpg.Pool,
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    second_look_s: float = SECOND_LOOK_S,
) -> list[Result]:
    """Compare everything stored of [since, until) with its source and with the settings.

    By default this is everything that is kept. Chunks, policies and jobs are always checked as a
    whole. If a rollup differs, it is compared again `second_look_s` seconds later. If the database
    rejects a check, its status is `failed`, and the others continue. Raises DatabaseError if the
    database cannot be reached.
    """
    scope = await load_scope(pool, settings, since, until)
    results = await check_rollups(scope, second_look_s)
    for name, check in _CHECKS:
        try:
            with translated(name):
                results.append(await check(scope))
        except DatabaseError as error:
            results.append(Result(name, "failed", note=str(error)))
    return results
