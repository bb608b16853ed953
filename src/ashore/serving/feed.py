"""The sequences of one request on one replica: what each frame brings is parsed and told on, in the turn in which it
came, until all have ended. Nobody is woken in between: who waits, waits for the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ashore.engines import CancelOrder, EngineEvent, Failed, Finished, GenerateOrder, error_of
from ashore.errors import DeadlineExceeded
from ashore.serving.answer import Answer
from ashore.serving.assembly import cut_short
from ashore.serving.model import ChoiceEnded, CutBy, Hear, ServingEvent
from ashore.serving.ports import StartsOrders


class Feed:
    """Runs the orders of one request. Await `over`, and close it in any case."""

    def __init__(
        self,
        replica: StartsOrders,
        orders: Sequence[GenerateOrder],
        answers: Sequence[Answer],
        hear: Hear,
        *,
        made: Callable[[int], None],
        begin: Callable[[], None],
        within_s: float,
        silence_s: float,
        goes_on: bool,
    ) -> None:
        """Start the orders.

        Args:
            replica: Where.
            orders: Of one request.
            answers: What becomes of each.
            hear: Told pieces and ends. What it raises ends this feed alone.
            made: Told how many tokens there are, after each frame.
            begin: Called once, before anything is told.
            within_s: Seconds from now after which it is over.
            silence_s: The answer goes on past that while more is made within so long, where it `goes_on`.
            goes_on: False: what is over is over.
        """
        loop = asyncio.get_running_loop()
        self.over: Final[asyncio.Future[None]] = loop.create_future()
        """Raises HostDied: the replica is gone; DeadlineExceeded: too late; another AshoreError: a sequence failed."""
        self.told = False
        """Whether anything was."""
        self.made: Final = made
        self.is_single: Final = len(answers) == 1
        self.tell: Hear = self._tell_first
        self._answers, self._hear, self._begin = answers, hear, begin
        self._growing = len(answers)
        self._seen, self._silence_s, self._goes_on = 0, silence_s, goes_on
        self._alarm = loop.call_later(within_s, self._expire)
        self._cancels: list[CancelOrder] = []
        for order, answer in zip(orders, answers, strict=True):
            if not self.over.done():
                self._cancels.append(replica.start(order, _Line(self, answer)))

    @property
    def num_tokens(self) -> int:
        """Tokens that were made so far."""
        return sum([answer.completion_tokens for answer in self._answers])

    def end(self, answer: Answer, ended: ChoiceEnded) -> None:
        """Tell the end of one choice. Of a stop string the engine does not know."""
        self.tell(ended)
        self._cancels[self._answers.index(answer)]()
        self._growing -= 1
        if not self._growing:
            self.over.set_result(None)

    def cut(self, cut_by: CutBy) -> None:
        """Tell the end of every choice that has none yet, with what was held back of it."""
        for event in cut_short(self._answers, cut_by):
            self.tell(event)

    def stop(self, error: Exception) -> None:
        """End it by `error`, unless it is over."""
        if not self.over.done():
            self.over.set_exception(error)
            self._cancel()

    def close(self) -> None:
        """Cancel what still runs. May be called twice."""
        self._alarm.cancel()
        if not self.over.cancel() and not self.over.cancelled():
            self.over.exception()  # whether or not anybody still waits for it
        self._cancel()

    def _tell_first(self, event: ServingEvent) -> None:
        self.told, self.tell = True, self._hear
        self._begin()
        self._hear(event)

    def _cancel(self) -> None:
        for cancel in self._cancels:
            cancel()

    def _expire(self) -> None:
        if self._goes_on and (made := self.num_tokens) > self._seen:
            self._seen = made
            self._alarm = asyncio.get_running_loop().call_later(self._silence_s, self._expire)
            return
        self.stop(too_late("the deadline passed before the answer was whole"))


class _Line:
    """One of its sequences."""

    __slots__ = ("_answer", "_feed")

    def __init__(self, feed: Feed, answer: Answer) -> None:
        self._feed, self._answer = feed, answer

    def hear(self, events: list[EngineEvent]) -> None:
        """Tell what events mean for the client, in one `Delta` for all tokens that came together. Tokens that come with
        a failure are lost with it."""
        feed, answer, last = self._feed, self._answer, events[-1]
        if feed.over.done() or answer.ended is not None:
            return
        try:
            if type(last) is Failed:
                raise error_of(last)
            delta = answer.take(events)
            rest = answer.finish(last) if type(last) is Finished and answer.ended is None else None
            feed.made(answer.completion_tokens if feed.is_single else feed.num_tokens)
            if delta is not None:
                feed.tell(delta)
            if rest is not None:
                feed.tell(rest)
            if answer.ended is not None:
                feed.end(answer, answer.ended)
        except Exception as fault:  # noqa: BLE001 - raised to who waits, and not for other orders of the frame
            feed.stop(fault)

    def lose(self, error: Exception) -> None:
        self._feed.stop(error)


def too_late(message: str) -> DeadlineExceeded:
    """Return the error of an answer whose deadline passed."""
    return DeadlineExceeded(
        message,
        hint="ask for fewer tokens, or give it a later deadline: `x-ashore-deadline-ms` of the request, or "
        "`default_deadline_s` of [admission] in ashore.toml where the request has none",
    )
