"""The sequences of one request on one replica: each frame is parsed and forwarded in the same turn of the event loop,
until all have ended. The caller is woken only at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ashore.core.errors import DeadlineExceeded
from ashore.data.engines import CancelOrder, EngineEvent, EngineInfo, Failed, Finished, GenerateOrder, Order, error_of
from ashore.data.path.answer import Answer
from ashore.data.path.model import ChoiceEnded, CutBy, Delta, GenerationRequest, Hear, ServingEvent, Usage
from ashore.data.path.orders import Prompt
from ashore.data.path.ports import ServedText, StartsOrders
from ashore.data.path.scoring import Scores, prompt_tokens_told


def cut_short(answers: Sequence[Answer], cut_by: CutBy) -> list[ServingEvent]:
    """Return an end, with the text held back, for every choice that has none yet."""
    out: list[ServingEvent] = []
    for answer in answers:
        if answer.ended is None:
            rest = answer.cut(cut_by)
            if rest is not None:
                out.append(rest)
            assert answer.ended is not None
            out.append(answer.ended)
    return out


def usage_of(prompt: Prompt, answers: Sequence[Answer], info: EngineInfo) -> Usage:
    """Return the usage of the whole request: the prompt once, all answers together."""
    used = sorted({one for answer in answers for one in answer.precisions}, key=info.rungs.index) if info.rungs else []
    counted = answers[0].prompt_tokens
    prompt_tokens = prompt.num_tokens if counted is None else counted
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(prompt_tokens, max(answer.cached_tokens for answer in answers)),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
        accepted_tokens=sum(answer.accepted_tokens for answer in answers),
        rejected_tokens=sum(answer.rejected_tokens for answer in answers),
        precision=">".join(dict.fromkeys((*used[:1], *used[-1:]))),
        lowered=bool(used) and used[-1] != info.precision,
        moved=moved_of(answers),
        scored=answers[0].scored,
    )


def moved_of(answers: Sequence[Answer]) -> str:
    """Return where answers went on after a replica was lost, as `Usage.moved` says it."""
    return ", ".join(dict.fromkeys(f"{lost}>{to}" for answer in answers for lost, to in answer.moves))


def echoed(request: GenerationRequest, prompt: Prompt, text: ServedText, scores: Scores | None) -> list[Delta]:
    """Return the prompt as the first piece of every choice (`echo` of the completions route), with scores if
    requested."""
    words = request.prompt if isinstance(request.prompt, str) else text.decode(prompt.ids)
    logprobs = prompt_tokens_told(prompt.ids, scores, text) if scores is not None else ()
    return [Delta(choice=choice, text=words, logprobs=logprobs) for choice in range(request.num_choices)]


def nothing_more(request: GenerationRequest) -> list[ServingEvent]:
    """Return the ends of an answer without tokens (`max_tokens` of 0 with `echo`)."""
    return [ChoiceEnded(choice=choice, reason="length") for choice in range(request.num_choices)]


class Feed:
    """Runs the orders of one request. Await `over`, and always close it."""

    def __init__(
        self,
        replica: StartsOrders,
        orders: Sequence[Order],
        answers: Sequence[Answer],
        hear: Hear,
        *,
        made: Callable[[int], None],
        begin: Callable[[], None],
        within_s: float,
        silence_s: float,
        goes_on: bool,
        told: bool = False,
    ) -> None:
        """Start the orders.

        Args:
            replica: Replica to run on.
            orders: Orders of one request. One with no tokens to make has lost its end alone.
            answers: Answer of each order. What has ended is not started.
            hear: Called with pieces and ends. An exception from it ends this feed alone.
            made: Called with the number of tokens after each frame.
            begin: Called once, before the first event.
            within_s: Seconds from now after which it is over.
            silence_s: With `goes_on`, the answer continues past `within_s` while tokens arrive at least this often.
            goes_on: False: end at `within_s`.
            told: Whether events were sent already, by the feed that this one goes on for.
        """
        loop = asyncio.get_running_loop()
        self.over: Final[asyncio.Future[None]] = loop.create_future()
        """Raises HostDied: the replica is gone; DeadlineExceeded: too late; another AshoreError: a sequence failed."""
        self.told = told
        """Whether any event was sent."""
        self.made: Final = made
        self.is_single: Final = len(answers) == 1
        self.tell: Hear = hear if told else self._tell_first
        self._answers, self._hear, self._begin = answers, hear, begin
        self._growing = sum([answer.ended is None for answer in answers])
        self._seen, self._silence_s, self._goes_on = self.num_tokens, silence_s, goes_on
        self._alarm = loop.call_later(within_s, self._expire)
        self._cancels: list[CancelOrder] = []
        for order, answer in zip(orders, answers, strict=True):
            if answer.ended is not None:
                self._cancels.append(_nothing)
            elif isinstance(order, GenerateOrder) and not order.max_new_tokens:  # of an answer that moves
                self._cancels.append(_nothing)
                end: list[EngineEvent] = [Finished(order.order_id, "length", 0, 0, 0)]
                loop.call_soon(_Line(self, answer).hear, end)
            elif not self.over.done():
                self._cancels.append(replica.start(order, _Line(self, answer)))

    @property
    def num_tokens(self) -> int:
        """Tokens generated so far."""
        return sum([answer.completion_tokens for answer in self._answers])

    def end(self, answer: Answer, ended: ChoiceEnded) -> None:
        """Emit the end of one choice. Covers stop strings, which the engine does not know."""
        self.tell(ended)
        self._cancels[self._answers.index(answer)]()
        self._growing -= 1
        if not self._growing:
            self.over.set_result(None)

    def cut(self, cut_by: CutBy) -> None:
        """Emit the end of every open choice, with the text held back."""
        for event in cut_short(self._answers, cut_by):
            self.tell(event)

    def stop(self, error: Exception) -> None:
        """End the feed with `error`, unless it is over."""
        if not self.over.done():
            self.over.set_exception(error)
            self._cancel()

    def close(self) -> None:
        """Cancel what still runs. May be called twice."""
        self._alarm.cancel()
        if not self.over.cancel() and not self.over.cancelled():
            self.over.exception()  # even if the waiter is gone
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
        """Forward events as one `Delta` for all tokens that came together. Tokens that come with a failure are
        dropped."""
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


def _nothing() -> None:
    """Cancel an order that was not started."""


def too_late(message: str) -> DeadlineExceeded:
    """Return the error of an answer that missed its deadline."""
    return DeadlineExceeded(
        message,
        hint="ask for fewer tokens, or give it a later deadline: `x-ashore-deadline-ms` of the request, or "
        "`default_deadline_s` of [admission] in ashore.toml where the request has none",
    )
