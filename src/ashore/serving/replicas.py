"""The replicas behind one alias: kept connected in the background, chosen by least load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ashore.engines import EngineInfo
from ashore.errors import AshoreError, Draining, HostDied, NotReady
from ashore.residency import Served
from ashore.serving.ports import Replica

log = logging.getLogger("ashore.serving")

ReplicaFactory = Callable[[str], Replica]
"""Makes an unconnected replica for a socket path."""

CONNECT_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.1
FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 1.0


class Seat:
    """One socket path and whatever replica is behind it now. The host may die and come back; the seat stays."""

    def __init__(self, socket: str, factory: ReplicaFactory, changed: Callable[[], None]) -> None:
        self.socket = socket
        self.in_flight = 0
        """Sequences of this worker that run there."""
        self._factory = factory
        self._changed = changed
        self._replica: Replica | None = None
        self._drains: Replica | None = None
        """The replica that takes nothing new: it ends once its answers have."""
        self._task: asyncio.Task[None] | None = None

    @property
    def replica(self) -> Replica | None:
        """The live replica, or None while the host is away, or takes nothing new."""
        found = self._replica
        return found if found is not None and found is not self._drains and found.connected else None

    def start(self) -> None:
        """Begin to connect, and to reconnect for ever."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"seat {self.socket}")

    def suspect(self, replica: Replica, fault: AshoreError) -> None:
        """Tell what a replica said instead of an answer: one that drains gets nothing more. Another one may be behind
        the socket by the time that it is told."""
        if fault.code == Draining.code and self._replica is replica:
            self._drains = replica
            self._changed()

    async def stop(self) -> None:
        """Disconnect. May be called twice."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._drop()

    async def retire(self) -> None:
        """Disconnect once nothing of ours runs there, or the host is gone."""
        while self.in_flight and self._replica is not None and self._replica.connected:  # noqa: ASYNC110 - once per reload
            await asyncio.sleep(LOOK_EVERY_S)
        await self.stop()

    async def _keep(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            candidate = self._factory(self.socket)
            try:
                await candidate.connect(CONNECT_TIMEOUT_S)
            except (AshoreError, OSError, TimeoutError) as fault:
                log.debug("replica %s: %s", self.socket, fault)
                await candidate.close()
                await asyncio.sleep(backoff_s)
                backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)
                continue
            backoff_s = FIRST_BACKOFF_S
            self._replica = candidate
            log.info("replica %s connected: %s %s", self.socket, candidate.info.model, candidate.info.precision)
            self._changed()
            while candidate.connected:
                await candidate.gone()
            log.warning("replica %s is gone", self.socket)
            await self._drop()
            self._changed()

    async def _drop(self) -> None:
        replica, self._replica, self._drains = self._replica, None, None
        if replica is not None:
            await replica.close()


@dataclass(frozen=True, slots=True)
class Ability:
    """What the live replicas of an alias offer together."""

    sequences: int
    kv_tokens: int


class ReplicaSet:
    """All seats of one alias."""

    def __init__(
        self, alias: str, sockets: Sequence[str], factory: ReplicaFactory, changed: Callable[[], None]
    ) -> None:
        self._alias = alias
        self._factory = factory
        self._on_change = changed
        self.residence: Served | None = None
        """How the supervisor says that it stands, where it is loaded on demand."""
        self._info: EngineInfo | None = None
        self._arrived = asyncio.Event()
        self._retiring: dict[asyncio.Task[None], Seat] = {}
        self._seats = tuple(Seat(socket, factory, self._changed) for socket in sockets)

    @property
    def seats(self) -> tuple[Seat, ...]:
        return self._seats

    @property
    def sockets(self) -> tuple[str, ...]:
        return tuple(seat.socket for seat in self._seats)

    @property
    def info(self) -> EngineInfo | None:
        """What a replica said last; None until the first one was ready."""
        return self._info

    @property
    def ready(self) -> bool:
        return any(seat.replica is not None for seat in self._seats)

    @property
    def live(self) -> tuple[Replica, ...]:
        return tuple(replica for seat in self._seats if (replica := seat.replica) is not None)

    @property
    def ability(self) -> Ability:
        infos = [replica.info for replica in self.live]
        return Ability(sum(i.max_sequences for i in infos), sum(i.kv_tokens for i in infos))

    def start(self) -> None:
        """Begin to connect every seat."""
        for seat in self._seats:
            seat.start()

    async def resize(self, sockets: Sequence[str]) -> None:
        """Keep the seats that are named, add what is new; the others get nothing more and leave once they are idle."""
        kept = {seat.socket: seat for seat in self._seats}
        fresh = [Seat(socket, self._factory, self._changed) for socket in sockets if socket not in kept]
        dropped = [seat for socket, seat in kept.items() if socket not in sockets]
        by_socket = kept | {seat.socket: seat for seat in fresh}
        self._seats = tuple(by_socket[socket] for socket in sockets)
        for seat in fresh:
            seat.start()
        for seat in dropped:
            task = asyncio.get_running_loop().create_task(seat.retire(), name=f"retire {seat.socket}")
            self._retiring[task] = seat
            task.add_done_callback(self._retiring.pop)
        self._changed()

    async def stop(self) -> None:
        """Disconnect every seat, those too that wait for their last answers. May be called twice."""
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        for seat in (*self._seats, *retiring.values()):
            await seat.stop()
        await asyncio.gather(*retiring, return_exceptions=True)

    async def changed(self, within_s: float) -> None:
        """Return when something has changed, or after so long."""
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._arrived.wait()

    def rouse(self) -> None:
        """Have whoever waits for a replica look again at whether to wait on."""
        self._arrived.set()

    async def pick(
        self, patience_s: Callable[[], float], check: Callable[[], None] = lambda: None
    ) -> tuple[Seat, Replica]:
        """Return the live replica with the least of our sequences; waits for one that restarts.

        Args:
            patience_s: Tells the longest wait. Asked again whenever something has changed: hosts may be gone before
                this worker hears that a release loads in their place, and then who waits has more patience.
            check: Called before each wait, and whenever something has changed: raises where waiting is in vain.

        Raises:
            NotReady: none was ever ready (at once), or none came back in that time.
        """
        found = least_loaded(self._seats)
        if found is not None:
            return found
        if self._info is None:
            raise NotReady(f"{self._alias} is still loading", hint="ask /readyz, or send it again", retry_after_s=2)
        began_at, wait_s = asyncio.get_running_loop().time(), 0.0
        try:
            async with asyncio.timeout(None) as alarm:
                while (found := least_loaded(self._seats)) is None:
                    check()
                    wait_s = max(wait_s, patience_s())
                    alarm.reschedule(began_at + wait_s)
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError as fault:
            raise NotReady(
                f"no engine host of {self._alias} was there within {wait_s:.0f} s",
                hint="it loads, or starts again; send it again, or the operator finds why in the log of the host",
                retry_after_s=5,
            ) from fault
        return found

    def _changed(self) -> None:
        for replica in self.live:
            self._info = replica.info
            self._arrived.set()
        self._on_change()


def least_loaded(seats: Sequence[Seat]) -> tuple[Seat, Replica] | None:
    """Return the live seat with the fewest sequences, the first of equals; None where none is live."""
    best: tuple[Seat, Replica] | None = None
    for seat in seats:
        replica = seat.replica
        if replica is not None and (best is None or seat.in_flight < best[0].in_flight):
            best = seat, replica
    return best


def died(error: AshoreError) -> bool:
    """Return whether `error` says that the host is gone or going, so that another one may be asked instead."""
    return isinstance(error, HostDied) or error.code in (HostDied.code, Draining.code)


def deaths_of(error: AshoreError) -> int:
    """Return how many hosts died of a request that is handed on with this error."""
    return error.deaths if isinstance(error, HostDied) else 0
