"""Releases in one API worker: routes follow the state, and the state hears what is observed of candidates."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from ashore.core.errors import AshoreError
from ashore.data.authority import Acts
from ashore.data.releases.betting import Tally
from ashore.data.releases.burn import Count
from ashore.data.releases.judge import Judge
from ashore.data.releases.model import GivenLevel
from ashore.data.releases.pairs import Pair
from ashore.data.releases.policy import ReleasePolicy
from ashore.data.releases.routes import AliasRoute, routes_of
from ashore.data.releases.sql import ALIASES_EPOCH, load_book
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import Database, EpochWatch

JUDGE_EVERY_S: Final = 0.5
"""How late the state hears what was observed of a candidate."""
MOST_WHY_CHARS: Final = 300

log = logging.getLogger("ashore.worker")


class TakesRoutes(Protocol):
    """Applies routes."""

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Apply the routes from the next request on."""
        ...


class Trials(Protocol):
    """Observations of releases in this worker. Each is returned once."""

    @property
    def policy(self) -> ReleasePolicy: ...
    def take(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], Tally]]: ...
    def take_pairs(self) -> Mapping[str, Sequence[Pair]]: ...
    def take_counts(self) -> Mapping[str, Sequence[Count]]: ...
    def take_given(self) -> Mapping[str, Sequence[GivenLevel]]: ...
    def take_former(self, release: str, levels: Iterable[GivenLevel]) -> None:
        """Take the baseline answers of a release from before this worker started."""
        ...


class RequestPath(TakesRoutes, Protocol):
    """Routes requests and compares answers: `ServingService`."""

    @property
    def trials(self) -> Trials: ...

    @property
    def unreadable(self) -> Mapping[tuple[str, str], Exception]:
        """Models that could not be loaded, by alias and release, with the reason."""
        ...

    def unknown_formers(self) -> tuple[str, ...]:
        """Return the baseline releases that this worker has no data of."""
        ...


class RouteKeeper:
    """Updates the routes of the request path whenever the epoch moves."""

    def __init__(self, serving: TakesRoutes, database: Database) -> None:
        self._serving = serving
        self._database = database
        self._reading = threading.Lock()

    async def start(self, watch: EpochWatch | None) -> None:
        """Read the routes, and again whenever they change.

        Raises:
            AshoreError: the state cannot be read.
        """
        if watch is not None:
            loop = asyncio.get_running_loop()

            def changed(kind: str, value: int) -> None:
                """Runs on the thread of the watch."""
                if kind == ALIASES_EPOCH:
                    self._read(loop)

            watch.on_change(changed)
        await self.refresh()

    async def refresh(self) -> None:
        """Read now; return when the routes are in force. A worker that made a change need not wait for the watch."""
        await asyncio.to_thread(self._read, asyncio.get_running_loop())

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read and pass to the loop, in order: of two threads, the later read must reach the loop last, or an old state
        would stay.
        """
        with self._reading:
            with self._database.read() as connection:
                routes = routes_of(load_book(connection))
            loop.call_soon_threadsafe(self._serving.take_routes, routes)


async def keep_judging(
    serving: RequestPath, keeper: Judge, routes: RouteKeeper, *, every_s: float = JUDGE_EVERY_S
) -> None:
    """Write observations of candidates to the state regularly; one found worse is rolled back there, and one that this
    worker cannot read fails.
    """
    failed: set[tuple[str, str]] = set()
    while True:
        await asyncio.sleep(every_s)
        await _fail_unreadable(serving, keeper, routes, failed)
        await _remember(serving, keeper)
        for (release, stage), tallies in serving.trials.take().items():
            try:
                found = await asyncio.to_thread(keeper.judge, release, stage, tallies)
            except AshoreError as fault:
                log.warning("cannot save the observations of %s, which are lost: %s", release, fault.message)
                continue
            if found.verdict == "worse":
                log.warning("release %s was found worse: %s", release, found.measure)
                await routes.refresh()
        await _guard(serving, keeper, routes)
        for release, pairs in serving.trials.take_pairs().items():
            try:
                await asyncio.to_thread(keeper.keep_pairs, release, pairs, most=serving.trials.policy.pairs)
            except AshoreError as fault:
                log.warning("cannot save pairs of answers of %s, which are lost: %s", release, fault.message)


async def _fail_unreadable(
    serving: RequestPath, keeper: Judge, routes: RouteKeeper, told: set[tuple[str, str]]
) -> None:
    """Record in the state the releases that this worker left out, each once."""
    for (alias, release), fault in serving.unreadable.items():
        if (alias, release) in told:
            continue
        words = fault.message if isinstance(fault, AshoreError) else f"{type(fault).__name__}: {fault}"
        try:
            await asyncio.to_thread(keeper.fell, release, f"an API worker cannot read it: {words}"[:MOST_WHY_CHARS], {})
        except AshoreError as busy:
            log.warning("cannot record yet that %s is unreadable: %s", release, busy.message)
            return
        told.add((alias, release))
        await routes.refresh()
    told &= serving.unreadable.keys()


async def _remember(serving: RequestPath, keeper: Judge) -> None:
    """Store the live release's answers in the state, and load those of the one before if this worker has none."""
    given = serving.trials.take_given()
    try:
        if given:
            await asyncio.to_thread(keeper.keep_given, given)
        for release in serving.unknown_formers():
            serving.trials.take_former(release, await asyncio.to_thread(keeper.given, release))
    except AshoreError as fault:
        log.warning("cannot save the answers of releases: %s", fault.message)


async def _guard(serving: RequestPath, keeper: Judge, routes: RouteKeeper) -> None:
    """Roll back a canary that uses up its objective too fast."""
    counts = serving.trials.take_counts()
    if not counts:
        return
    try:
        taken_back = await asyncio.to_thread(keeper.guard, serving.trials.policy.slo, counts)
    except AshoreError as fault:
        log.warning("cannot save the counts for the objectives, which are lost: %s", fault.message)
        return
    if taken_back:
        log.warning("%s was rolled back: it used up its error budget too fast", ", ".join(taken_back))
        await routes.refresh()


async def serve_routes(context: Context) -> Opened:
    """Follow the routes of the state, and write down what is observed of candidates; nothing without a state or home.

    Raises:
        AshoreError: the state cannot be read.
    """
    database, serving = context.database, context.need(RequestPath)
    if database is None or not has_releases(context):
        return Opened()
    routes = RouteKeeper(serving, database)
    await routes.start(context.watch)
    acts = Acts(database, context.recorder, context.clock)
    judging = partial(keep_judging, serving, Judge(acts), routes)
    return Opened(gives={RouteKeeper: routes}, background={"judge candidates": judging})


def has_releases(context: Context) -> bool:
    """Return whether this server moves releases: it has a state, a home, and keys."""
    return context.database is not None and bool(context.told("home")) and bool(context.told("first_key_file"))


ROOM: Final = Room(name="releases", serve=serve_routes, stage="serving")
