"""The ring of figures in the state: written by every worker, read by authorised users."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.server.series import KEPT_S, LONG_S, TICK_S, Sampler, Tick, merged
from ashore.kit.state import execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database

log = logging.getLogger("ashore.worker")

_decoder: Final = msgspec.json.Decoder(dict[str, float | tuple[float, ...]])


class Ring:
    """Writes the ticks of one worker, and deletes old ones."""

    def __init__(self, database: Database, sampler: Sampler, clock: Clock, *, source: str) -> None:
        """Create it. `source`: worker and machine, so that no two write the same row."""
        self._database = database
        self._sampler = sampler
        self._clock = clock
        self._source = source

    async def keep_writing(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Write a tick at the end of each interval, until cancelled."""
        while True:
            left_s = TICK_S - self._clock.now_s() % TICK_S
            await sleep(left_s if left_s > TICK_S / 2 else left_s + TICK_S)  # a sleep may end a moment early
            try:
                await asyncio.to_thread(self.write)
            except AshoreError as fault:
                log.warning("cannot keep the figures of the last ten seconds: %s", fault.message)

    def write(self) -> None:
        """Write the tick that ends now, and the long one if it ends too."""
        now_s = round(self._clock.now_s() / TICK_S) * TICK_S
        at_s = now_s - TICK_S
        tick = self._sampler.tick()
        with self._database.write() as connection:
            _save(connection, TICK_S, at_s, self._source, tick)
            if (at_s + TICK_S) % LONG_S == 0:
                start_s = at_s + TICK_S - LONG_S
                ticks = [one for _, one in rows_of(connection, TICK_S, start_s, at_s, source=self._source)]
                _save(connection, LONG_S, start_s, self._source, merged(ticks, over_time=True))
                for step_s, kept_s in KEPT_S.items():
                    execute(
                        connection,
                        "DELETE FROM server_history WHERE step_s = :step_s AND at_s < :before_s",
                        step_s=step_s,
                        before_s=now_s - kept_s,
                    )


def rows_of(
    connection: Connection, step_s: int, first_s: int, last_s: int, *, source: str = ""
) -> list[tuple[int, Tick]]:
    """Return the ticks of a length in a time range (inclusive), of one worker or of all."""
    rows = execute(
        connection,
        "SELECT at_s, figures FROM server_history WHERE step_s = :step_s AND at_s >= :first_s AND at_s <= :last_s "
        "AND (:source = '' OR source = :source) ORDER BY at_s",
        step_s=step_s,
        first_s=first_s,
        last_s=last_s,
        source=source,
    )
    return [(int(row.at_s), _decoder.decode(row.figures)) for row in rows]


def _save(connection: Connection, step_s: int, at_s: int, source: str, tick: Tick) -> None:
    row = {"step_s": step_s, "at_s": at_s, "source": source, "figures": msgspec.json.encode(tick).decode()}
    upsert(connection, "server_history", row, key="step_s, at_s, source")
