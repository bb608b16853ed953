"""The request path: a straight list of stages over one request, the same for every protocol.

authorise -> find the model -> tools -> check engine features -> refuse what cannot fit -> mask -> look up the cache ->
tokenise and fit the context -> reserve -> admit -> pick a replica -> generate -> assemble -> cache, settle, audit
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, AuditUnavailable
from ashore.data.authority import Authority, PolicyAuthority, Principal
from ashore.data.authority.budgets import Standing
from ashore.data.cache import AnswerCache
from ashore.data.engines import EngineStats, Grammar, card_of
from ashore.data.path.board import Board
from ashore.data.path.cached_answers import find_question, no_cache
from ashore.data.path.canary import Trials
from ashore.data.path.centre import CENTRE_CONTEXTS, Centre, EscalatedAnswers
from ashore.data.path.concurrency import ConcurrencyLimit
from ashore.data.path.deadlines import ASIDE_S, deadline_of
from ashore.data.path.embedding import Embeddings, not_a_head
from ashore.data.path.fairthreads import FairThreads
from ashore.data.path.fallback import answer_or_fall_back
from ashore.data.path.generation import FreshAnswers
from ashore.data.path.guards import Guards, Unlimited
from ashore.data.path.held_pieces import Dam, pulled
from ashore.data.path.hostmetrics import set_hosts
from ashore.data.path.model import GenerationRequest, Hear, ServingEvent, Started, Usage
from ashore.data.path.model_registry import Roster, TextLoader
from ashore.data.path.models import NO_SERVER, LoadedModel, ModelCard, ServingState
from ashore.data.path.orders import check_writes
from ashore.data.path.prompt import PromptReader, check_length, num_chars
from ashore.data.path.reception import MOST_RELEASES, Reception
from ashore.data.path.recommended import with_recommended
from ashore.data.path.recording import Watch, prompt_bytes
from ashore.data.path.relevance import Relevance
from ashore.data.path.repeats import Repeats
from ashore.data.path.replicas import ReplicaFactory, deaths_of, died
from ashore.data.path.section import Trigger
from ashore.data.path.shared_answers import SharedAnswers
from ashore.data.path.summons import CallsModels, Summons
from ashore.data.path.tokens import Tokens
from ashore.data.path.topology import Topology
from ashore.data.releases import AliasRoute
from ashore.kit.metrics import Metrics

_T = TypeVar("_T")


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
        centre: Centre | None = None,
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
        self.cache: Final[AnswerCache] = cache or no_cache(clock)
        """The answer cache of this process; read only."""
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
        self.lists: Final = self._guards.lists
        """The guard lists."""
        self._summons = Summons(tell_supervisor, clock, metrics)
        self._texts, self._grammars = FairThreads("texts", clock), FairThreads("grammars", clock)
        self._reader = PromptReader(self._texts, self._guards.masker)
        self._centre = centre
        self._contexts = 1 if centre is None else CENTRE_CONTEXTS
        """How many contexts of its model a prompt may fill: the centre's model may have a longer one."""
        self.reception.overflows = centre is not None
        kind = FreshAnswers if centre is None else partial(EscalatedAnswers, centre=centre)
        self._fresh = kind(
            self._roster,
            reader=self._reader,
            grammars=self._grammars,
            check_grammar=check_grammar,
            budgets=self._guards.budgets,
            clock=clock,
            metrics=metrics,
            summons=self._summons,
            purges_of=self.cache.purges_of,
        )
        self._answers = SharedAnswers(
            self.cache,
            self._fresh,
            self._roster,
            reader=self._reader,
            budgets=self._guards.budgets,
            clock=clock,
            metrics=metrics,
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
            purges_of=self.cache.purges_of,
        )
        self.trials = Trials(
            aside,
            self._roster.release,
            clock,
            masker=self._guards.masker,
            reader=self._reader,
            policy=topology.release,
        )
        self.embeddings = Embeddings(
            self.reception,
            self._roster,
            self._fresh,
            reader=self._reader,
            guards=self._guards,
            clock=clock,
            metrics=metrics,
        )
        self.tokens: Final = Tokens(
            self.reception, self._roster, self._fresh, reader=self._reader, guards=self._guards, clock=clock
        )
        self.repeats: Final = Repeats(self.cache, self._roster, self.reception, self._guards, clock, metrics)
        self.relevance = Relevance(self.embeddings, self.at_length, self.answer, self._features_of)

    def _features_of(self, model: str) -> Sequence[str]:
        return next((card.features for card in self.models() if card.alias == model), ())

    def check_head(self, alias: str, principal: Principal) -> None:
        """Check that an alias that the principal may use is not a model of another kind than a head.

        Raises:
            UnsupportedByEngine: it is.
        """
        lead = self._roster.known(alias)
        if lead is None or "head" in card_of(lead.first.served.kind).features:
            return
        if self.reception.may_ask(principal, alias):
            raise not_a_head(alias)

    @property
    def now_s(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock.now_s())

    @property
    def draining(self) -> bool:
        return self._fresh.draining

    @property
    def state(self) -> ServingState:
        """Whether requests should be sent here now. If requests cannot be audited, none is answered, so they should
        go elsewhere. Servers behind a model are as far away from any other worker, which would say no more."""
        if self.draining:
            return "draining"
        try:
            self._guards.auditor.check()
        except AuditUnavailable:
            return "not-recording"
        cards = self.models()
        return "ready" if all(one.ready or one.on_demand or one.state == NO_SERVER for one in cards) else "loading"

    @property
    def in_flight(self) -> int:
        """Requests that run or wait to be admitted."""
        return self.reception.in_flight

    async def start(self) -> None:
        """Load the text side of every model and begin to connect. Returns before the replicas are ready."""
        await self.apply(self._roster.topology)

    async def connected(self, within_s: float) -> bool:
        """Wait until every model has a host that is ready, or until the time-out; return whether they have."""
        return await self._roster.connected(within_s)

    async def apply(self, topology: Topology) -> None:
        """Serve `topology` from now on.

        A replacement is connected before it gets requests; requests that run on the old model end there.
        """
        self.cache.apply(topology.cache)
        self.trials.take_policy(topology.release)
        await self._roster.apply(topology)

    @property
    def unreadable(self) -> Mapping[tuple[str, str], Exception]:
        """Models of the topology that are left out, by alias and release, with the reason."""
        return self._roster.unreadable

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Apply the routes of the state from the next request on. Running requests end where they are."""
        self._roster.take_routes(routes)
        self.trials.take_routes(routes)

    def unknown_formers(self) -> tuple[str, ...]:
        """Return the previous releases that live ones are to be compared with and that this worker has no baseline
        of."""
        return self.trials.unknown_formers(self._roster.routes.values())

    def models(self, principal: Principal | None = None) -> list[ModelCard]:
        """Return the cards of `Roster.cards`; for a principal, those that it may use. Internal callers see all of
        them."""
        cards = self._roster.cards()
        if principal is None or principal.kind == "internal":
            return cards
        return [card for card in cards if self.reception.may_ask(principal, card.alias)]

    def generate(self, request: GenerationRequest, principal: Principal) -> AsyncGenerator[ServingEvent, None]:
        """Yield the events of `answer` for a consumer that pulls. Close it when the client goes away.

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
        """Answer one request: emit `Started`, then `Delta` and `ChoiceEnded` for each choice, then `Usage`.

        Cancel the calling task when the client goes away; its sequences end within a step.

        Args:
            request: The request.
            principal: The calling principal.
            hear: Called with every event in the same turn of the loop.
            before_end: Awaited before the answer counts as whole; an exception from it is audited as the request's
                failure.

        Raises:
            AshoreError: before `Started` when the request cannot be served; later when the answer broke off.
        """
        arrived_at = self._clock.monotonic_s()
        auditor = self._guards.auditor
        auditor.check()
        steps = self._roster.topology.dispatch.steps_of(request.model) if request.fallback else ()
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
            deaths = request.deaths

            async def attempt(alias: str, on: Trigger | None, may_fall_back: bool) -> Usage:
                nonlocal deaths
                asked = replace(request, model=alias, fallback=may_fall_back)
                watch.answering = None if on is None else (alias, on)
                model, tried = self._roster.lead(alias).pick(principal, asked), 1
                while True:
                    watch.release = model.served.release
                    try:
                        return await self._answer(
                            model, replace(asked, deaths=deaths), principal, watch, arrived_at, hear
                        )
                    except AshoreError as fault:
                        if not died(fault):
                            raise
                        deaths = max(deaths, deaths_of(fault))
                        if tried >= MOST_RELEASES or watch.told:
                            raise
                        other = self.reception.elsewhere(model, fault, alias, principal, asked)
                        if other is None:
                            raise
                        model, tried = other, tried + 1

            usage = await answer_or_fall_back(
                request.model,
                steps,
                attempt,
                refusal=partial(self.reception.refuses_step, watch),
                told=lambda: watch.told or self.draining,
                note=watch.fallback.append,
            )
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
        """Emit one release's answer, unmasked for the client."""
        auditor = self._guards.auditor
        check_writes(request.model, embedder=model.served.embedder)
        self.reception.turn_away(model, principal)
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        await self._fresh.known(model, deadline.begin_by, principal, request.model, request.request_id)
        request = await self._reader.with_tools(request, model.text, principal, deadline.begin_by)
        request = with_recommended(request, model.recommended, model.info)
        masked = await self._reader.masked(
            request, model.text, model.info, principal, deadline.begin_by, contexts=self._contexts
        )
        request, watch.masked, outward, span = masked.request, masked.counts, masked.outward, watch.span
        watch.guarded = masked.guarded
        question = find_question(self.cache, request, model.as_kept, principal, masked)
        if span is not None:
            entry_id = "" if question is None else question.entry_id
            span.asked(request, content=masked.traces_content, entry_id=entry_id)
            request = replace(request, arrival=watch.arrival)
        route = self._roster.routes.get(request.model)
        trial = None if route is None or watch.answering else self.trials.begin(request, principal, model, route)
        if trial is not None and trial.copied and "logprobs" in model.info.features:
            request = replace(request, scored=True)

        dam = Dam(hear) if auditor.strict else None
        out = hear if dam is None else dam.hear

        def tell(event: ServingEvent) -> None:
            nonlocal trial
            if span is not None:
                span.hear(event)
            if trial is not None:
                if isinstance(event, Started) and (event.cache != "miss" or event.answered_by):
                    trial = None  # this release generated nothing for it
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
                if watch.answering is not None:  # cached under the alias that answers, never under the asked one
                    to, on = watch.answering
                    self._metrics.add("ashore_fallbacks", 1, watch.alias, to, on)
                    event = replace(event, model=watch.alias, fallback=f"{to}; on={on}", good_until_s=0.0)
                if event.good_until_s:
                    event = replace(event, receipt=watch.receipt)
            out(event)

        fault: AshoreError | None = None
        first = told if trial is None and outward is None and span is None else tell
        answer = self._answers.answer(model, masked, request, question, principal, arrived_at, first)
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

    def _with_standing(self, started: Started, principal: Principal) -> Started:
        standing = self._guards.budgets.standing(principal, started.model, hit=started.cache != "miss")
        return started if standing is None else replace(started, standing=standing)

    async def at_length(self, num_chars: int, work: Callable[[], _T], principal: Principal) -> _T:
        """Run `work`, which handles so many characters for a principal, and return its result. Long work runs on a
        thread, in the same queue as the principal's prompts, so that no other request waits for it.

        Raises:
            DeadlineExceeded: its turn did not come, or it did not end, within `ASIDE_S`.
        """
        deadline_at = self._clock.monotonic_s() + ASIDE_S
        return await self._reader.read(num_chars, work, principal, deadline_at)

    async def check_fits(self, request: GenerationRequest, principal: Principal) -> None:
        """Check by its length that a request for later may fit the context of its model. A model on demand that was
        never loaded is skipped.

        Raises:
            ContextTooLong: it cannot. InvalidRequest: the template refuses the messages.
            DeadlineExceeded: as for `at_length`.
        """
        model = self._roster.lead(request.model).pick(principal, request)
        if (info := model.replicas.info) is not None:
            work = partial(check_length, request, model.text, info)
            await self.at_length(num_chars(request), work, principal)

    def loads(self, name: str) -> bool:
        """Return whether requests for a name wait for its model to load."""
        lead = self._roster.known(name)
        return lead is not None and not lead.first.replicas.ready and lead.first.may_load

    def standing(self, principal: Principal, alias: str) -> Standing | None:
        """Return what the budgets leave to a principal, None without budgets."""
        return self._guards.budgets.standing(principal, alias)

    async def recorded(self) -> None:
        """Wait until a noted answer may be sent: at once, or in strict mode when it is on disk.

        Raises:
            AuditUnavailable: it could not be written.
        """
        if self.records_first:
            await self._guards.auditor.durable()

    async def host_stats(self) -> dict[tuple[str, str], EngineStats]:
        """Return the counters of every live host, by (alias, replica). Slow hosts are left out."""
        return await self._roster.host_stats()

    async def measure(self) -> None:
        """Update the gauges; called before they are read."""
        kept = self.cache.stats()
        self._metrics.set("ashore_cache_bytes", kept.num_bytes)
        self._metrics.set("ashore_cache_entries", kept.entries)
        self._metrics.set("ashore_cache_evictions", kept.evictions)
        set_hosts(self._metrics, await self._roster.host_stats())
        self._roster.measure(self._metrics)

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait until running ones have ended; return whether all did in time."""
        self._fresh.draining = True
        self._roster.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self.reception.idle()
        except TimeoutError:
            return False
        return True

    async def read_aside(self, principal: Principal, work: Callable[[], _T], /) -> _T:
        """Run `work`, which reads a long text that is not a prompt, in the same queue as prompts, and return its
        result.

        Raises:
            DeadlineExceeded: its turn did not come, or it did not end, within `ASIDE_S`.
        """
        return await self._texts.run(principal, work, deadline_at=self._clock.monotonic_s() + ASIDE_S)

    async def close(self) -> None:
        """Disconnect from every host. May be called twice."""
        await self._summons.close()
        if self._centre is not None:
            await self._centre.close()
        await self.trials.close()
        await self._roster.close()
        self._texts.close()
        self._grammars.close()
