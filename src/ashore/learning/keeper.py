"""Scheduled runs. One step starts the longest overdue run and waits for it.

The caller provides `StartRun`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ashore.core import Clock
from ashore.learning.leases import begin, end, holder_of, models_with_votes, num_fresh, see
from ashore.learning.runs import pauses
from ashore.learning.turns import Next, Turn, When, next_turn
from ashore.state import Database

log = logging.getLogger("ashore.learning")

LOOK_S: Final = 30.0
"""Between two looks: votes come, and what is paused goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The outcome of a run."""

    failed: bool
    says: str
    """What came of it, for an operator."""


StartRun = Callable[[str], Ended]
"""Runs `ashore learn run` of a model, or what does the same, and returns when it has ended."""


def step(database: Database, when: When, clock: Clock, start: StartRun) -> float:
    """Start the run that is due and wait for its end; return the seconds until the next step.

    Several nodes may do so at once on one state: one of them starts the turn, and only one run is active at a time.

    Raises:
        AshoreError: the state cannot be read or written.
    """
    now_ms = _now_ms(clock)
    with database.read() as connection:
        paused, models = pauses(connection), models_with_votes(connection)
        if holder_of(connection, now_ms=now_ms):
            return LOOK_S
    due: list[tuple[int, Turn, int, Next]] = []
    left_s = LOOK_S
    for model in models:
        turn = see(database, model, now_ms=now_ms)
        with database.read() as connection:
            fresh = num_fresh(connection, model, since_ms=turn.began_ms)
        found = next_turn(turn, when, fresh=fresh, now_ms=now_ms)
        if model in paused or found.due_ms is None:
            continue
        if found.due_ms <= now_ms:
            due.append((found.due_ms, turn, fresh, found))
        else:
            left_s = min(left_s, (found.due_ms - now_ms) / 1000)
    if not due:
        return left_s
    _, seen, fresh, found = min(due, key=lambda one: (one[0], one[1].model))
    begun = begin(database, seen, now_ms=now_ms)
    if begun is None:
        return 0.0
    if not fresh and seen.state in ("never", "done"):
        end(database, begun, failed=False, says="no new votes", now_ms=now_ms)
        return 0.0
    log.info("%s learns: %s", begun.model, found.why)
    ended = start(begun.model)
    log.log(logging.WARNING if ended.failed else logging.INFO, "%s: %s", begun.model, ended.says)
    end(database, begun, failed=ended.failed, says=ended.says, now_ms=_now_ms(clock))
    return 0.0


def _now_ms(clock: Clock) -> int:
    return int(clock.now_s() * 1000)
