"""Releases in one worker: aliases lead where the state says, and administrators move them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from msgspec import structs

from ashore.access import Acts
from ashore.errors import AshoreError
from ashore.releases.betting import Tally
from ashore.releases.burn import Count
from ashore.releases.calls import CALLS, ReleaseDesk
from ashore.releases.given import GivenLevel
from ashore.releases.keeper import ReleaseKeeper
from ashore.releases.office import ReleaseOffice
from ashore.releases.pairs import Pair
from ashore.releases.policy import ReleasePolicy
from ashore.releases.ports import EvaluationGate, Workshop
from ashore.releases.routes import AliasRoute, routes_of
from ashore.releases.sql import ALIASES_EPOCH, load_book
from ashore.rooms import Context, Opened, Room
from ashore.settings import Home
from ashore.state import Database, EpochWatch, Rereads

JUDGE_EVERY_S: Final = 0.5
"""How late the state hears what was observed of a candidate."""
MOST_WHY_CHARS: Final = 300

log = logging.getLogger("ashore.worker")


class TakesRoutes(Protocol):
    """Leads requests."""

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Lead every alias there, from the next request on."""
        ...


class Trials(Protocol):
    """What was observed of releases in this worker. What is taken is given once."""

    @property
    def policy(self) -> ReleasePolicy: ...
    def take(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], Tally]]: ...
    def take_pairs(self) -> Mapping[str, Sequence[Pair]]: ...
    def take_counts(self) -> Mapping[str, Sequence[Count]]: ...
    def take_given(self) -> Mapping[str, Sequence[GivenLevel]]: ...
    def take_former(self, release: str, levels: Iterable[GivenLevel]) -> None:
        """Hear what a release gave before this worker began."""
        ...


class RequestPath(TakesRoutes, Protocol):
    """Leads requests and compares what answers them: `ServingService`."""

    @property
    def trials(self) -> Trials: ...

    @property
    def unreadable(self) -> Mapping[tuple[str, str], Exception]:
        """Models that are left out, by alias and release, with why."""
        ...

    def unknown_formers(self) -> tuple[str, ...]:
        """Return the releases that what is live is compared with, and of which this worker knows nothing."""
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
    serving: RequestPath, keeper: ReleaseKeeper, routes: RouteKeeper, *, every_s: float = JUDGE_EVERY_S
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
    serving: RequestPath, keeper: ReleaseKeeper, routes: RouteKeeper, told: set[tuple[str, str]]
) -> None:
    """Have the state know of releases that were left out of this worker, each once."""
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


async def _remember(serving: RequestPath, keeper: ReleaseKeeper) -> None:
    """Have the state keep what is live gave, and learn from it what the one before gave where nobody here knows."""
    given = serving.trials.take_given()
    try:
        if given:
            await asyncio.to_thread(keeper.keep_given, given)
        for release in serving.unknown_formers():
            serving.trials.take_former(release, await asyncio.to_thread(keeper.given, release))
    except AshoreError as fault:
        log.warning("cannot save the answers of releases: %s", fault.message)


async def _guard(serving: RequestPath, keeper: ReleaseKeeper, routes: RouteKeeper) -> None:
    """Have a canary taken back that uses up its objective too fast."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AllWorkers(Rereads):
    """The port `Workers` of releases, from within one of them."""

    serving: RequestPath

    def policy(self) -> ReleasePolicy:
        """Return what the operator says of trying releases, as it is now."""
        return self.serving.trials.policy


async def open_room(context: Context) -> Opened:
    """Open what moves releases, with the aliases in force; nothing where there is no state or no home.

    Raises:
        AshoreError: the state cannot be read.
    """
    database, home = context.database, context.told("home")
    if database is None or not home or not context.told("first_key_file"):
        return Opened()
    serving, workshop = context.need(RequestPath), context.need(Workshop)
    routes = RouteKeeper(serving, database)
    await routes.start(context.watch)
    acts = Acts(database, context.recorder, context.clock)
    adapters = str(Home(root=Path(home)).adapters)

    def policy() -> ReleasePolicy:
        said = serving.trials.policy
        return structs.replace(said, adapter_folders=(*said.adapter_folders, adapters))  # what was trained here

    office = ReleaseOffice(acts, workshop, context.find(EvaluationGate), policy=policy)
    workers = AllWorkers(serving=serving, reread=routes.refresh, alone=context.alone)
    judging = partial(keep_judging, serving, ReleaseKeeper(acts, workshop), routes)
    return Opened(desk=ReleaseDesk(office=office, workers=workers), background={"judge candidates": judging})


ROOM: Final = Room(
    name="releases", calls=CALLS, open=open_room, stage="serving",
    acts=(
        *(call.act for call in CALLS if call.changes),
        "release:adopt", "release:automatic-rollback", "release:clock-jumped", "release:fell",
        "release:on-time", "release:warmed",
    ),
)  # fmt: skip
