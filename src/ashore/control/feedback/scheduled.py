"""The runs that begin by themselves, as the schedule queues them: one model at a time, over all homes of a state."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.control.jobs.schedule import Entry
from ashore.core.errors import InvalidSpec
from ashore.data.feedback.leases import holder_of, models_with_votes, num_fresh
from ashore.data.feedback.runs import pauses
from ashore.data.feedback.turns import LIBRARIES, When, moments, written
from ashore.data.jobs.operations.asks import LearnIn
from ashore.data.jobs.schedule import AGAIN_S, MOST_TRIES, Next, Turn
from ashore.kit.call import Actor

if TYPE_CHECKING:
    from ashore.data.authority import Authenticator
    from ashore.data.feedback import LearningSection
    from ashore.kit.state import Database

RUN: Final = "learn run"

log = logging.getLogger("ashore.learning")


class LearningSchedule:
    """Implements `jobs.schedule.Source` for the models that users vote on."""

    operations = (RUN,)

    def __init__(self, database: Database, authenticator: Authenticator, section: LearningSection) -> None:
        """Create it. `section` may be replaced later."""
        self.section = section
        self._database = database
        self._authenticator = authenticator
        self._is_told = False

    def entries(self, now_ms: int) -> Iterable[Entry] | None:
        """See `Source`."""
        when = self.section.when
        lacking = [name for name in LIBRARIES if importlib.util.find_spec(name) is None] if when else []
        if lacking:  # another home of this state may have them: do not take its turn
            if not self._is_told:
                log.error("no run begins here: %s is not installed (the extra `train`)", ", ".join(lacking))
            self._is_told = True
            return None
        if not when:
            return ()
        with self._database.read() as connection:
            models = models_with_votes(connection)
        return [
            Entry(
                name=turn_named(model), operation=RUN, asked=LearnIn(model=model), subject=f"model/{model}",
                plan=when.words, due=partial(self._due, model), actor=self._owner, shared=True,
            )
            for model in models
        ]  # fmt: skip

    def _due(self, model: str, turn: Turn, now_ms: int) -> Next:
        with self._database.read() as connection:
            if holder := holder_of(connection, now_ms=now_ms):
                return Next(due_ms=None, why=f"waits for the run on {holder}")
            if why := pauses(connection).get(model):
                return Next(due_ms=None, why=f"paused: {why}")
            fresh = num_fresh(connection, model, since_ms=turn.began_ms)
        return next_turn(turn, self.section.when, fresh=fresh, now_ms=now_ms)

    def _owner(self) -> Actor:
        """Return the account whose key the operator named: a run does what that account may, and no more.

        Raises:
            AshoreError: the key cannot be read, or is not valid any more.
        """
        path = self.section.key_file
        try:
            key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as fault:
            raise InvalidSpec(f"[learning] key_file {path} cannot be read: {fault}", hint="correct the path") from fault
        return Actor(principal=self._authenticator.authenticate(key))


def turn_named(model: str) -> str:
    """Return the name of the row of a model."""
    return f"{RUN} {model}"


def next_turn(turn: Turn, when: When, *, fresh: int, now_ms: int) -> Next:
    """Return when the next turn of a model starts; a moment in the past means that it is due.

    Args:
        turn: The last turn, not under way. One in the future means that the clock was set back, and is ignored.
        when: The schedule.
        fresh: Votes with texts since that turn began.
        now_ms: Now.
    """
    if not when:
        return Next(due_ms=None, why="by hand: [learning] has neither at nor at_examples")
    began_ms = turn.began_ms if turn.began_ms <= now_ms + AGAIN_S * 1000 else 0
    if turn.state == "interrupted" and began_ms and turn.tries < MOST_TRIES:
        return Next(due_ms=began_ms + int(AGAIN_S * 1000), why="the run was cut off, and goes on")
    if when.at_examples and fresh >= when.at_examples:
        return Next(due_ms=now_ms, why=f"{fresh} new votes with texts; at_examples is {when.at_examples}")
    lacking = f"{fresh} of {when.at_examples} new votes with texts" if when.at_examples else ""
    if not when.at:
        return Next(due_ms=None, why=lacking)
    last_ms, next_ms = moments(when, now_ms)
    if last_ms > max(began_ms, turn.seen_ms):
        skip = "" if fresh or turn.state not in ("never", "done") else "no new votes"
        return Next(due_ms=last_ms, why=f"the night of {written(last_ms, when.zone)}", skip=skip)
    return Next(
        due_ms=next_ms, why=f"at {written(next_ms, when.zone)}" + (f", or earlier: {lacking}" if lacking else "")
    )
