"""Moves an answer that has begun from a lost replica to another one of the same release.

The worker has the tokens that were made, so the rest is an order of its own: `rest_of` says how it goes on. What stands
above the tokens (stop strings, tool calls, unmasking, guard lists, the budget) does not notice. Each order has an id of
its own, and only those of the last replica are heard, so two hosts never write one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from msgspec.structs import replace

from ashore.core.errors import AshoreError, NotReady
from ashore.data.engines import GenerateOrder, Turn, rest_of
from ashore.data.path.answer import Answer
from ashore.data.path.ports import Replica
from ashore.data.path.replicas import ReplicaSet, Seat

MOST_WAIT_S: Final = 2.0
"""Longest wait for another replica, where the release has several. A lone one starts again for longer than that."""


@dataclass(slots=True)
class Lost:
    """An answer whose replica is gone, until it goes on."""

    fault: AshoreError
    """The error of an answer that cannot go on."""
    replicas: ReplicaSet
    """Those of the release that it began with."""
    seat: Seat
    at_s: float
    """When it was lost; 0 once it went on."""

    async def other(self, turn: Turn, left_s: float) -> tuple[Seat, Replica] | None:
        """Return the replica where it goes on, None if there is none within `MOST_WAIT_S`, or the time that is left to
        the answer."""
        patience_s = min(MOST_WAIT_S, max(0.0, left_s)) if len(self.replicas.seats) > 1 else 0.0
        try:
            return await self.replicas.pick(lambda: patience_s, turn=turn)
        except NotReady:
            return None

    def rest(self, orders: Sequence[GenerateOrder], answers: Sequence[Answer], seat: Seat) -> list[GenerateOrder]:
        """Return the orders for what is left of `answers`, and note in them where they go on. They go before orders
        that nobody reads yet."""
        lost, to = PurePath(self.seat.name).stem, PurePath(seat.name).stem
        for answer in answers:
            if answer.ended is None:
                answer.moves.append((lost, to))
        return [
            rest_of(replace(order, priority=1), answer.ids, order.order_id)
            for order, answer in zip(orders, answers, strict=True)
        ]

    def pause_s(self, now_s: float) -> float | None:
        """Return how long the answer stood still, once; None afterwards."""
        at_s, self.at_s = self.at_s, 0.0
        return now_s - at_s if at_s else None
