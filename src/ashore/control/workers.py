"""The request path as the API workers of this machine report it, and what is asked of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final, TypeVar

import msgspec

from ashore.core.clock import Clock
from ashore.data.authority import INFER, Authority, Principal
from ashore.data.http.inner import CHANGES, STANDING, Standing
from ashore.data.path import ModelCard, ServingState
from ashore.data.path.deadlines import ASIDE_S
from ashore.data.path.fairthreads import FairThreads
from ashore.data.releases import load_book
from ashore.kit.decode import UNDECODABLE
from ashore.kit.rooms import Workers
from ashore.kit.state import IN_FORCE_S, Database, EpochWatch

log = logging.getLogger("ashore.control")

SETTLE_S: Final = 2.0
"""How long a worker may take to go by a change before its caller is answered."""
LOOK_EVERY_S: Final = 1.0
"""Between two looks at the workers: how late a page shows that a model went up or down."""
FIRST_LOOKS_S: Final = (0.1,) * 50
"""Between the first looks, until the workers, which start at the same time, are ready."""
NAMES_S: Final = 2.0
"""How long a thread waits for the names of the models."""


SHORT_CHARS: Final = 4_096

T = TypeVar("T")


class WorkersView:
    """What the workers reported last. Belongs to one event loop; `names` and `behind` are for any thread."""

    def __init__(self, workers: Workers, clock: Clock) -> None:
        self.draining = False
        """Whether this process ends: streams of events end with it."""
        self.authority: Authority | None = None
        self.database: Database | None = None
        self.watch: EpochWatch | None = None
        self.is_shared = False
        """Whether other machines may go by the same state."""
        self._workers = workers
        self._clock = clock
        self._texts = FairThreads("texts", clock)
        self._loop = asyncio.get_running_loop()
        self._state: ServingState = "loading"
        self._models: Sequence[ModelCard] = ()
        self._behind: Mapping[str, tuple[str, ...]] = {}

    @property
    def state(self) -> ServingState:
        """State of the worker that is worst off; `loading` while none answers."""
        return self._state

    def models(self, principal: Principal | None = None) -> Sequence[ModelCard]:
        """Return the cards of the models; for a principal, only those that it may use."""
        if principal is None or principal.kind == "internal":
            return self._models
        return [one for one in self._models if self._may_ask(principal, one.alias)]

    def _may_ask(self, principal: Principal, alias: str) -> bool:
        assert self.authority is not None
        names = (alias, *self.behind(alias))
        return all(self.authority.decide(principal, INFER, f"model/{name}").allowed for name in names)

    def behind(self, name: str) -> tuple[str, ...]:
        """Return the models behind an alias of others."""
        return self._behind.get(name, ())

    def names(self) -> Collection[str]:
        """Return the names that clients may use; another home on the same state may serve others. Asks the workers and
        the state: not for an event loop."""
        asyncio.run_coroutine_threadsafe(self.look(), self._loop).result(NAMES_S)
        known = {card.alias for card in self._models}
        if self.database is not None:
            with self.database.read() as connection:
                known |= load_book(connection).aliases.keys()
        return known

    async def settle(self) -> None:
        """Return when every process goes by what the state says now: this one, and the workers that answer in time.
        One that does not is starting, and reads it first, or hangs, and answers nobody. Those of other machines know
        within `IN_FORCE_S`.
        """
        began_s = self._clock.monotonic_s()
        if self.watch is not None:
            await asyncio.to_thread(self.watch.look)
        await self._workers.ask(CHANGES, timeout_s=SETTLE_S)
        if self.is_shared:
            await asyncio.sleep(IN_FORCE_S - (self._clock.monotonic_s() - began_s))

    async def look(self) -> None:
        """Ask the workers how they are."""
        found: list[Standing] = []
        for body in await self._workers.ask(STANDING):
            try:
                found.append(msgspec.json.decode(body, type=Standing))
            except UNDECODABLE as fault:
                log.warning("a worker gave a report that is not understood: %s", fault)
        states = [one.state for one in found]
        self._state = next((one for one in states if one != "ready"), "ready") if states else "loading"
        if found:
            self._models, self._behind = found[0].models, found[0].behind

    async def keep_looking(self) -> None:
        """Look regularly. Ends when it is cancelled."""
        for pause_s in chain(FIRST_LOOKS_S, repeat(LOOK_EVERY_S)):
            await self.look()
            await asyncio.sleep(pause_s if self._state != "ready" else LOOK_EVERY_S)

    async def read_aside(self, principal: Principal, work: Callable[[], Any], /) -> Any:
        """Run `work`, which reads a long text, in the queue of the caller's tenant, and return its result.

        Raises:
            DeadlineExceeded: its turn did not come, or it did not end, within `ASIDE_S`.
        """
        return await self._texts.run(principal, work, deadline_at=self._clock.monotonic_s() + ASIDE_S)

    async def at_length(self, num_chars: int, work: Callable[[], T], principal: Principal) -> T:
        """Run `work` on so many characters, aside if they are many, and return its result; raises as `read_aside`."""
        result: T = work() if num_chars <= SHORT_CHARS else await self.read_aside(principal, work)
        return result

    def close(self) -> None:
        """End the threads."""
        self._texts.close()
