"""Releases in one worker: aliases lead where the state says, and administrators move them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from msgspec import structs

from ashore.access import Acts
from ashore.bootstrap import build_store, build_workshop
from ashore.core import Clock, Recorder
from ashore.errors import AshoreError
from ashore.releases import ALIASES_EPOCH, AliasRoute, ReleaseKeeper, ReleaseOffice, ReleasePolicy, load_book, routes_of
from ashore.releases.calls import ReleaseDesk
from ashore.releases.evaluated import KeptVerdicts
from ashore.serving import ServingService, Topology
from ashore.settings import Home
from ashore.state import IN_FORCE_S, Database, EpochWatch

JUDGE_EVERY_S: Final = 0.5
"""How late the state hears what was observed of a candidate."""
MOST_WHY_CHARS: Final = 300

log = logging.getLogger("ashore.worker")


class TakesRoutes(Protocol):
    """Leads requests: `ServingService`."""

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Lead every alias there, from the next request on."""
        ...


class RouteKeeper:
    """Has the request path lead every alias where the state says, from the moment that the epoch moves."""

    def __init__(self, serving: TakesRoutes, database: Database) -> None:
        self._serving = serving
        self._database = database
        self._reading = threading.Lock()

    async def start(self, watch: EpochWatch | None) -> None:
        """Read where the aliases lead, and read again whenever that changes.

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
        """Read now, and return when what was read is in force. A worker that changed something itself need not wait for
        the watch."""
        await asyncio.to_thread(self._read, asyncio.get_running_loop())

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read, and hand it to the loop. Of two threads that read, the loop gets last what was read last: otherwise
        what one read before a move could come behind what the other read after it, and stay."""
        with self._reading:
            with self._database.read() as connection:
                routes = routes_of(load_book(connection))
            loop.call_soon_threadsafe(self._serving.take_routes, routes)


async def keep_judging(
    serving: ServingService, keeper: ReleaseKeeper, routes: RouteKeeper, *, every_s: float = JUDGE_EVERY_S
) -> None:
    """Give what was observed of candidates to the state every so often; one found worse is taken back there, and one
    that this worker cannot read has failed."""
    failed: set[tuple[str, str]] = set()
    while True:
        await asyncio.sleep(every_s)
        await _fail_unreadable(serving, keeper, routes, failed)
        await _remember(serving, keeper)
        for (release, stage), tallies in serving.trials.take().items():
            try:
                found = await asyncio.to_thread(keeper.judge, release, stage, tallies)
            except AshoreError as fault:
                log.warning("what was observed of %s is lost: %s", release, fault.message)
                continue
            if found.verdict == "worse":
                log.warning("release %s is found worse: %s", release, found.measure)
                await routes.refresh()
        await _guard(serving, keeper, routes)
        for release, pairs in serving.trials.take_pairs().items():
            try:
                await asyncio.to_thread(keeper.keep_pairs, release, pairs, most=serving.trials.policy.pairs)
            except AshoreError as fault:
                log.warning("pairs of answers of %s are lost: %s", release, fault.message)


async def _fail_unreadable(
    serving: ServingService, keeper: ReleaseKeeper, routes: RouteKeeper, told: set[tuple[str, str]]
) -> None:
    """Have the state know of releases that were left out of this worker, each once."""
    for (alias, release), fault in serving.unreadable.items():
        if (alias, release) in told:
            continue
        words = fault.message if isinstance(fault, AshoreError) else f"{type(fault).__name__}: {fault}"
        try:
            await asyncio.to_thread(keeper.fell, release, f"an API worker cannot read it: {words}"[:MOST_WHY_CHARS], {})
        except AshoreError as busy:
            log.warning("that %s cannot be read is told later: %s", release, busy.message)
            return
        told.add((alias, release))
        await routes.refresh()
    told &= serving.unreadable.keys()


async def _remember(serving: ServingService, keeper: ReleaseKeeper) -> None:
    """Have the state keep what is live gave, and learn from it what the one before gave where nobody here knows."""
    given = serving.trials.take_given()
    try:
        if given:
            await asyncio.to_thread(keeper.keep_given, given)
        for release in serving.unknown_formers():
            serving.trials.take_former(release, await asyncio.to_thread(keeper.given, release))
    except AshoreError as fault:
        log.warning("what releases gave is not kept: %s", fault.message)


async def _guard(serving: ServingService, keeper: ReleaseKeeper, routes: RouteKeeper) -> None:
    """Have a canary taken back that uses up its objective too fast."""
    counts = serving.trials.take_counts()
    if not counts:
        return
    try:
        taken_back = await asyncio.to_thread(keeper.guard, serving.trials.policy.slo, counts)
    except AshoreError as fault:
        log.warning("how requests kept to the objective is lost: %s", fault.message)
        return
    if taken_back:
        log.warning("%s is taken back: its objective was used up too fast", ", ".join(taken_back))
        await routes.refresh()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllWorkers:
    """The port `Workers` of releases, from within one of them."""

    serving: ServingService
    routes: RouteKeeper
    alone: bool
    """Whether this is the only worker."""

    def policy(self) -> ReleasePolicy:
        """Return what the operator says of trying releases, as it is now."""
        return self.serving.trials.policy

    async def go_by_the_state(self) -> None:
        """Return when this worker goes by the state, and the others had the time to."""
        await self.routes.refresh()
        if not self.alone:
            await asyncio.sleep(IN_FORCE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Releasing:
    """What moves releases in this worker: for administrators, and by itself."""

    desk: ReleaseDesk
    keeper: ReleaseKeeper
    routes: RouteKeeper


async def open_releases(
    topology: Topology,
    serving: ServingService,
    database: Database | None,
    watch: EpochWatch | None,
    *,
    clock: Clock,
    recorder: Recorder,
) -> Releasing | None:
    """Return what moves releases, with the aliases in force; None where there is no state or no home.

    Raises:
        AshoreError: the state cannot be read.
    """
    if database is None or not topology.home:
        return None
    store = cache(lambda: build_store(Home(root=Path(topology.home))))
    workshop = build_workshop(store, privacy=lambda: topology.privacy, kept=lambda: topology.cache)
    routes = RouteKeeper(serving, database)
    await routes.start(watch)
    acts = Acts(database, recorder, clock)
    adapters = str(Home(root=Path(topology.home)).adapters)

    def policy() -> ReleasePolicy:
        said = serving.trials.policy
        return structs.replace(said, adapter_folders=(*said.adapter_folders, adapters))  # what was trained here

    office = ReleaseOffice(acts, workshop, KeptVerdicts(store), policy=policy)
    workers = AllWorkers(serving=serving, routes=routes, alone=len(topology.workers) < 2 and not topology.state.url)
    return Releasing(
        desk=ReleaseDesk(office=office, workers=workers), keeper=ReleaseKeeper(acts, workshop), routes=routes
    )
