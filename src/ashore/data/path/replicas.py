"""The replicas behind one alias: kept connected in the background, chosen by opening (`Affinity`) or by least load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ashore.core.errors import AshoreError, Draining, HostDied, NotReady
from ashore.data.engines import Affinity, EngineInfo, Turn
from ashore.data.path.ports import Replica
from ashore.data.residency import Served

log = logging.getLogger("ashore.serving")

ReplicaFactory = Callable[[str], Replica]
"""Makes an unconnected replica for a socket path."""

CONNECT_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.1
FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 1.0


class Seat:
    """One socket path and the replica currently behind it. The host may die and come back; the seat stays."""

    def __init__(self, socket: str, factory: ReplicaFactory, changed: Callable[[], None]) -> None:
        self.socket = socket
        self.in_flight = 0
        """Sequences of this worker that run there."""
        self.waiting_tokens = 0.0
        """Prompt tokens of requests of this worker without a first token, less those expected in its prefix cache."""
        self._factory = factory
        self._changed = changed
        self._replica: Replica | None = None
        self._drains: Replica | None = None
        """The replica that takes nothing new: it ends once its answers have."""
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.socket

    @property
    def running(self) -> int:
        return self.in_flight

    @property
    def replica(self) -> Replica | None:
        """The live replica, or None while the host is away or draining."""
        found = self._replica
        return found if found is not None and found is not self._drains and found.connected else None

    def start(self) -> None:
        """Connect, and reconnect until stopped."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"seat {self.socket}")

    def suspect(self, replica: Replica, fault: AshoreError) -> None:
        """Report a replica's error: a draining one gets no more requests. By then another one may be behind the
        socket."""
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
        """Disconnect once none of our requests runs there, or the host is gone."""
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
    """Combined abilities of the live replicas of an alias."""

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
        """Its status as reported by the supervisor, if it is loaded on demand."""
        self.affinity = Affinity()
        self._info: EngineInfo | None = None
        self._arrived = asyncio.Event()
        self._gone_at: float | None = None
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
        """Latest information of a replica; None until the first one was ready."""
        return self._info

    @property
    def ready(self) -> bool:
        return any(seat.replica is not None for seat in self._seats)

    @property
    def away_s(self) -> float:
        """Seconds since the last host went; 0 while there is one, or before the first."""
        return 0.0 if self.ready or self._gone_at is None else asyncio.get_running_loop().time() - self._gone_at

    @property
    def live(self) -> tuple[Replica, ...]:
        return tuple(replica for seat in self._seats if (replica := seat.replica) is not None)

    @property
    def ability(self) -> Ability:
        infos = [replica.info for replica in self.live]
        return Ability(sum(i.max_sequences for i in infos), sum(i.kv_tokens for i in infos))

    def start(self) -> None:
        """Connect every seat."""
        for seat in self._seats:
            seat.start()

    async def resize(self, sockets: Sequence[str]) -> None:
        """Keep the named seats and add new ones; the others get no more requests and leave once they are idle."""
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
        """Disconnect every seat, including those with unfinished answers. May be called twice."""
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        for seat in (*self._seats, *retiring.values()):
            await seat.stop()
        await asyncio.gather(*retiring, return_exceptions=True)

    async def changed(self, within_s: float) -> None:
        """Wait for a change or the time-out."""
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._arrived.wait()

    def rouse(self) -> None:
        """Make requests that wait for a replica check again."""
        self._arrived.set()

    async def pick(
        self,
        patience_s: Callable[[], float],
        check: Callable[[], None] = lambda: None,
        turn: Turn | None = None,
    ) -> tuple[Seat, Replica]:
        """Return the live replica for a turn, without one that with the fewest of our sequences; waits for one that
        restarts.

        Args:
            patience_s: Returns the longest wait. Called again after every change: hosts may be gone before this worker
                learns that a release loads in their place, which allows a longer wait.
            check: Called before each wait, and whenever something has changed: raises if waiting is pointless.
            turn: The request that is to be placed.

        Raises:
            NotReady: none was ever ready (at once), or none came back in that time.
        """
        found = self._choose(turn)
        if found is not None:
            return found
        if self._info is None:
            raise NotReady(f"{self._alias} is still loading", hint="ask /readyz, or send it again", retry_after_s=2)
        began_at, wait_s = asyncio.get_running_loop().time(), 0.0
        try:
            async with asyncio.timeout(None) as alarm:
                while (found := self._choose(turn)) is None:
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

    def _choose(self, turn: Turn | None) -> tuple[Seat, Replica] | None:
        """Return the live seat for a turn; without one that with the fewest sequences, the first of equals."""
        live = {seat: replica for seat in self._seats if (replica := seat.replica) is not None}
        if not live:
            return None
        seat = min(live, key=lambda one: one.in_flight) if turn is None else self.affinity.choose(turn, tuple(live))
        return seat, live[seat]

    def _changed(self) -> None:
        for replica in self.live:
            self._info = replica.info
            self._arrived.set()
        if self.ready:
            self._gone_at = None
        elif self._gone_at is None:
            self._gone_at = asyncio.get_running_loop().time()
        self._on_change()


def died(error: AshoreError) -> bool:
    """Return whether `error` means that the host is gone or going, so that another one may be tried."""
    return isinstance(error, HostDied) or error.code in (HostDied.code, Draining.code)


def deaths_of(error: AshoreError) -> int:
    """Return how many hosts a request has killed, as this error carries it."""
    return error.deaths if isinstance(error, HostDied) else 0
