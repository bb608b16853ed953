"""The API worker's side of an engine host: orders go out, events come back, all on one asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ashore.core.errors import AshoreError, EngineFailed, HostDied, NotReady
from ashore.data.engines.frames import (
    Distribute,
    Drain,
    Embed,
    GetStats,
    Rest,
    Rows,
    Score,
    Scores,
    Stats,
    ToHost,
    Vectors,
)
from ashore.data.engines.hostlink import HostLink, host_away, never_began
from ashore.data.engines.model import (
    BackendStatus,
    EngineInfo,
    EngineStats,
    GenerateOrder,
    Order,
    ScoredText,
    ScoreText,
)
from ashore.data.engines.orderstream import CancelOrder, OrderHearer, OrderStream
from ashore.kit.processes import unix_address

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST_RETRY_S: Final = 0.01
_LONGEST_RETRY_S: Final = 0.2

_Answer = TypeVar("_Answer", Vectors, Stats)


class HostClient:
    """A connection to one engine host, shared by every request of this worker that goes to that replica.

    Lives on the loop on which `connect` was awaited. Order ids must be unique among the live orders of the host.
    """

    def __init__(self, socket_path: Path | str) -> None:
        self._path = Path(socket_path)
        self._link: HostLink | None = None

    @property
    def connected(self) -> bool:
        """True between the host's greeting and the end of the connection."""
        return self._link is not None and self._link.open

    @property
    def info(self) -> EngineInfo:
        """The engine's information from its last greeting.

        Raises:
            NotReady: no host has greeted yet.
        """
        if self._link is None:
            raise NotReady(f"the engine host at {self._path} has not greeted yet", hint="wait for `connect`")
        return self._link.info

    async def connect(self, timeout_s: float = 60.0) -> None:
        """Connect, and return once the engine is loaded. Retries quickly until then. May be called again after a loss.

        Raises:
            NotReady: no host listened, or none had loaded, within `timeout_s`.
            AshoreError: the engine could not be loaded; the error is the one that the host met.
        """
        if self.connected:
            return
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        pause_s = _FIRST_RETRY_S
        while True:
            link = await self._try_connect(deadline_s)
            if link is not None:
                self._link = link
                return
            if loop.time() + pause_s > deadline_s:
                raise NotReady(
                    f"no engine host was ready at {self._path} within {timeout_s:g} s",
                    hint="the log of the host says what it does; a large model takes minutes to load",
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def start(self, order: Order, hearer: OrderHearer) -> CancelOrder:
        """Send `order` at once, call `hearer` with its events, and return a function that cancels it.

        Without a connection, or when it breaks, the order ends with `HostDied`; with `Draining` if the host ended of
        its own accord before.
        """
        link = self._link
        if link is None or not link.open:
            hearer.lose(host_away(self._path))
            return never_began
        return link.start(order, hearer)

    def generate(self, order: GenerateOrder) -> OrderStream:
        """Send `order` at once and return its events as an iterator; see `start`."""
        return OrderStream(order, self.start)

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        """Return one normalised vector for each sequence of token ids.

        Raises:
            UnsupportedByEngine: the engine makes no embeddings.
            ContextTooLong: a sequence is too long.
            HostDied: the connection was lost.
            Draining: the host drained before it answered.
        """
        return (await self._call(lambda call_id: Embed(call_id, batch, tenant), Vectors)).vectors

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0, tenant: str = "") -> list[ScoredText]:
        """Return, for each text, the log-probability of each token from its `start` on, with the top alternatives.

        The host computes a piece of it between two steps of running sequences.

        Raises:
            UnsupportedByEngine: the engine does not score.
            HostDied: the connection was lost.
            Draining: the host drained before it answered.
        """
        found: list[ScoredText] = [[] for _ in texts]
        made = await self._open_link().call_in_parts(lambda call_id: Score(call_id, texts, top_logprobs, tenant))
        for part in made:
            if isinstance(part, Scores):
                found[part.place] += part.rows
        return found

    async def distributions(self, text: ScoreText) -> NDArray[np.float32]:
        """Return the log-probabilities [N, V] of all tokens for each position of `text` from its `start` on.

        Raises:
            UnsupportedByEngine: the engine reports the top ones only.
            HostDied: the connection was lost.
            Draining: the host drained before it answered.
        """
        parts = await self._open_link().call_in_parts(lambda call_id: Distribute(call_id, text))
        import numpy as np

        rows: NDArray[np.float32] = np.frombuffer(
            b"".join(part.data for part in parts if isinstance(part, Rows)), dtype="<f4"
        )
        return rows.reshape(-1, self.info.vocab_size)

    async def stats(self) -> EngineStats:
        """Return the engine's counters and gauges."""
        return (await self._call(GetStats, Stats)).stats

    async def rest(self, *, asleep: bool) -> None:
        """Put the engine to sleep, or wake it up; waits until that is done. May be called twice.

        Raises:
            UnsupportedByEngine: it cannot.
            Conflict: a request runs on it.
            EngineFailed: it could not; the host is unusable.
            HostDied: the connection was lost.
        """
        await self._call(lambda call_id: Rest(call_id, asleep), Stats)

    async def drain(self) -> None:
        """Ask the host to finish what runs and exit. Returns at once."""
        self._open_link().send(Drain())

    async def gone(self) -> None:
        """Wait until the connection is lost or closed; returns at once without one."""
        if self._link is not None:
            await self._link.gone()

    async def close(self) -> None:
        """Close the connection; the host cancels the orders that still run. May be called twice."""
        if self._link is not None:
            await self._link.close()

    def _open_link(self) -> HostLink:
        if self._link is None or not self._link.open:
            raise host_away(self._path)
        return self._link

    async def _call(self, make: Callable[[int], ToHost], answer: type[_Answer]) -> _Answer:
        reply = await self._open_link().call(make)
        if not isinstance(reply, answer):
            raise EngineFailed(f"the host answered {type(reply).__name__} where {answer.__name__} was due")
        return reply

    async def _try_connect(self, deadline_s: float) -> HostLink | None:
        """Return a link whose host has greeted, or None if another try may succeed."""
        loop = asyncio.get_running_loop()
        try:
            with unix_address(self._path) as address:
                _, link = await loop.create_unix_connection(lambda: HostLink(self._path), address)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return None
        try:
            async with asyncio.timeout_at(deadline_s):
                await link.greeting
        except (TimeoutError, HostDied):
            await link.close()
            return None
        except BaseException:
            await link.close()
            raise
        return link


async def backends_of(socket: Path | str, patience_s: float) -> tuple[BackendStatus, ...]:
    """Return the servers on other machines behind a host; empty if it does not report them in time."""
    client = HostClient(socket)
    try:
        async with asyncio.timeout(2 * patience_s):
            await client.connect(patience_s)
            return (await client.stats()).backends
    except (AshoreError, TimeoutError, OSError):
        return ()  # it has not loaded yet
    finally:
        await client.close()
