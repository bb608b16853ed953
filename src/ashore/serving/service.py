"""The request path: a straight list of stages over one request, the same for every protocol.

authorise -> find the model -> tools -> check what the engine can do -> refuse what cannot fit -> mask
-> look for a kept answer -> tokenise and fit the context -> reserve -> admit -> pick a replica -> generate -> assemble
-> keep, settle, note
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from ashore.access import Authority, PolicyAuthority, Principal
from ashore.access.budgets import Standing
from ashore.cache import AnswerCache, Question
from ashore.core import Clock
from ashore.engines import EngineStats, Grammar
from ashore.errors import AshoreError, AuditUnavailable, DeadlineExceeded
from ashore.metrics import Metrics
from ashore.releases import AliasRoute
from ashore.serving.board import Board
from ashore.serving.cached_answers import find_question, no_cache, replay, worth_keeping
from ashore.serving.canary import Trials
from ashore.serving.concurrency import ConcurrencyLimit
from ashore.serving.deadlines import Deadline, Heard, deadline_of
from ashore.serving.embedding import Embeddings
from ashore.serving.fairthreads import FairThreads
from ashore.serving.feed import too_late
from ashore.serving.generation import FreshAnswers, Place, Shortened
from ashore.serving.guards import Guards, Masked, Reservation, Unlimited
from ashore.serving.held_pieces import Dam, pulled
from ashore.serving.model import GenerationRequest, Hear, ServingEvent, Started, Usage
from ashore.serving.model_registry import Roster, TextLoader
from ashore.serving.models import LoadedModel, ModelCard, ServingState
from ashore.serving.orders import check_prompt_ids, check_writes
from ashore.serving.ports import ServedText
from ashore.serving.prompt import (
    COUNTED_CONTEXTS,
    ID_CHARS,
    INLINE_CHARS,
    MOST_COUNTED,
    PromptReader,
    check_length,
    num_chars,
)
from ashore.serving.reception import MOST_RELEASES, Reception
from ashore.serving.recommended import with_recommended
from ashore.serving.recording import Watch, prompt_bytes
from ashore.serving.relevance import Relevance
from ashore.serving.repeats import Repeats
from ashore.serving.replicas import ReplicaFactory, deaths_of, died
from ashore.serving.single_flight import Answering, Flights, Terms
from ashore.serving.summons import CallsModels, Summons
from ashore.serving.tools import prepare_tools
from ashore.serving.topology import Topology

_T = TypeVar("_T")

ASIDE_S: Final = 60.0
"""How long a text that is no prompt may wait for its turn and be read."""
DEADLINE_GRACE_S = 0.05
"""A generation notices its own deadline, and says so in better words, before whoever shares it does."""


KEEP_LOOK_S = 10.0
"""A long answer that was not searched for personal data within so long is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """A prompt as its model reads it."""

    ids: list[int]
    text: ServedText
    context_tokens: int
    """Of the model."""


