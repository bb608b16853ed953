"""Answers from the cache, from another request's running generation, or from a fresh one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import DeadlineExceeded
from ashore.data.authority import Principal
from ashore.data.cache import AnswerCache, Question
from ashore.data.path.cached_answers import replay, worth_keeping
from ashore.data.path.deadlines import Deadline, Heard, deadline_of
from ashore.data.path.feed import too_late
from ashore.data.path.generation import FreshAnswers, Place, Shortened
from ashore.data.path.guards import Budgets, Masked, Reservation
from ashore.data.path.model import GenerationRequest, Hear, ServingEvent, Usage
from ashore.data.path.model_registry import Roster
from ashore.data.path.models import LoadedModel
from ashore.data.path.prompt import PromptReader
from ashore.data.path.single_flight import Answering, Flights, Terms
from ashore.kit.metrics import Metrics

DEADLINE_GRACE_S: Final = 0.05
"""A generation reports its own deadline, in better words, before a joined request's wait ends."""
KEEP_LOOK_S: Final = 10.0
"""A long answer that was not searched for personal data within so long is not kept."""


class SharedAnswers:
    """Deduplicates requests: answers equal ones from the cache, and concurrent ones from one generation."""

    def __init__(
        self,
        cache: AnswerCache,
        fresh: FreshAnswers,
        roster: Roster,
        *,
        reader: PromptReader,
        budgets: Budgets,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._cache = cache
        self._fresh = fresh
        self._roster = roster
        self._reader = reader
        self._budgets = budgets
        self._clock = clock
        self._metrics = metrics
        self._flights = Flights()

    async def answer(
        self,
        model: LoadedModel,
        masked: Masked,
        request: GenerationRequest,
        question: Question | None,
        principal: Principal,
        arrived_at: float,
        hear: Hear,
    ) -> Usage:
        """Emit a cached answer or a fresh one, which concurrent equal requests share."""
        found = None if question is None else await self._cache.find(question)
        if found is not None:
            tokens = found.answer.prompt_tokens + found.answer.completion_tokens
            await self._budgets.charge_hit(principal, request.model, tokens, request_id=request.request_id)
            self._metrics.add("ashore_cache_lookups", 1, request.model, found.label)
            return replay(found, request, hear)
        if question is None or request.urgency == "batch":  # a batch may be preempted, so its generation is not shared
            return await self._fresh.answer(model, request, principal, arrived_at, Place(), hear)
        return await self._shared(model, masked, request, question, principal, arrived_at, hear)

    async def _shared(
        self,
        model: LoadedModel,
        masked: Masked,
        request: GenerationRequest,
        question: Question,
        principal: Principal,
        arrived_at: float,
        hear: Hear,
    ) -> Usage:
        """Emit the answer of a running generation, or start one that later requests can join."""
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        allowed_s = math.inf if deadline.end_by is None else deadline.end_by - arrived_at
        terms = Terms(
            deadline_s=allowed_s,
            priority=request.priority,
            waits_behind=request.urgency != "interactive",
            min_precision=request.min_precision,
        )
        joins = self._flights.flying(question.wording, terms)
        self._metrics.add("ashore_cache_lookups", 1, request.model, "hit-exact" if joins else "miss")
        budgets = self._budgets
        joined: Reservation | None = None
        if joins:
            tokens = 0
            if budgets.hits_cost_tokens:
                tokens = await self._fresh.most_tokens(model, request, principal, arrived_at)
            joined = await budgets.reserve(
                principal, request.model, tokens, fewest=0, request_id=request.request_id, joins=True
            )
            if joined.tokens < tokens:  # the whole answer exceeds the budget, but a shorter one of its own may fit
                joined.release()
                return await self._fresh.answer(model, request, principal, arrived_at, Place(), hear)
        place = Place()

        def fresh(hear: Hear) -> Awaitable[Usage]:
            if joined is not None:  # no shared generation after all
                joined.release()
            return self._fresh.answer(model, request, principal, arrived_at, place, hear, shared=True)

        async def landed(events: Sequence[ServingEvent], usage: Usage) -> None:
            answer = worth_keeping(events, usage, request.num_choices)
            if answer is None:
                return
            chars = sum(len(choice.text) + len(choice.reasoning) for choice in answer.choices)
            look_by = self._clock.monotonic_s() + KEEP_LOOK_S
            with suppress(DeadlineExceeded):  # whole, but not cached
                if await self._reader.read(chars, lambda: masked.may_keep(answer), principal, look_by):
                    await self._cache.keep(question, answer)

        ride = partial(self._flights.ride, question.wording, fresh, terms=terms, landed=landed)
        try:
            usage = await (self._until(ride, deadline, request, hear) if joins else ride(hear))
            if joined is not None:
                charged = (usage.prompt_tokens, usage.completion_tokens) if budgets.hits_cost_tokens else (0, 0)
                joined.settle(*charged, joined=True)
            return usage
        except Shortened:  # no event was sent yet
            return await self._fresh.answer(model, request, principal, arrived_at, place, hear)
        finally:
            place.leave()  # others may still read the generation that this one began
            if joined is not None:
                joined.release()

    async def _until(self, answering: Answering, deadline: Deadline, request: GenerationRequest, hear: Hear) -> Usage:
        """Emit an answer until a deadline; a request that joins may have an earlier one than the generation.

        Raises:
            DeadlineExceeded: it passed before the first piece.
        """
        ahead_s = asyncio.get_running_loop().time() - self._clock.monotonic_s() + DEADLINE_GRACE_S
        heard = Heard(request.num_choices)

        def both(event: ServingEvent) -> None:
            first = not heard.pieces
            heard.hear(event)
            if first and heard.pieces and not alarm.expired():
                alarm.reschedule(None if deadline.end_by is None else deadline.end_by + ahead_s)
            hear(event)

        try:
            async with asyncio.timeout_at(deadline.begin_by + ahead_s) as alarm:
                return await answering(both)
        except TimeoutError as fault:
            if not alarm.expired():
                raise
            if not heard.pieces:
                raise too_late("the deadline passed before the answer was whole") from fault
            for end in heard.cut("deadline"):
                hear(end)
            return heard.usage
