"""The request path: a straight list of stages over one request, the same for every protocol.

authorise -> find the model -> tools -> check what the engine can do -> mask -> look for a kept answer
-> tokenise and fit the context -> reserve -> admit -> pick a replica -> generate -> assemble -> keep, settle, note
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from ashore.access import INFER, Principal
from ashore.cache import AnswerCache, CacheStats, Question, Ready
from ashore.core import Clock, RequestId
from ashore.engines import EngineStats, Grammar
from ashore.errors import AshoreError, DeadlineExceeded
from ashore.metrics import Metrics
from ashore.serving.admission import Background, Cost, Gate, background_of, capacity_for, cost_of, preempted
from ashore.serving.answer import Answer
from ashore.serving.answers import AnswerRecorder, ask_of, no_cache, replay
from ashore.serving.assembly import assemble, echoed, nothing_more, usage_of
from ashore.serving.board import Board
from ashore.serving.embedding import Embedding, check_embeds, encode_inputs, shorten
from ashore.serving.feed import Feed
from ashore.serving.flights import Flights
from ashore.serving.guards import AuditNote, Guards, Watch
from ashore.serving.model import GenerationRequest, ServingEvent, Started, Urgency, Usage
from ashore.serving.models import LoadedModel, ModelCard, by_name, find_model
from ashore.serving.orders import Prompt, check_features, make_orders
from ashore.serving.ports import Replica, ServedText
from ashore.serving.prompt import encode_prompt, prompt_ids
from ashore.serving.replicas import ReplicaFactory, ReplicaSet, died
from ashore.serving.scoring import Scores, check_scores, wants_scores
from ashore.serving.tools import prepare_tools
from ashore.serving.topology import ServedModel, Topology

log = logging.getLogger("ashore.serving")
_T = TypeVar("_T")

CONNECT_WAIT_S = 10.0
"""Longest wait for the replicas of a model that replaces another."""
RETIRE_GRACE_S = 0.5
RETIRE_LOOK_S = 0.05

TextLoader = Callable[[ServedModel], ServedText]
"""Makes the text side of a served model; called on a thread."""

REPLICA_WAIT_S = 30.0
"""Longest wait for a host that restarts; a request's own deadline may be sooner."""
MOST_ATTEMPTS = 4
STATS_TIMEOUT_S = 1.0
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
        board: Board | None = None,
    ) -> None:
        self._topology = topology
        self._make_replica = make_replica
        self._load_text = load_text
        self._check_grammar = check_grammar
        self._clock = clock
        self._metrics = metrics
        self._cache = cache or no_cache(clock)
        self._guards = guards or Guards()
        self._board = board
        self._flights = Flights()
        self._generation = 0
        self._models: dict[str, LoadedModel] = {}
        self._names: dict[str, LoadedModel] = {}
        """The same, and their adapters."""
        self._prefix = secrets.token_hex(4)
        self._serial = itertools.count()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def in_flight(self) -> int:
        """Requests that were admitted or wait to be, and have not ended."""
        return self._in_flight

    async def start(self) -> None:
        """Load the text side of every model and begin to connect. Returns before the replicas are ready."""
        await self.apply(self._topology)

    async def apply(self, topology: Topology) -> None:
        """Serve what `topology` says from now on.

        A model that takes the place of another is connected before it gets requests; what the other one has begun ends
        there.
        """
        self._topology = topology
        self._cache.apply(topology.cache)
        kept: dict[str, LoadedModel] = {}
        for served in topology.models:
            old = self._models.get(served.alias)
            if old is not None and old.served.release == served.release and old.served.text_dir == served.text_dir:
                old.served = served
                kept[served.alias] = old
            else:
                kept[served.alias] = await self._load(served)
        gone = [m for alias, m in self._models.items() if kept.get(alias) is not m]
        if self._models:
            await self._wait_connected([m for alias, m in kept.items() if self._models.get(alias) is not m])
        self._models, self._names = kept, by_name(kept)
        self._generation += 1
        for model in kept.values():
            if model.replicas.sockets != model.served.sockets:
                await model.replicas.resize(model.served.sockets)
            self._resize(model)
        for model in gone:
            task = asyncio.get_running_loop().create_task(self._retire(model), name=f"retire {model.served.release}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _wait_connected(self, models: list[LoadedModel]) -> None:
        """Return when every model has a live replica, or after a while."""
        try:
            async with asyncio.timeout(CONNECT_WAIT_S):
                while not all(model.replicas.ready for model in models):  # noqa: ASYNC110 - once per reload
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("a new model has no replica after %g s; its requests are refused until then", CONNECT_WAIT_S)

    async def _retire(self, model: LoadedModel) -> None:
        """Disconnect a model that is no longer served, once its last request has ended."""
        await asyncio.sleep(RETIRE_GRACE_S)  # a request that found it a moment ago has not entered its gate yet
        while model.gate.load.running or model.gate.load.waiting:  # noqa: ASYNC110 - once per reload
            await asyncio.sleep(RETIRE_LOOK_S)
        await model.replicas.stop()
        log.info("%s is retired", model.served.release)

    def models(self) -> list[ModelCard]:
        """Return a card for every alias, sorted."""
        return [self._names[alias].card() for alias in sorted(self._names)]

    async def generate(self, request: GenerationRequest, principal: Principal) -> AsyncGenerator[ServingEvent, None]:
        """Answer one request: `Started`, then `Delta` and `ChoiceEnded` for each choice, then `Usage`.

        Close the generator (or cancel the task in it) when the client goes away; its sequences end within a step.

        Raises:
            AshoreError: before `Started` when the request cannot be served; later when the answer broke off.
        """
        arrived_at = self._clock.monotonic_s()
        principal.require(INFER)
        model = find_model(self._names, request.model)
        request = prepare_tools(request, model.text)
        check_features(request, model.info)
        check_scores(request, model.served)
        masked = self._guards.masker.mask(request, principal)
        request = masked.request
        question = self._cache.question(
            ask_of(request, model.served, principal, holds_personal_data=masked.found),
        )
        watch = Watch()
        self._enter()
        try:
            events = self._events(model, request, question, principal, arrived_at)
            try:
                async for event in events:
                    watch.hear(event)
                    yield event
            finally:
                await events.aclose()
            watch.outcome = "answered"
        except AshoreError as fault:
            watch.failed(fault)
            raise
        finally:
            self._exit()
            self._guards.auditor.note(watch.note(request, principal, model.served.release))

    async def _events(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        question: Question | None,
        principal: Principal,
        arrived_at: float,
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield a kept answer, or a fresh one: shared with whoever asks the same at this moment."""
        if question is None:
            async for event in self._fresh(model, request, principal, arrived_at):
                yield event
            return
        found = await self._cache.find(question)
        if found is None and request.urgency == "batch":  # it may be preempted, so nobody shares its generation
            async for event in self._fresh(model, request, principal, arrived_at):
                yield event
            return
        if found is not None:
            self._guards.budgets.charge_hit(principal, request.model)
            self._metrics.add("ashore_cache_lookups", 1, request.model, found.label)
            for event in replay(found, request):
                yield event
            return
        joins = self._flights.flying(question.key)
        self._metrics.add("ashore_cache_lookups", 1, request.model, "hit-exact" if joins else "miss")
        if joins:
            self._guards.budgets.charge_hit(principal, request.model)

        async def landed(recorder: AnswerRecorder) -> None:
            answer = recorder.answer()
            if answer is not None:
                await self._cache.keep(question, answer)

        events = self._flights.ride(
            question.key,
            lambda: self._fresh(model, request, principal, arrived_at),
            num_choices=request.num_choices,
            landed=landed,
        )
        deadline_at = arrived_at + self._deadline_s(request.deadline_s)
        try:
            async for event in self._until(events, deadline_at) if joins else events:
                yield event
        finally:
            await events.aclose()

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

    async def _fresh(
        self, model: LoadedModel, request: GenerationRequest, principal: Principal, arrived_at: float
    ) -> AsyncGenerator[ServingEvent, None]:
        """Generate: tokenise, reserve, admit, run."""
        info = model.info
        deadline_at = arrived_at + self._deadline_s(request.deadline_s)
        if request.grammar is not None:
            await asyncio.to_thread(self._check_grammar, request.grammar)
        prompt = await encode_prompt(request, model.text, info)
        cost = cost_of(
            prompt_tokens=len(prompt.ids), max_new_tokens=prompt.max_new_tokens, sequences=request.num_choices
        )
        encoded_at = self._clock.monotonic_s()
        self._metrics.observe("ashore_stage_seconds", encoded_at - arrived_at, "prepare")
        reservation = self._guards.budgets.reserve(principal, request.model, cost)
        background = background_of(request.urgency)
        try:
            wait_s = max(0.0, deadline_at - encoded_at)
            await model.gate.enter(cost, priority=request.priority, wait_s=wait_s, background=background)
            admitted_at = self._clock.monotonic_s()
            self._metrics.observe("ashore_stage_seconds", admitted_at - encoded_at, "admit")
            try:
                scores = await self._score(model, request, prompt.ids, deadline_at)
                yield Started(
                    model=request.model,
                    release=model.served.release,
                    precision=info.precision,
                    prompt_tokens=len(prompt.ids),
                    created_s=int(self._clock.now_s()),
                )
                if request.echo:
                    for delta in echoed(request, prompt, model.text, scores):
                        yield delta
                if prompt.max_new_tokens == 0:
                    for event in nothing_more(request, prompt):
                        if isinstance(event, Usage):
                            reservation.settle(event)
                            self._count(request.model, event.prompt_tokens, 0, 0)
                        yield event
                    return
                answer = self._run(model, request, prompt, principal, arrived_at, deadline_at, background)
                try:
                    async for event in answer:
                        if isinstance(event, Usage):
                            reservation.settle(event)
                        yield event
                finally:
                    await answer.aclose()
            finally:
                service_s = self._clock.monotonic_s() - admitted_at
                model.gate.leave(cost, service_s=service_s, background=background)
        finally:
            reservation.release()

    async def embed(
        self,
        model: str,
        inputs: Sequence[str | Sequence[int]],
        principal: Principal,
        *,
        dimensions: int | None = None,
        priority: int = 0,
        urgency: Urgency = "interactive",
        deadline_s: float | None = None,
    ) -> Embedding:
        """Return one vector per input. The deadline covers the wait for a slot and the run together.

        Raises:
            AshoreError: the model does not embed, an input does not fit, there is no room, or the deadline passed.
        """
        deadline_at = self._clock.monotonic_s() + self._deadline_s(deadline_s)
        principal.require(INFER)
        found = find_model(self._names, model)
        info = found.info
        check_embeds(model, info, dimensions)
        batch = await encode_inputs(inputs, found.text, info)
        prompt_tokens = sum(len(ids) for ids in batch)
        cost = Cost(1, prompt_tokens)
        self._enter()
        try:
            wait_s = max(0.0, deadline_at - self._clock.monotonic_s())
            # one that runs is over before it could be preempted: it only waits behind others
            background = background_of("interactive" if urgency == "interactive" else "background")
            await found.gate.enter(cost, priority=priority, wait_s=wait_s, background=background)
            entered_at = self._clock.monotonic_s()
            try:
                vectors = await self._embed(found, batch, deadline_at)
            finally:
                found.gate.leave(cost, service_s=self._clock.monotonic_s() - entered_at)
        finally:
            self._exit()
        self._metrics.add("ashore_prompt_tokens", prompt_tokens, model)
        return Embedding(
            model=model,
            release=found.served.release,
            precision=info.precision,
            vectors=[shorten(vector, dimensions) for vector in vectors],
            prompt_tokens=prompt_tokens,
        )

    async def count_tokens(self, request: GenerationRequest, principal: Principal) -> int:
        """Return how many tokens the prompt of `request` has in its model's own template, tools included.

        Raises:
            AshoreError: the request could not be served.
        """
        principal.require(INFER)
        model = find_model(self._names, request.model)
        return len(await prompt_ids(prepare_tools(request, model.text), model.text, model.info))

    # --- a repeated request, by its bytes

    def ready_key(self, principal: Principal, path: str, body: bytes) -> bytes:
        """Return the address under which the response to these bytes may be kept. Another policy leads elsewhere."""
        stamp = b"%d %s" % (self._generation, self._guards.masker.rules_stamp(principal, path))
        return self._cache.ready_key(principal.tenant, principal.id, path, body, stamp)

    def ready(self, key: bytes, request_id: RequestId, principal: Principal) -> Ready | None:
        """Return a finished response, charged and noted; None where there is none.

        Raises:
            PermissionDenied: the principal may no longer ask.
            AshoreError: the budget is used up.
        """
        ready = self._cache.ready(key)
        if ready is None:
            return None
        principal.require(INFER)
        self._guards.budgets.charge_hit(principal, ready.alias)
        self._guards.auditor.note(
            AuditNote(
                request_id=request_id,
                principal=principal,
                alias=ready.alias,
                release=ready.release,
                outcome="answered",
                cache=ready.label,
            )
        )
        self._metrics.add("ashore_cache_lookups", 1, ready.alias, ready.label)
        return ready

    def keep_ready(self, key: bytes, ready: Ready) -> None:
        """Remember a response that was made from a kept answer."""
        self._cache.keep_ready(key, ready)

    def cache_stats(self) -> CacheStats:
        """Return what the cache holds and did."""
        return self._cache.stats()

    async def host_stats(self) -> dict[tuple[str, str], EngineStats]:
        """Ask every live host for its counters, by (alias, replica). One that is too slow is left out."""
        asked = [
            ((alias, str(at)), replica.stats())
            for alias, model in self._models.items()
            for at, replica in enumerate(model.replicas.live)
        ]
        answers = await asyncio.gather(
            *(asyncio.wait_for(call, STATS_TIMEOUT_S) for _, call in asked), return_exceptions=True
        )
        return {key: one for (key, _), one in zip(asked, answers, strict=True) if isinstance(one, EngineStats)}

    async def measure(self) -> None:
        """Bring the gauges up to date; called before they are read."""
        kept = self._cache.stats()
        self._metrics.set("ashore_cache_bytes", kept.num_bytes)
        self._metrics.set("ashore_cache_entries", kept.entries)
        self._metrics.set("ashore_cache_evictions", kept.evictions)
        self._metrics.set_hosts(await self.host_stats())
        for alias, model in self._models.items():
            load = model.gate.load
            self._metrics.set("ashore_running_sequences", load.running, alias)
            self._metrics.set("ashore_waiting_sequences", load.waiting, alias)
            self._metrics.set("ashore_tokens_in_flight", load.tokens, alias)
            self._metrics.set("ashore_replicas_ready", len(model.replicas.live), alias)

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, and wait until what runs has ended; return whether all of it did in time."""
        self._draining = True
        for model in self._models.values():
            model.gate.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Disconnect from every host. May be called twice."""
        for task in tuple(self._retiring):
            task.cancel()
        for model in self._models.values():
            await model.replicas.stop()

    async def _run(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        prompt: Prompt,
        principal: Principal,
        arrived_at: float,
        deadline_at: float,
        background: Background | None,
    ) -> AsyncGenerator[ServingEvent, None]:
        """Generate on one replica; on another when the host dies before anything went out."""
        told = False
        for attempt in range(1, MOST_ATTEMPTS + 1):
            wait_s = min(REPLICA_WAIT_S, max(0.0, deadline_at - self._clock.monotonic_s()))
            seat, replica = await model.replicas.pick(wait_s)
            orders = make_orders(
                request,
                prompt,
                order_prefix=f"{self._prefix}.{next(self._serial):x}",
                stop_token_ids=model.text.eos_token_ids,
                tenant=principal.tenant,
                shared_prefix_cache=self._topology.shared_prefix_cache,
                adapter=model.served.adapter,
            )
            answers = [self._answer(choice, request, prompt, model.text) for choice in range(request.num_choices)]
            left_s = max(0.0, deadline_at - self._clock.monotonic_s())
            feed = Feed(replica, orders, deadline_at=asyncio.get_running_loop().time() + left_s)
            if background is not None:
                background.on_preempt(partial(feed.stop, preempted()))
            seat.in_flight += len(orders)
            first_at = last_at = 0.0
            try:
                while any(answer.ended is None for answer in answers):
                    events = assemble(await feed.take(), answers, feed)
                    if events and not told:
                        told, first_at = True, self._clock.monotonic_s()
                        self._metrics.observe("ashore_ttft_seconds", first_at - arrived_at, request.model)
                    for event in events:
                        yield event
                last_at = self._clock.monotonic_s()
                usage = usage_of(prompt, answers)
                self._count(request.model, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
                per_choice = usage.completion_tokens / request.num_choices
                if per_choice > 1:
                    per_token_s = (last_at - first_at) / (per_choice - 1)
                    self._metrics.observe("ashore_time_per_token_seconds", per_token_s, request.model)
                yield usage
                return
            except AshoreError as fault:
                if not died(fault):
                    raise
                seat.suspect()
                if told or self._draining or attempt == MOST_ATTEMPTS:
                    raise
                log.warning("request %s: %s; asking another replica", request.request_id, fault)
                self._metrics.add("ashore_retries", 1, request.model)
            except (GeneratorExit, asyncio.CancelledError):
                self._metrics.add("ashore_cancelled", 1, request.model)
                raise
            finally:
                seat.in_flight -= len(orders)
                await feed.close()

    async def _score(
        self, model: LoadedModel, request: GenerationRequest, ids: list[int], deadline_at: float
    ) -> Scores | None:
        """Return the log-probabilities of a prompt, None where they are not asked for."""
        if not wants_scores(request):
            return None
        if len(ids) < 2:
            return ()
        top = request.top_logprobs or 0
        late = f"the deadline passed before the {len(ids)} tokens of the prompt were scored"
        return await self._somewhere(model, lambda replica: replica.score(ids, top_logprobs=top), deadline_at, late)

    async def _embed(self, model: LoadedModel, batch: list[list[int]], deadline_at: float) -> list[list[float]]:
        late = f"the deadline passed before the vectors of {len(batch)} inputs were made"
        return await self._somewhere(model, lambda replica: replica.embed(batch), deadline_at, late)

    async def _somewhere(
        self, model: LoadedModel, call: Callable[[Replica], Awaitable[_T]], deadline_at: float, late: str
    ) -> _T:
        """Return what one replica gives before a deadline.

        Raises:
            DeadlineExceeded: it passed; the message is `late`.
        """
        left_s = max(0.0, deadline_at - self._clock.monotonic_s())
        alarm = asyncio.timeout(left_s)
        try:
            async with alarm:
                return await self._on_one_that_lives(model, call)
        except TimeoutError as fault:
            if not alarm.expired():
                raise
            raise DeadlineExceeded(late, hint="send less in one request, or give it a later deadline") from fault

    async def _on_one_that_lives(self, model: LoadedModel, call: Callable[[Replica], Awaitable[_T]]) -> _T:
        """Call one replica; another when the host dies."""
        for attempt in range(1, MOST_ATTEMPTS + 1):
            seat, replica = await model.replicas.pick(REPLICA_WAIT_S)
            seat.in_flight += 1
            try:
                return await call(replica)
            except AshoreError as fault:
                if not died(fault) or attempt == MOST_ATTEMPTS:
                    raise
                seat.suspect()
                self._metrics.add("ashore_retries", 1, model.served.alias)
            finally:
                seat.in_flight -= 1
        raise AssertionError("unreachable")

    async def _load(self, served: ServedModel) -> LoadedModel:
        text = await asyncio.to_thread(self._load_text, served)
        limits = self._topology.admission
        gate = Gate(
            capacity_for(
                max_running=limits.max_running,
                max_waiting=limits.max_waiting,
                max_tokens=limits.max_tokens_in_flight,
                replica_sequences=1,
                kv_tokens=0,
            ),
            self._board.neighbours(served.slot) if self._board is not None else None,
        )
        alias = served.alias
        replicas = ReplicaSet(alias, served.sockets, self._make_replica, lambda: self._changed(alias))
        replicas.start()
        return LoadedModel(served=served, text=text, replicas=replicas, gate=gate)

    def _changed(self, alias: str) -> None:
        model = self._models.get(alias)
        if model is not None:
            self._resize(model)

    def _resize(self, model: LoadedModel) -> None:
        ability = model.replicas.ability
        if ability.sequences == 0:
            return  # all hosts are away: what was admitted waits for them, bounded by its deadline
        limits = self._topology.admission
        model.gate.resize(
            capacity_for(
                max_running=limits.max_running,
                max_waiting=limits.max_waiting,
                max_tokens=limits.max_tokens_in_flight,
                replica_sequences=ability.sequences,
                kv_tokens=ability.kv_tokens,
            )
        )

    def _deadline_s(self, asked_s: float | None) -> float:
        limits = self._topology.admission
        return min(limits.max_deadline_s, asked_s or limits.default_deadline_s)

    def _answer(self, choice: int, request: GenerationRequest, prompt: Prompt, text: ServedText) -> Answer:
        parser = text.answer_parser(
            stop=request.stop,
            tools=bool(request.tools) and request.tool_choice != "none",
            chat=request.prompt is None,
            prompt_opens_reasoning=prompt.opens_reasoning,
        )
        return Answer(choice, text, parser, logprobs=request.top_logprobs is not None)

    def _count(self, model: str, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        self._metrics.add("ashore_prompt_tokens", prompt_tokens, model)
        self._metrics.add("ashore_cached_tokens", cached_tokens, model)
        self._metrics.add("ashore_completion_tokens", completion_tokens, model)

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _exit(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()