class ServingService:
    """Serves the models of one topology. Every call is made on one event loop."""

    def __init__(
        self,
        topology: Topology,
        *,
        make_replica: ReplicaFactory,
        load_text: TextLoader,
        check_grammar: Callable[[Grammar], None],
        clock: Clock,
        metrics: Metrics,
        cache: AnswerCache | None = None,
        guards: Guards | None = None,
        authority: Authority | None = None,
        board: Board | None = None,
        limit: ConcurrencyLimit | None = None,
        tell_supervisor: CallsModels | None = None,
    ) -> None:
        limit = limit or ConcurrencyLimit()
        self._roster = Roster(
            topology,
            make_replica=make_replica,
            load_text=load_text,
            board=board,
            limit=limit,
            refused=lambda alias, reason: metrics.add("ashore_refused", 1, alias, reason),
            clock=clock,
            metrics=metrics,
        )
        self.behind: Final = self._roster.behind
        """Gives the models behind a name, where it is an alias of others. Callable from any thread."""
        self._clock = clock
        self._metrics = metrics
        self._cache = cache or no_cache(clock)
        self._guards = guards or Guards()
        self.records_first: Final = self._guards.auditor.strict
        """Whether no answer goes out before its record is on disk."""
        self.reception = Reception(
            self._roster,
            authority=authority or PolicyAuthority(),
            guards=self._guards,
            clock=clock,
            metrics=metrics,
            limit=limit,
        )
        self._summons = Summons(tell_supervisor, clock, metrics)
        self._flights = Flights()
        self._texts, self._grammars = FairThreads("texts", clock), FairThreads("grammars", clock)
        self._reader = PromptReader(self._texts)
        self._fresh = FreshAnswers(
            self._roster,
            reader=self._reader,
            grammars=self._grammars,
            check_grammar=check_grammar,
            budgets=self._guards.budgets,
            clock=clock,
            metrics=metrics,
            summons=self._summons,
        )
        aside = FreshAnswers(
            self._roster,
            reader=self._reader,
            grammars=self._grammars,
            check_grammar=check_grammar,
            budgets=Unlimited(),
            clock=clock,
            metrics=Metrics(),
            summons=self._summons,
            aside=True,
        )
        self.trials = Trials(aside, self._roster.release, clock, masker=self._guards.masker, policy=topology.release)
        self.embeddings = Embeddings(
            self.reception,
            self._roster,
            self._fresh,
            reader=self._reader,
            guards=self._guards,
            clock=clock,
            metrics=metrics,
        )
        self.repeats: Final = Repeats(self._cache, self._roster, self.reception, self._guards, clock, metrics)
        self.relevance = Relevance(self.embeddings, self.at_length, self.answer, self._features_of)

    def _features_of(self, model: str) -> Sequence[str]:
        return next((card.features for card in self.models() if card.alias == model), ())

    @property
    def now_s(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock.now_s())

    @property
    def draining(self) -> bool:
        return self._fresh.draining

    @property
    def state(self) -> ServingState:
        """Whether requests are to be sent here now. What cannot be recorded is not answered, so it waits elsewhere."""
        if self.draining:
            return "draining"
        try:
            self._guards.auditor.check()
        except AuditUnavailable:
            return "not-recording"
        return "ready" if all(card.ready or card.on_demand for card in self.models()) else "loading"

    @property
    def in_flight(self) -> int:
        """Requests that were admitted or wait to be, and have not ended."""
        return self.reception.in_flight

    async def start(self) -> None:
        """Load the text side of every model and begin to connect. Returns before the replicas are ready."""
        await self.apply(self._roster.topology)

    async def connected(self, within_s: float) -> bool:
        """Return when every model has a host that is ready, or after so long; return whether they have."""
        return await self._roster.connected(within_s)

    async def apply(self, topology: Topology) -> None:
        """Serve what `topology` says from now on.

        A model that takes the place of another is connected before it gets requests; what the other one has begun ends
        there.
        """
        self._cache.apply(topology.cache)
        self.trials.take_policy(topology.release)
        await self._roster.apply(topology)

    @property
    def unreadable(self) -> Mapping[tuple[str, str], Exception]:
        """Models of the topology that are left out, by alias and release, with why."""
        return self._roster.unreadable

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Lead every alias where the state says, from the next request on. What has begun ends where it is."""
        self._roster.take_routes(routes)
        self.trials.take_routes(routes)

    def unknown_formers(self) -> tuple[str, ...]:
        """Return the releases that what is live is to be laid beside, and of which this worker knows nothing."""
        return self.trials.unknown_formers(self._roster.routes.values())

    def models(self, principal: Principal | None = None) -> list[ModelCard]:
        """Return a card for every alias, sorted; for a principal, those that it may ask. Ours see all of them."""
        cards = self._roster.cards()
        if principal is None or principal.kind == "internal":
            return cards
        return [card for card in cards if self.reception.may_ask(principal, card.alias)]

    def generate(self, request: GenerationRequest, principal: Principal) -> AsyncGenerator[ServingEvent, None]:
        """Yield what `answer` tells, for whoever waits between the pieces. Close it when the client goes away.

        Raises:
            AshoreError: as `answer`.
        """
        return pulled(partial(self.answer, request, principal))

    async def answer(
        self,
        request: GenerationRequest,
        principal: Principal,
        hear: Hear,
        *,
        before_end: Callable[[Usage], Awaitable[None]] | None = None,
    ) -> None:
        """Answer one request: tell `Started`, then `Delta` and `ChoiceEnded` for each choice, then `Usage`.

        Cancel the task in it when the client goes away; its sequences end within a step.

        Args:
            request: What is asked.
            principal: Who asks.
            hear: Told every event in the turn of the loop in which it came.
            before_end: Awaited before the answer counts as whole; what it raises, the record has as its failure.

        Raises:
            AshoreError: before `Started` when the request cannot be served; later when the answer broke off.
        """
        arrived_at = self._clock.monotonic_s()
        auditor = self._guards.auditor
        auditor.check()
        operation = "chat" if request.prompt is None else "text_completion"
        watch = self.reception.watch(
            request.request_id,
            request.model,
            principal,
            prompt_bytes(request),
            arrival=request.arrival,
            operation=operation,
        )
        with self.reception.noted(watch):
            self.reception.authorise(principal, request.model)
            model, tried = self._roster.lead(request.model).pick(principal, request), 1
            while True:
                watch.release = model.served.release
                try:
                    usage = await self._answer(model, request, principal, watch, arrived_at, hear)
                    break
                except AshoreError as fault:
                    if not died(fault) or tried >= MOST_RELEASES or watch.told:
                        raise
                    other = self.reception.elsewhere(model, fault, request.model, principal, request)
                    if other is None:
                        raise
                    model, tried = other, tried + 1
                    request = replace(request, deaths=max(request.deaths, deaths_of(fault)))
            if before_end is not None:
                await before_end(usage)
            if auditor.strict:
                await watch.ended()
            hear(usage)

    async def _answer(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        principal: Principal,
        watch: Watch,
        arrived_at: float,
        hear: Hear,
    ) -> Usage:
        """Tell what one release answers, in the words in which the client gets it."""
        auditor = self._guards.auditor
        check_writes(request.model, embedder=model.served.embedder)
        self.reception.turn_away(model)
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        await self._fresh.known(model, deadline.begin_by, principal, request.model, request.request_id)
        request = await self._with_tools(request, model, principal, deadline.begin_by)
        request = with_recommended(request, model.recommended, model.info)
        masked = await self._mask(model, request, principal, deadline.begin_by)
        request, watch.masked, outward, span = masked.request, masked.counts, masked.outward, watch.span
        question = find_question(self._cache, request, model.as_kept, principal, masked)
        if span is not None:
            entry_id = "" if question is None else question.entry_id
            span.asked(request, content=masked.traces_content, entry_id=entry_id)
            request = replace(request, arrival=watch.arrival)
        route = self._roster.routes.get(request.model)
        trial = None if route is None else self.trials.begin(request, principal, model, route)
        if trial is not None and trial.copied and "logprobs" in model.info.features:
            request = replace(request, scored=True)

        dam = Dam(hear) if auditor.strict else None
        out = hear if dam is None else dam.hear

        def tell(event: ServingEvent) -> None:
            nonlocal trial
            if span is not None:
                span.hear(event)
            if trial is not None:
                if isinstance(event, Started) and event.cache != "miss":
                    trial = None  # nothing was made for it
                else:
                    trial.hear(event, self._clock.monotonic_s())
            for one in (event,) if outward is None else outward.take(event):
                told(one)

        def told(event: ServingEvent) -> None:
            watch.hear(event)
            if type(event) is Started:
                if dam is not None:
                    watch.begin()
                event = self._with_standing(event, principal)
                if event.good_until_s:
                    event = replace(event, receipt=watch.receipt)
            out(event)

        fault: AshoreError | None = None
        first = told if trial is None and outward is None and span is None else tell
        answer = self._kept_or_fresh(model, masked, request, question, principal, arrived_at, first)
        try:
            usage = await (answer if dam is None else dam.hold(answer, auditor.durable))
            if trial is not None:
                trial.hear(usage, self._clock.monotonic_s())
            if span is not None:
                span.hear(usage)
            watch.hear(usage)
            return usage
        except AshoreError as caught:
            fault = caught
            raise
        finally:
            if trial is not None and route is not None:
                self.trials.end(trial, route, fault)

    async def _with_tools(
        self, request: GenerationRequest, model: LoadedModel, principal: Principal, deadline_at: float
    ) -> GenerationRequest:
        """Return the request with its tools as the model knows them: their schemas are read."""
        work = partial(prepare_tools, request, model.text)
        if not request.tools:
            return work()
        return await self._reader.read(num_chars(request), work, principal, deadline_at)

    async def _mask(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        principal: Principal,
        deadline_at: float,
        *,
        contexts: int = 1,
    ) -> Masked:
        """Take personal data out of what may fit so many contexts."""
        text, info = model.text, model.info

        def work() -> Masked:
            if chars > INLINE_CHARS:
                check_length(request, text, info, contexts=contexts)
            return self._guards.masker.mask(request, principal, text.decode)

        chars = num_chars(request)
        return await self._reader.read(chars, work, principal, deadline_at)

    async def _kept_or_fresh(
        self,
        model: LoadedModel,
        masked: Masked,
        request: GenerationRequest,
        question: Question | None,
        principal: Principal,
        arrived_at: float,
        hear: Hear,
    ) -> Usage:
        """Tell a kept answer, or a fresh one: shared with whoever asks the same at this moment."""
        found = None if question is None else await self._cache.find(question)
        if found is not None:
            tokens = found.answer.prompt_tokens + found.answer.completion_tokens
            await self._guards.budgets.charge_hit(principal, request.model, tokens, request_id=request.request_id)
            self._metrics.add("ashore_cache_lookups", 1, request.model, found.label)
            return replay(found, request, hear)
        if question is None or request.urgency == "batch":  # a batch may be preempted, so nobody shares its generation
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
        """Tell an answer that is being made for somebody already, or make it for whoever asks meanwhile."""
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
        budgets = self._guards.budgets
        joined: Reservation | None = None
        if joins:
            tokens = 0
            if budgets.hits_cost_tokens:
                tokens = await self._fresh.most_tokens(model, request, principal, arrived_at)
            joined = await budgets.reserve(
                principal, request.model, tokens, fewest=0, request_id=request.request_id, joins=True
            )
            if joined.tokens < tokens:  # the whole answer does not fit the budget, but a shorter one of its own may
                joined.release()
                return await self._fresh.answer(model, request, principal, arrived_at, Place(), hear)
        place = Place()

        def fresh(hear: Hear) -> Awaitable[Usage]:
            if joined is not None:  # there is nobody to share with after all
                joined.release()
            return self._fresh.answer(model, request, principal, arrived_at, place, hear, shared=True)

        async def landed(events: Sequence[ServingEvent], usage: Usage) -> None:
            answer = worth_keeping(events, usage, request.num_choices)
            if answer is None:
                return
            chars = sum(len(choice.text) + len(choice.reasoning) for choice in answer.choices)
            look_by = self._clock.monotonic_s() + KEEP_LOOK_S
            with suppress(DeadlineExceeded):  # it is whole, and kept by nobody
                if await self._reader.read(chars, lambda: masked.may_keep(answer), principal, look_by):
                    await self._cache.keep(question, answer)

        ride = partial(self._flights.ride, question.wording, fresh, terms=terms, landed=landed)
        try:
            usage = await (self._until(ride, deadline, request, hear) if joins else ride(hear))
            if joined is not None:
                charged = (usage.prompt_tokens, usage.completion_tokens) if budgets.hits_cost_tokens else (0, 0)
                joined.settle(*charged, joined=True)
            return usage
        except Shortened:  # nothing was told yet
            return await self._fresh.answer(model, request, principal, arrived_at, place, hear)
        finally:
            place.leave()  # others may still listen to what this one began
            if joined is not None:
                joined.release()

    async def _until(self, answering: Answering, deadline: Deadline, request: GenerationRequest, hear: Hear) -> Usage:
        """Tell an answer until a deadline; the one who shares a generation may have an earlier one than it has.

        Raises:
            DeadlineExceeded: it passed before a piece was told.
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

    def _with_standing(self, started: Started, principal: Principal) -> Started:
        standing = self._guards.budgets.standing(principal, started.model, hit=started.cache != "miss")
        return started if standing is None else replace(started, standing=standing)

    async def count_tokens(self, request: GenerationRequest, principal: Principal) -> int:
        """Return how many tokens the prompt of `request` has in its model's own template, tools included.

        Raises:
            As `tokenize` does.
        """
        return len((await self.tokenize(request, principal)).ids)

    async def at_length(self, num_chars: int, work: Callable[[], _T], principal: Principal) -> _T:
        """Return what `work` returns, which handles so many characters for a principal. What is long is done on a
        thread, in the line in which the prompts of its principal are read, so that nobody else waits for it.

        Raises:
            DeadlineExceeded: its turn did not come, or it did not end, within `ASIDE_S`.
        """
        deadline_at = self._clock.monotonic_s() + ASIDE_S
        return await self._reader.read(num_chars, work, principal, deadline_at)

    async def tokenize(
        self, request: GenerationRequest, principal: Principal, *, bare: bool = False, opens_answer: bool = True
    ) -> Tokenized:
        """Return the prompt of `request` as its model would read it, masked where it would be.

        Args:
            request: Has the prompt.
            principal: Who asks.
            bare: Leave out what belongs around a raw prompt.
            opens_answer: End a conversation with the beginning of the answer.

        Raises:
            ContextTooLong: it is many times as long as the context.
            AshoreError: the request could not be served.
        """
        limits = self._roster.topology.admission
        deadline_at = deadline_of(limits, request.deadline_s, self._clock.monotonic_s()).begin_by
        self.reception.authorise(principal, request.model)
        model = self._roster.lead(request.model).pick(principal, request)
        await self._fresh.known(model, deadline_at, principal, request.model, request.request_id)
        request = await self._with_tools(request, model, principal, deadline_at)
        contexts = max(1, min(COUNTED_CONTEXTS, MOST_COUNTED // max(1, model.info.context_tokens)))
        masked = await self._mask(model, request, principal, deadline_at, contexts=contexts)
        ids = await self._reader.ids(
            masked.request, model.text, model.info, principal, deadline_at, bare=bare, opens_answer=opens_answer
        )
        await self._guards.budgets.charge_hit(principal, request.model, 0, request_id=request.request_id)
        return Tokenized(ids=ids, text=model.text, context_tokens=model.info.context_tokens)

    def tokenizer(self, name: str, principal: Principal) -> tuple[ServedText, int]:
        """Return the text side of a model, and its context in tokens.

        Raises:
            AshoreError: the principal may not ask it, or there is no such model.
        """
        self.reception.authorise(principal, name)
        model = self._roster.lead(name).pick(principal)
        return model.text, model.info.context_tokens

    async def detokenize(self, name: str, ids: Sequence[int], principal: Principal) -> str:
        """Return the text of tokens of a model, without control tokens.

        Raises:
            InvalidRequest: one is none of the model's.
            AshoreError: the principal may not ask it, or there is no such model.
        """
        self.reception.authorise(principal, name)
        model = self._roster.lead(name).pick(principal)

        def work() -> str:
            check_prompt_ids(ids, model.info, param="tokens")
            return model.text.decode(ids)

        return await self.at_length(len(ids) * ID_CHARS, work, principal)

    def loads(self, name: str) -> bool:
        """Return whether requests for a name wait until its model is loaded."""
        lead = self._roster.known(name)
        return lead is not None and not lead.first.replicas.ready and lead.first.may_load

    def standing(self, principal: Principal, alias: str) -> Standing | None:
        """Return what the budgets leave to a principal, None where none counts."""
        return self._guards.budgets.standing(principal, alias)

    async def recorded(self) -> None:
        """Return when what was noted may go out: at once, or in strict mode when it is on disk.

        Raises:
            AuditUnavailable: it is not.
        """
        if self.records_first:
            await self._guards.auditor.durable()

    @property
    def cache(self) -> AnswerCache:
        """The answers that this process keeps; to be looked at, not to be filled."""
        return self._cache

    async def host_stats(self) -> dict[tuple[str, str], EngineStats]:
        """Ask every live host for its counters, by (alias, replica). One that is too slow is left out."""
        return await self._roster.host_stats()

    async def measure(self) -> None:
        """Bring the gauges up to date; called before they are read."""
        kept = self._cache.stats()
        self._metrics.set("ashore_cache_bytes", kept.num_bytes)
        self._metrics.set("ashore_cache_entries", kept.entries)
        self._metrics.set("ashore_cache_evictions", kept.evictions)
        self._metrics.set_hosts(await self._roster.host_stats())
        self._roster.measure(self._metrics)

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, and wait until what runs has ended; return whether all of it did in time."""
        self._fresh.draining = True
        self._roster.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self.reception.idle()
        except TimeoutError:
            return False
        return True

    async def read_aside(self, principal: Principal, work: Callable[[], _T], /) -> _T:
        """Return what `work` returns, which reads a long text that is no prompt. It waits in the same line as those.

        Raises:
            DeadlineExceeded: its turn did not come, or it did not end, within `ASIDE_S`.
        """
        return await self._texts.run(principal, work, deadline_at=self._clock.monotonic_s() + ASIDE_S)

    async def close(self) -> None:
        """Disconnect from every host. May be called twice."""
        await self._summons.close()
        await self.trials.close()
        await self._roster.close()
        self._texts.close()
        self._grammars.close()
