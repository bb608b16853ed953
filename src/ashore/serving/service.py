"""The request path: a straight list of stages over one request, the same for every protocol.

authorise -> find the model -> tools -> check what the engine can do -> mask -> look for a kept answer
-> tokenise and fit the context -> reserve -> admit -> pick a replica -> generate -> assemble -> keep, settle, note
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from ashore.access import INFER, Authority, PolicyAuthority, Principal
from ashore.access.budgets import Standing
from ashore.cache import AnswerCache, CacheStats, Question, Ready
from ashore.core import Clock, RequestId
from ashore.engines import EngineStats, Grammar
from ashore.errors import AshoreError, DeadlineExceeded, Overloaded
from ashore.metrics import Metrics
from ashore.releases import AliasRoute
from ashore.serving.admission import Cost, background_of
from ashore.serving.answers import AnswerRecorder, ask_of, no_cache, replay
from ashore.serving.board import Board
from ashore.serving.concurrency import ConcurrencyLimit
from ashore.serving.embedding import Embedding, check_embeds, encode_inputs, shorten
from ashore.serving.flights import Flights, Terms
from ashore.serving.fresh import FreshAnswers, Place, allowed_s
from ashore.serving.guards import Guards, Masked, Reservation, Unlimited
from ashore.serving.model import NOWHERE, Arrival, GenerationRequest, ServingEvent, Started, Urgency, Usage
from ashore.serving.models import LoadedModel, ModelCard
from ashore.serving.orders import check_features
from ashore.serving.prompt import INLINE_CHARS, num_chars, prompt_ids
from ashore.serving.recommended import with_recommended
from ashore.serving.recording import Told, Watch, prompt_bytes
from ashore.serving.replicas import ReplicaFactory, deaths_of, died
from ashore.serving.roster import Roster, TextLoader
from ashore.serving.scoring import check_scores
from ashore.serving.shadow import Apart, nothing_known
from ashore.serving.tools import prepare_tools
from ashore.serving.topology import Topology
from ashore.serving.trials import Trials

_T = TypeVar("_T")

MOST_RELEASES = 3
"""Releases that a request may be sent to in turn, while none has answered and each gives way to another."""
DEADLINE_GRACE_S = 0.05
"""A generation notices its own deadline, and says so in better words, before whoever shares it does."""


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
        apart: Apart = nothing_known,
    ) -> None:
        self._limit = limit or ConcurrencyLimit()
        self._roster = Roster(
            topology,
            make_replica=make_replica,
            load_text=load_text,
            board=board,
            limit=self._limit,
            refused=lambda alias, reason: metrics.add("ashore_refused", 1, alias, reason),
        )
        self._clock = clock
        self._metrics = metrics
        self._cache = cache or no_cache(clock)
        self._guards = guards or Guards()
        self._authority = authority or PolicyAuthority()
        self._flights = Flights()
        self._fresh = FreshAnswers(
            self._roster,
            check_grammar=check_grammar,
            budgets=self._guards.budgets,
            clock=clock,
            metrics=metrics,
        )
        aside = FreshAnswers(
            self._roster, check_grammar=check_grammar, budgets=Unlimited(), clock=clock, metrics=Metrics(), aside=True
        )
        self.trials = Trials(
            aside, self._roster.release, clock, masker=self._guards.masker, policy=topology.release, apart=apart
        )
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def draining(self) -> bool:
        return self._fresh.draining

    @property
    def in_flight(self) -> int:
        """Requests that were admitted or wait to be, and have not ended."""
        return self._in_flight

    @property
    def pressed(self) -> bool:
        """Whether this worker has been short of processor time for more than a moment."""
        return self._limit.pressed

    def check_pressure(self, *, may_be_kept: bool = False) -> None:
        """Refuse a request whose body was not even read, while its worker is short of time and could not take it.

        Args:
            may_be_kept: The answer may be there already, and then costs no more than a refusal does.

        Raises:
            Overloaded: the worker drowns, or is pressed and the queue of every model is full.
        """
        self._limit.look()
        if self._limit.drowning or (self._limit.pressed and not may_be_kept and self._roster.is_full):
            self._metrics.add("ashore_refused", 1, "-", "loop")
            raise Overloaded(
                f"no processor time: the worker has not rested, and comes round to a request every "
                f"{self._limit.pulse.lag_s * 1e3:.0f} ms",
                hint="send it again after the time in `retry-after`, or add a worker with --workers",
                retry_after_s=1,
            )

    def check_room(self) -> None:
        """Refuse a request that nobody has read and that no cache answers, where no model has room for it.

        Raises:
            Overloaded: the queues of all releases that may answer are full.
        """
        gates = self._roster.gates
        if len(gates) == 1:
            gates[0].check_queue()
        elif gates and all(gate.is_full for gate in gates):
            self._metrics.add("ashore_refused", 1, "-", "queue")
            raise Overloaded(
                "no room: the queue of every model is full",
                hint="send it again after the time in `retry-after`, or raise [admission]",
                retry_after_s=min(gate.retry_after_s for gate in gates),
            )

    def check_queue(self, alias: str) -> None:
        """Refuse a request of which only the model is known, where the queue of that model is full.

        Raises:
            Overloaded: it is.
        """
        lead = self._roster.known(alias)
        if lead is not None:
            lead.first.gate.check_queue()

    def _turn_away(self, model: LoadedModel) -> None:
        """Refuse early what would be refused anyway, while there is no processor time to spend on it."""
        self._limit.look()
        if self._limit.pressed:
            model.gate.check_queue()

    async def start(self) -> None:
        """Load the text side of every model and begin to connect. Returns before the replicas are ready."""
        await self.apply(self._roster.topology)

    async def apply(self, topology: Topology) -> None:
        """Serve what `topology` says from now on.

        A model that takes the place of another is connected before it gets requests; what the other one has begun ends
        there.
        """
        self._cache.apply(topology.cache)
        self.trials.take_policy(topology.release)
        await self._roster.apply(topology)

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Lead every alias where the state says, from the next request on. What has begun ends where it is."""
        self._roster.take_routes(routes)

    def unknown_formers(self) -> tuple[str, ...]:
        """Return the releases that what is live is to be laid beside, and of which this worker knows nothing."""
        return self.trials.unknown_formers(self._roster.routes.values())

    def models(self, principal: Principal | None = None) -> list[ModelCard]:
        """Return a card for every alias, sorted; for a principal, those that it may ask. Ours see all of them."""
        cards = self._roster.cards()
        if principal is None or principal.kind == "internal":
            return cards
        return [card for card in cards if self._authority.decide(principal, INFER, f"model/{card.alias}").allowed]

    def _authorise(self, principal: Principal, alias: str) -> None:
        """Return when the principal may ask the model. Comes before the look whether there is such a model.

        Raises:
            PermissionDenied: it may not.
        """
        self._authority.require(principal, INFER, f"model/{alias}")

    async def generate(self, request: GenerationRequest, principal: Principal) -> AsyncGenerator[ServingEvent, None]:
        """Answer one request: `Started`, then `Delta` and `ChoiceEnded` for each choice, then `Usage`.

        Close the generator (or cancel the task in it) when the client goes away; its sequences end within a step.

        Raises:
            AshoreError: before `Started` when the request cannot be served; later when the answer broke off.
        """
        arrived_at = self._clock.monotonic_s()
        self._guards.auditor.check()
        watch = self._watch(
            request.request_id, request.model, principal, prompt_bytes(request), arrival=request.arrival
        )
        self._enter()
        try:
            self._authorise(principal, request.model)
            model, tried = self._roster.lead(request.model).pick(principal, request), 1
            while True:
                watch.release = model.served.release
                events = self._answer(model, request, principal, watch, arrived_at)
                try:
                    async for event in events:
                        tried = MOST_RELEASES
                        yield event
                    break
                except AshoreError as fault:
                    if not died(fault) or tried >= MOST_RELEASES:
                        raise
                    other = self._elsewhere(model, fault, request.model, principal, request)
                    if other is None:
                        raise
                    model, tried = other, tried + 1
                    request = replace(request, deaths=max(request.deaths, deaths_of(fault)))
                finally:
                    await events.aclose()
            watch.outcome = "answered"
        except AshoreError as fault:
            watch.failed(fault)
            raise
        finally:
            self._exit()
            watch.note()

    def _elsewhere(
        self,
        model: LoadedModel,
        fault: AshoreError,
        name: str,
        principal: Principal,
        request: GenerationRequest | None = None,
    ) -> LoadedModel | None:
        """Return another release that answers under a name by now, or the same one where a host of it died and is back
        already; None where there is neither."""
        lead = self._roster.known(name)
        other = None if lead is None else lead.pick(principal, request)
        if other is None or other.served.release != model.served.release:
            return other
        return other if deaths_of(fault) and other.replicas.ready else None

    async def _answer(
        self, model: LoadedModel, request: GenerationRequest, principal: Principal, watch: Watch, arrived_at: float
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield what one release answers, as the client is told it."""
        auditor = self._guards.auditor
        self._turn_away(model)
        request = with_recommended(prepare_tools(request, model.text), model.recommended, model.info)
        check_features(request, model.info)
        check_scores(request, model.served)
        masked = await self._mask(model, request, principal)
        request, watch.masked, outward = masked.request, masked.counts, masked.outward
        question = self._cache.question(
            ask_of(request, model.served, principal, holds_personal_data=masked.found),
        )
        route = self._roster.routes.get(request.model)
        trial = None if route is None else self.trials.begin(request, principal, model, route)
        if trial is not None and trial.copied and "logprobs" in model.info.features:
            request = replace(request, scored=True)
        fault: AshoreError | None = None
        events = self._events(model, request, question, principal, arrived_at)
        try:
            async for event in events:
                if trial is not None:
                    if isinstance(event, Started) and event.cache != "miss":
                        trial = None  # nothing was made for it
                    else:
                        trial.hear(event, self._clock.monotonic_s())
                for told in (event,) if outward is None else outward.take(event):
                    watch.hear(told)
                    if isinstance(told, Started):
                        if auditor.strict:
                            await watch.began()
                        told = self._with_standing(told, principal)
                        if told.good_until_s:
                            told = replace(told, receipt=watch.receipt)
                    elif auditor.strict and isinstance(told, Usage):
                        await watch.ended()
                    yield told
        except AshoreError as caught:
            fault = caught
            raise
        finally:
            await events.aclose()
            if trial is not None and route is not None:
                self.trials.end(trial, route, fault)

    def _watch(
        self, request_id: RequestId, alias: str, principal: Principal, prompt: bytes, *, arrival: Arrival
    ) -> Watch:
        return Watch(
            self._guards.auditor,
            self._clock,
            request_id=request_id,
            alias=alias,
            principal=principal,
            prompt=prompt,
            arrival=arrival,
        )

    async def _mask(self, model: LoadedModel, request: GenerationRequest, principal: Principal) -> Masked:
        """Take personal data out."""
        mask, decode = self._guards.masker.mask, model.text.decode
        return await _read_aside(num_chars(request), lambda: mask(request, principal, decode))

    async def _events(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        question: Question | None,
        principal: Principal,
        arrived_at: float,
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield a kept answer, or a fresh one: shared with whoever asks the same at this moment."""
        found = None if question is None else await self._cache.find(question)
        if found is not None:
            tokens = found.answer.prompt_tokens + found.answer.completion_tokens
            await self._guards.budgets.charge_hit(principal, request.model, tokens, request_id=request.request_id)
            self._metrics.add("ashore_cache_lookups", 1, request.model, found.label)
            for event in replay(found, request):
                yield event
            return
        if question is None or request.urgency == "batch":  # a batch may be preempted, so nobody shares its generation
            events = self._fresh.answer(model, request, principal, arrived_at, Place())
        else:
            events = self._shared(model, request, question, principal, arrived_at)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def _shared(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        question: Question,
        principal: Principal,
        arrived_at: float,
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield an answer that is being made for somebody already, or make it for whoever asks meanwhile."""
        allowed = allowed_s(self._roster.topology, request.deadline_s)
        terms = Terms(deadline_s=allowed, priority=request.priority, waits_behind=request.urgency != "interactive")
        joins = self._flights.flying(question.key, terms)
        self._metrics.add("ashore_cache_lookups", 1, request.model, "hit-exact" if joins else "miss")
        budgets = self._guards.budgets
        joined: Reservation | None = None
        if joins:
            tokens = await self._fresh.most_tokens(model, request) if budgets.hits_cost_tokens else 0
            joined = await budgets.reserve(principal, request.model, tokens, request_id=request.request_id, joins=True)
        place = Place()

        def begin() -> AsyncGenerator[ServingEvent, None]:
            if joined is not None:  # there is nobody to share with after all
                joined.release()
            return self._fresh.answer(model, request, principal, arrived_at, place)

        async def landed(recorder: AnswerRecorder) -> None:
            answer = recorder.answer()
            if answer is not None and self._guards.masker.may_keep(answer):
                await self._cache.keep(question, answer)

        events = self._flights.ride(
            question.key,
            begin,
            terms=terms,
            num_choices=request.num_choices,
            landed=landed,
        )
        try:
            async for event in self._until(events, arrived_at + allowed) if joins else events:
                if joined is not None and isinstance(event, Usage):
                    charged = (event.prompt_tokens, event.completion_tokens) if budgets.hits_cost_tokens else (0, 0)
                    joined.settle(*charged, joined=True)
                yield event
        finally:
            place.leave()  # others may still read what this one began
            if joined is not None:
                joined.release()
            await events.aclose()

    def _with_standing(self, started: Started, principal: Principal) -> Started:
        standing = self._guards.budgets.standing(principal, started.model, hit=started.cache != "miss")
        return started if standing is None else replace(started, standing=standing)

    async def _until(
        self, events: AsyncGenerator[ServingEvent, None], deadline_at: float
    ) -> AsyncGenerator[ServingEvent, None]:
        """Pass events on until a deadline; the one who shares a generation may have an earlier one than it has."""
        end_at = asyncio.get_running_loop().time() + max(0.0, deadline_at - self._clock.monotonic_s())
        while True:
            try:
                async with asyncio.timeout_at(end_at + DEADLINE_GRACE_S):
                    event = await anext(events, None)
            except TimeoutError as fault:
                raise DeadlineExceeded("the deadline passed before the answer was whole") from fault
            if event is None:
                return
            yield event

    async def embed(
        self,
        model: str,
        inputs: Sequence[str | Sequence[int]],
        principal: Principal,
        *,
        request_id: RequestId,
        dimensions: int | None = None,
        priority: int = 0,
        urgency: Urgency = "interactive",
        deadline_s: float | None = None,
        arrival: Arrival = NOWHERE,
    ) -> Embedding:
        """Return one vector per input. The deadline covers the wait for a slot and the run together.

        Raises:
            AshoreError: the model does not embed, an input does not fit, there is no room, or the deadline passed.
        """
        deadline_at = self._clock.monotonic_s() + allowed_s(self._roster.topology, deadline_s)
        self._guards.auditor.check()
        watch = self._watch(request_id, model, principal, msgspec.json.encode(inputs), arrival=arrival)
        self._enter()
        try:
            self._authorise(principal, model)
            found, tried, deaths = self._roster.lead(model).pick(principal), 1, 0
            while True:
                self._turn_away(found)
                watch.release = found.served.release
                check_embeds(model, found.info, dimensions)
                mask, decode = self._guards.masker.mask_inputs, found.text.decode
                length = sum(len(one) for one in inputs)
                masked, watch.masked = await _read_aside(
                    length,
                    lambda: mask(model, inputs, principal, decode),  # noqa: B023 - waited for in this turn
                )
                batch = await encode_inputs(masked, found.text, found.info)
                try:
                    vectors = await self._embed_on(
                        found, model, batch, principal, request_id, priority, urgency, deadline_at, deaths
                    )
                    break
                except AshoreError as fault:
                    other = self._elsewhere(found, fault, model, principal) if died(fault) else None
                    if other is None or tried >= MOST_RELEASES:
                        raise
                    found, tried = other, tried + 1
                    deaths = max(deaths, deaths_of(fault))
            prompt_tokens = sum(len(ids) for ids in batch)
            watch.hear(Usage(prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=0))
            watch.outcome = "answered"
            if self._guards.auditor.strict:
                await watch.ended()
        except AshoreError as fault:
            watch.failed(fault)
            raise
        finally:
            self._exit()
            watch.note()
        self._metrics.add("ashore_prompt_tokens", prompt_tokens, model)
        return Embedding(
            model=model,
            release=found.served.release,
            precision=found.info.precision,
            vectors=[shorten(vector, dimensions) for vector in vectors],
            prompt_tokens=prompt_tokens,
        )

    async def _embed_on(
        self,
        found: LoadedModel,
        model: str,
        batch: list[list[int]],
        principal: Principal,
        request_id: RequestId,
        priority: int,
        urgency: Urgency,
        deadline_at: float,
        deaths: int,
    ) -> list[list[float]]:
        """Reserve, admit, and embed on one release."""
        prompt_tokens = sum(len(ids) for ids in batch)
        reservation = await self._guards.budgets.reserve(principal, model, prompt_tokens, request_id=request_id)
        cost = Cost(1, prompt_tokens)
        # one that runs is over before it could be preempted: it only waits behind others
        background = background_of("interactive" if urgency == "interactive" else "background")
        try:
            wait_s = max(0.0, deadline_at - self._clock.monotonic_s())
            await found.gate.enter(cost, priority=priority, wait_s=wait_s, background=background)
            entered_at = self._clock.monotonic_s()
            try:
                vectors = await self._fresh.embed(found, model, batch, deadline_at, deaths=deaths)
            finally:
                service_s = self._clock.monotonic_s() - entered_at
                found.gate.leave(cost, service_s=service_s, background=background)
            reservation.settle(prompt_tokens, 0)
            return vectors
        finally:
            reservation.release()

    async def count_tokens(self, request: GenerationRequest, principal: Principal) -> int:
        """Return how many tokens the prompt of `request` has in its model's own template, tools included.

        Raises:
            AshoreError: the request could not be served.
        """
        self._authorise(principal, request.model)
        model = self._roster.lead(request.model).pick(principal, request)
        request = prepare_tools(request, model.text)
        masked = await self._mask(model, request, principal)
        num_tokens = len(await prompt_ids(masked.request, model.text, model.info))
        await self._guards.budgets.charge_hit(principal, request.model, 0, request_id=request.request_id)
        return num_tokens

    def standing(self, principal: Principal, alias: str, *, hit: bool = False) -> Standing | None:
        """Return what the budgets leave to a principal, None where none counts; after a `hit`, those that it cost."""
        return self._guards.budgets.standing(principal, alias, hit=hit)

    # --- a repeated request, by its bytes

    def ready_key(self, principal: Principal, path: str, body: bytes) -> bytes:
        """Return the address under which the response to these bytes may be kept. Another policy leads elsewhere."""
        stamp = b"%d %s" % (self._roster.generation, self._guards.masker.rules_stamp(principal, path))
        return self._cache.ready_key(principal.tenant, principal.id, path, body, stamp)

    def ready(
        self, key: bytes, request_id: RequestId, principal: Principal, *, arrival: Arrival = NOWHERE
    ) -> Ready | None:
        """Return a finished response, charged and noted; None where there is none, or its budget must be looked into.

        Await `recorded` before it goes out. Where content is kept, every request is taken apart, so there is none.

        Raises:
            PermissionDenied: the principal may no longer ask.
            AshoreError: the record cannot be written.
        """
        auditor = self._guards.auditor
        ready = None if auditor.keeps_content else self._cache.ready(key)
        if ready is None:
            return None
        auditor.check()
        self._authorise(principal, ready.alias)
        if not self._guards.budgets.charge_hit_now(principal, ready.alias, ready.tokens):
            return None
        told = ready.told
        assert isinstance(told, Told)
        auditor.repeat(told.form(ready, principal, arrival), request_id)
        self._metrics.add("ashore_cache_lookups", 1, ready.alias, ready.label)
        return ready

    async def recorded(self) -> None:
        """Return when what was noted may go out: at once, or in strict mode when it is on disk.

        Raises:
            AuditUnavailable: it is not.
        """
        if self._guards.auditor.strict:
            await self._guards.auditor.durable()

    def age_s(self, ready: Ready) -> int:
        """Return how old the answer in a finished response is."""
        return max(0, int(self._clock.now_s() - ready.stored_at_s))

    def keep_ready(
        self,
        key: bytes,
        started: Started,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        completion_tokens: int = 0,
    ) -> None:
        """Remember a response that was made from the kept answer `started` speaks of."""
        self._cache.keep_ready(
            key,
            Ready(
                headers=headers,
                body=body,
                alias=started.model,
                release=started.release,
                label=started.cache,
                stored_at_s=self._clock.now_s() - started.age_s,
                expires_at_s=started.good_until_s,
                told=Told(None if started.receipt is None else started.receipt.note),
                tokens=started.prompt_tokens + completion_tokens,
            ),
        )

    def cache_stats(self) -> CacheStats:
        """Return what the cache holds and did."""
        return self._cache.stats()

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
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Disconnect from every host. May be called twice."""
        await self.trials.close()
        await self._roster.close()

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _exit(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()


async def _read_aside(num_chars: int, work: Callable[[], _T]) -> _T:
    """Do what reads so many characters: at once, or on a thread where that would hold up every stream."""
    return await asyncio.to_thread(work) if num_chars > INLINE_CHARS else work()
