"""Fresh answers: tokenise, reserve, admit, pick a replica, generate, assemble. Used on a cache miss."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, BudgetExceeded, DeadlineExceeded, HostDied, KillsHosts, Preempted
from ashore.core.ids import OrderId, RequestId
from ashore.data.authority import Principal
from ashore.data.engines import EngineInfo, Grammar, Order, ScoreText, Turn, partition_of
from ashore.data.path.admission import Background, background_of, cost_of, preempted
from ashore.data.path.answer import Answer
from ashore.data.path.deadlines import Deadline, deadline_of
from ashore.data.path.fairthreads import FairThreads
from ashore.data.path.fallback import AWAY_S
from ashore.data.path.feed import Feed, cut_short, echoed, nothing_more, too_late, usage_of
from ashore.data.path.guards import Budgets, Reservation
from ashore.data.path.model import ChoiceEnded, GenerationRequest, Hear, ServingEvent, Started, Usage
from ashore.data.path.model_registry import Roster
from ashore.data.path.models import LoadedModel
from ashore.data.path.moving import Lost
from ashore.data.path.opening import opening_of
from ashore.data.path.orders import Prompt, check_features, make_orders, speaks
from ashore.data.path.ports import Replica, ServedText, StartsOrders
from ashore.data.path.prompt import PromptReader
from ashore.data.path.replicas import died
from ashore.data.path.scoring import ENTRY_CHARS, Scores, check_scores, wants_scores
from ashore.data.path.summons import Summons
from ashore.data.path.textonly import SaidAnswer, say_order
from ashore.data.path.thinking import ThinksAtMost
from ashore.kit.metrics import Metrics

if TYPE_CHECKING:
    from ashore.data.path.bycost import Answers, ByCostRoute, Placed

log = logging.getLogger("ashore.serving")
_T = TypeVar("_T")

REPLICA_WAIT_S = 30.0
"""Longest wait for a host that restarts; a request's own deadline may be sooner."""
LATE_S = 0.01
"""A wait that ends so close before a deadline has ended with it."""
MOST_ATTEMPTS = 4
MOST_DEATHS = 2
"""Limit of hosts that may die working on one request without a token in between: it may be the cause."""


class Place:
    """A client's concurrency slot, released when the client goes."""

    def __init__(self) -> None:
        self._reservation: Reservation | None = None
        self._left = False

    def take(self, reservation: Reservation) -> None:
        """Take the slot, once the budget allowed it."""
        self._reservation = reservation
        if self._left:
            reservation.leave()

    def leave(self) -> None:
        """Release the slot. May be called twice, and before it was taken."""
        self._left = True
        if self._reservation is not None:
            self._reservation.leave()


@dataclass(frozen=True, slots=True)
class _Times:
    """When a request reached each stage, in seconds of the same clock."""

    arrived: float
    encoded: float
    admitted: float

    def told(self, first_at: float, last_at: float, usage: Usage) -> dict[str, float]:
        """Return the measurements of a whole answer."""
        return {
            "ashore_answer_seconds": last_at - self.arrived,
            "ashore_queue_seconds": self.admitted - self.encoded,
            "ashore_prefill_seconds": first_at - self.admitted,
            "ashore_decode_seconds": last_at - first_at,
            "ashore_inference_seconds": last_at - self.admitted,
            "ashore_prompt_length": usage.prompt_tokens,
            "ashore_answer_length": usage.completion_tokens,
        }


class Shortened(BudgetExceeded):
    """The budget allows only a shorter answer than others want. Raised before the first event; internal to this
    room."""


class FreshAnswers:
    """Makes answers on the replicas of a roster."""

    def __init__(
        self,
        roster: Roster,
        *,
        reader: PromptReader,
        grammars: FairThreads,
        check_grammar: Callable[[Grammar], None],
        budgets: Budgets,
        clock: Clock,
        metrics: Metrics,
        summons: Summons,
        aside: bool = False,
        purges_of: Callable[[str], str] = lambda tenant: "",
    ) -> None:
        """Create it. `aside`: for answers that no client gets, of releases that no alias leads to. `purges_of` counts
        what hides the prefixes of a tenant."""
        self._aside = aside
        self._purges_of = purges_of
        self._roster = roster
        self._reader = reader
        self._grammars = grammars
        self._check_grammar = check_grammar
        self._budgets = budgets
        self._clock = clock
        self._metrics = metrics
        self._summons = summons
        self._prefix = secrets.token_hex(4)
        self._serial = itertools.count()
        self.draining = False
        """True: requests of a dying host are not retried elsewhere."""

    def _partition(self, tenant: str, salt: str) -> str:
        owner = "" if self._roster.topology.shared_prefix_cache else tenant
        return partition_of(owner, self._purges_of(owner), salt)

    async def answer(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        principal: Principal,
        arrived_at: float,
        place: Place,
        hear: Hear,
        *,
        shared: bool = False,
    ) -> Usage:
        """Generate an answer and return its usage: tokenise, reserve, admit, run. `hear` gets all other events, the
        first with the first token.

        Raises:
            Shortened: others share the answer, and this principal's budget allows a shorter one only.
            HostDied: another release must answer: no event was sent yet, and this one's hosts are gone or its name
                moved.
        """
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        await self.awake(model, deadline.begin_by, principal, request.model, request.request_id)
        info = model.info
        check_features(request, info)
        check_scores(request, model.served)
        if request.urgency == "interactive":
            model.gate.check_queue(principal.tenant)  # fail before tokenising for nothing
        if request.grammar is not None and not speaks(info):  # a server holds what it is asked for by itself
            check = partial(self._check_grammar, request.grammar)
            await self._grammars.run(principal, check, deadline_at=deadline.begin_by)
        prompt = await self._reader.encode(request, model.text, info, principal, deadline.begin_by)
        encoded_at = self._clock.monotonic_s()
        self._metrics.observe("ashore_stage_seconds", encoded_at - arrived_at, "prepare")
        reservation = await self._budgets.reserve(
            principal,
            request.model,
            prompt.most_tokens(request.num_choices),
            fewest=prompt.fewest_tokens(request.num_choices),
            request_id=request.request_id,
        )
        if reservation.tokens < prompt.most_tokens(request.num_choices):
            if shared:
                reservation.release()
                raise Shortened
            prompt = prompt.within(reservation.tokens, request.num_choices)
        cost = cost_of(
            prompt_tokens=prompt.num_tokens,
            max_new_tokens=prompt.max_new_tokens,
            sequences=request.num_choices,
            tenant=principal.tenant,
            principal=principal.id,
        )
        place.take(reservation)
        background = background_of(request.urgency)
        try:
            wait_s = max(0.0, deadline.begin_by - encoded_at)
            await model.gate.enter(cost, priority=request.priority, wait_s=wait_s, background=background)
            admitted_at = self._clock.monotonic_s()
            self._metrics.observe("ashore_stage_seconds", admitted_at - encoded_at, "admit")
            try:
                self._check_answers(model, request.model, request.deaths)
                scores = await self._score(model, request, prompt.ids, deadline.begin_by, principal.tenant)
                head: list[ServingEvent] = [
                    Started(
                        model=request.model,
                        release=model.served.release,
                        precision=info.precision,
                        prompt_tokens=prompt.num_tokens,
                        created_s=int(self._clock.now_s()),
                        clamped_to=prompt.clamped_to,
                        queued_s=admitted_at - encoded_at,
                    )
                ]
                if request.echo:
                    echo = partial(echoed, request, prompt, model.text, scores)
                    chars = ENTRY_CHARS * len(prompt.ids) * (0 if scores is None else 1 + (request.top_logprobs or 0))
                    head += await self._reader.read(chars, echo, principal, deadline.begin_by)
                if prompt.max_new_tokens == 0:
                    usage = Usage(prompt_tokens=prompt.num_tokens, cached_tokens=0, completion_tokens=0)
                    for event in (*head, *nothing_more(request)):
                        hear(event)
                else:
                    times = _Times(arrived_at, encoded_at, admitted_at)
                    usage = await self._run(
                        model, request, prompt, principal, times, deadline, background, reservation, head, hear
                    )
                self._count(request.model, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
                reservation.settle(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
                return usage
            finally:
                service_s = self._clock.monotonic_s() - admitted_at
                model.gate.leave(cost, service_s=service_s, background=background)
        except Preempted:
            reservation.release(forgive=True)  # no client saw the tokens
            raise
        finally:
            reservation.release()

    async def known(
        self, model: LoadedModel, deadline_at: float, principal: Principal, alias: str, request_id: RequestId
    ) -> None:
        """Wait until the model's abilities are known: a model on demand reports them at its first load. Arguments
        and errors are those of `awake`."""
        if model.replicas.info is None:
            await self.awake(model, deadline_at, principal, alias, request_id)

    async def awake(
        self, model: LoadedModel, deadline_at: float, principal: Principal, alias: str, request_id: RequestId
    ) -> None:
        """Wait until a model on demand is loaded; returns at once for any other. An exhausted budget loads nothing, so
        it unloads no other model either. The wait counts as one of the principal's concurrent requests.

        Raises:
            NotReady: it cannot be loaded, or was not in time. Overloaded: too many wait for it.
            BudgetExceeded: the principal's budget is used up.
        """
        most = self._roster.topology.admission.max_waiting
        if model.replicas.residence is None or model.replicas.ready:
            await self._summons.awake(model, deadline_at, tenant=principal.tenant, most_waiting=most)
            return
        reservation = await self._budgets.reserve(principal, alias, 1, request_id=request_id)
        try:
            await self._summons.awake(model, deadline_at, tenant=principal.tenant, most_waiting=most)
        finally:
            reservation.release(forgive=True)

    def _check_answers(self, model: LoadedModel, name: str, deaths: int) -> None:
        """Check that the model still answers under this name, now that its turn has come or its host has gone.

        Raises:
            HostDied: the name moved, or only another release has hosts. The error carries the `deaths` so far.
        """
        if model.replicas.residence is not None and not model.replicas.ready:  # it was retired before its turn came
            self._summons.check(model, model.replicas.residence.faults)
            self._summons.call(model)
        lead = None if self._aside else self._roster.known(name)
        if lead is None or (len(lead.models) == 1 and lead.standby is None and lead.leads_to(model)):
            return
        if not lead.leads_to(model) and lead.first.replicas.ready and not lead.first.gate.is_full():
            why, hint = f"{name} is answered by {lead.first.served.release} by now", "it goes there by itself"
        elif not model.replicas.ready and any(one.replicas.ready for one in lead.all_models):
            why, hint = f"no host of {model.served.release} is there", "another release answers meanwhile"
        else:
            return
        elsewhere = HostDied(why, hint=hint)
        elsewhere.deaths = deaths
        raise elsewhere

    async def most_tokens(
        self, model: LoadedModel, request: GenerationRequest, principal: Principal, arrived_at: float
    ) -> int:
        """Return the limit of tokens of prompt and answers together."""
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        prompt = await self._reader.encode(request, model.text, model.info, principal, deadline.begin_by)
        return prompt.most_tokens(request.num_choices)

    async def _run(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        prompt: Prompt,
        principal: Principal,
        times: _Times,
        deadline: Deadline,
        background: Background | None,
        reservation: Reservation,
        head: Sequence[ServingEvent],
        hear: Hear,
    ) -> Usage:
        """Generate on one replica. If its host dies, the answers go on at another one of the same release, behind the
        tokens that were made; before the first token the request is asked again. `head` is sent first.

        Raises:
            HostDied: no other replica of the release is there. Before the first event, another release can answer.
            KillsHosts: two hosts died of it.
        """
        deaths, first_at = request.deaths, 0.0
        answers: list[Answer] = []
        lost: Lost | None = None
        partition = self._partition(principal.tenant, request.prefix_salt)
        opening = opening_of(request, partition, model.served.adapter)

        def check() -> None:
            self._check_answers(model, request.model, deaths)

        def begin() -> None:
            nonlocal first_at
            first_at = self._clock.monotonic_s()
            turn.begin_at(seat)
            self._metrics.observe("ashore_ttft_seconds", first_at - times.arrived, request.model)
            precision = next((one.precisions[0] for one in answers if one.precisions), "")
            for event in head:  # until here another release could have answered
                if precision and isinstance(event, Started):
                    event = replace(event, precision=precision)
                hear(event)

        def made(num_tokens: int) -> None:
            turn.begin_at(seat)
            if lost is not None and (pause_s := lost.pause_s(self._clock.monotonic_s())) is not None:
                self._metrics.observe("ashore_moved_pause_seconds", pause_s, request.model)
            reservation.made(prompt.num_tokens, num_tokens)

        for attempt in range(1, MOST_ATTEMPTS + 1):
            most_s = max(0.0, deadline.begin_by - self._clock.monotonic_s())
            patience = partial(self._patience_s, model, request.model, most_s, falls_back=request.fallback)
            placed, turn = None, Turn(opening=opening, prompt_tokens=prompt.num_tokens)
            if lost is not None:
                left_s = math.inf if deadline.end_by is None else deadline.end_by - self._clock.monotonic_s()
                if (found := await lost.other(turn, left_s)) is None:
                    if deadline.end_by is not None and deadline.end_by - self._clock.monotonic_s() < LATE_S:
                        return self._cut_late(request, prompt, answers, model.info, hear)
                    self._metrics.add("ashore_answers", 1, request.model, "error")
                    raise lost.fault
                seat, replica = found
            elif model.by_cost is not None and not self._aside:
                placed = await self._place(model.by_cost, request, prompt, times, deadline, turn)
            if placed is not None:
                seat, replica, head = placed.seat, placed.replica, _answered_by(placed.model, head)
            elif lost is None:
                seat, replica = await model.replicas.pick(patience, check, turn)
            info = replica.info
            prefix = f"{self._prefix}.{next(self._serial):x}"
            orders: Sequence[Order]
            if prompt.bounds[1]:
                orders = [say_order(request, prompt, order_id=OrderId(f"{prefix}.0"), opening=opening)]
            else:
                whole = make_orders(
                    request,
                    prompt,
                    order_prefix=prefix,
                    stop_token_ids=(*model.text.eos_token_ids, *(model.text.gap_stop_ids if request.suffix else ())),
                    tenant=principal.tenant,
                    partition=partition,
                    opening=opening,
                    min_precision=info.precision if self._aside and info.rungs else request.min_precision,
                    adapter=model.served.adapter,
                )
                orders = whole if lost is None else lost.rest(whole, answers, seat)
            if lost is None:
                answers = [self._answer(choice, request, prompt, model.text) for choice in range(request.num_choices)]
            before = sum(answer.completion_tokens for answer in answers)
            reservation.made(prompt.num_tokens, before)
            started_at = self._clock.monotonic_s()
            within_s = max(0.0, deadline.begin_by - started_at)
            if lost is not None and deadline.end_by is None:
                within_s = max(within_s, deadline.silence_s)
            seat.in_flight += len(orders)
            turn.wait_at(seat)
            if turn.rank >= 0:
                self._metrics.add("ashore_openings", 1, request.model, "elsewhere" if turn.rank else "first")
            feed = Feed(
                self._bounded(replica, request, prompt, model.text),
                orders,
                answers,
                hear,
                made=made if lost is not None else partial(reservation.made, prompt.num_tokens),
                begin=begin,
                within_s=within_s,
                silence_s=deadline.silence_s,
                goes_on=deadline.end_by is None,
                told=lost is not None,
            )
            try:
                if background is not None:
                    background.on_preempt(partial(feed.stop, preempted()))
                try:
                    await feed.over
                except DeadlineExceeded:
                    if deadline.end_by is None or not feed.num_tokens:
                        raise
                    feed.cut("deadline")  # a partial answer is worth keeping
                last_at = self._clock.monotonic_s()
                usage = usage_of(prompt, answers, info)
                if lost is None:
                    (model if placed is None else placed.model).replicas.affinity.learn(turn, usage.cached_tokens)
                if usage.moved:
                    self._metrics.add("ashore_moved_answers", 1, request.model)
                if usage.precision:
                    self._metrics.add("ashore_precision_answers", 1, request.model, usage.precision)
                per_choice = usage.completion_tokens / request.num_choices
                if placed is not None:
                    placed.answered(
                        first_s=first_at - started_at,
                        decode_s=last_at - first_at,
                        prompt_tokens=usage.prompt_tokens - usage.cached_tokens,
                        output_tokens=round(per_choice),
                    )
                if per_choice > 1:
                    per_token_s = (last_at - first_at) / (per_choice - 1)
                    self._metrics.observe("ashore_time_per_token_seconds", per_token_s, request.model)
                self._metrics.observe_all(times.told(first_at, last_at, usage), request.model)
                for answer in answers:
                    if answer.ended is not None:
                        self._metrics.add("ashore_answers", 1, request.model, answer.ended.reason)
                return usage
            except AshoreError as fault:
                if answers[0].prompt_tokens is not None:  # its server said what it cost, and then it did not fit
                    reservation.made(answers[0].prompt_tokens, answers[0].completion_tokens)
                elif not feed.told:
                    reservation.made(0, 0)  # it failed here and gave nothing
                has_grown = feed.num_tokens > before
                seat.suspect(replica, fault)
                of_a_job = background is not None and isinstance(fault, HostDied) and fault.taken
                cannot_move = feed.told and bool(prompt.bounds[1])  # its tokens are not known here
                # The queue retries a job.
                if not died(fault) or self.draining or attempt == MOST_ATTEMPTS or of_a_job or cannot_move:
                    self._metrics.add("ashore_answers", 1, request.model, "error")
                    if lost is not None and not has_grown and not isinstance(fault, DeadlineExceeded):
                        raise lost.fault from fault  # it could not go on there
                    raise
                deaths = one_more_death(fault, 0 if has_grown else deaths, request.model)
                if feed.told:
                    home = (model if placed is None else placed.model).replicas if lost is None else lost.replicas
                    lost = Lost(fault, home, seat, self._clock.monotonic_s())
                else:
                    check()
                log.warning("request %s: %s; asking another replica", request.request_id, fault)
                self._metrics.add("ashore_retries", 1, request.model)
            except asyncio.CancelledError:
                self._metrics.add("ashore_cancelled", 1, request.model)
                self._metrics.add("ashore_answers", request.num_choices, request.model, "cancelled")
                raise
            finally:
                seat.in_flight -= len(orders)
                turn.begin_at(seat)
                feed.close()
                if placed is not None:
                    placed.leave()
        raise AssertionError("unreachable")

    def _cut_late(
        self, request: GenerationRequest, prompt: Prompt, answers: Sequence[Answer], info: EngineInfo, hear: Hear
    ) -> Usage:
        """Cut answers whose deadline passed while they had no replica, and return what they cost."""
        for event in cut_short(answers, "deadline"):
            hear(event)
            if isinstance(event, ChoiceEnded):
                self._metrics.add("ashore_answers", 1, request.model, event.reason)
        return usage_of(prompt, answers, info)

    @staticmethod
    async def _place(
        route: ByCostRoute,
        request: GenerationRequest,
        prompt: Prompt,
        times: _Times,
        deadline: Deadline,
        turn: Turn,
    ) -> Placed | None:
        """Wait for a place and return it; None if no model of the route has hosts.

        Raises:
            DeadlineExceeded: no place was free in time.
        """

        def can(info: EngineInfo) -> bool:
            try:
                check_features(request, info)
            except AshoreError:
                return False
            if speaks(info) != bool(prompt.bounds[1]):
                return False  # the prompt was read for the other kind
            return prompt.num_tokens + prompt.max_new_tokens <= info.context_tokens

        due_at = deadline.begin_by
        if request.urgency == "interactive":
            due_at = route.due_at(times.arrived, request.deadline_s, deadline.end_by)
        left_s = max(0.0, deadline.begin_by - times.encoded)
        alarm = asyncio.timeout(left_s)
        try:
            async with alarm:
                return await route.place(
                    prompt_tokens=prompt.num_tokens,
                    most_tokens=prompt.max_new_tokens,
                    sequences=request.num_choices,
                    due_at=due_at,
                    can=can,
                    turn=turn,
                )
        except TimeoutError as fault:
            if not alarm.expired():
                raise
            raise too_late("the deadline passed before any model of the choice by cost had room") from fault

    async def _score(
        self, model: LoadedModel, request: GenerationRequest, ids: list[int], deadline_at: float, tenant: str
    ) -> Scores | None:
        """Return the log-probabilities of a prompt, None if not requested."""
        if not wants_scores(request):
            return None
        if len(ids) < 2:
            return ()
        top = request.top_logprobs or 0
        late = f"the deadline passed before the {len(ids)} tokens of the prompt were scored"
        texts = [ScoreText(ids)]
        scored = await self._somewhere(
            model,
            request.model,
            lambda replica: replica.score(texts, top_logprobs=top, tenant=tenant),
            deadline_at,
            late,
            request.deaths,
        )
        return scored[0]

    async def embed(
        self,
        model: LoadedModel,
        name: str,
        batch: list[list[int]],
        deadline_at: float,
        *,
        tenant: str,
        deaths: int = 0,
    ) -> list[list[float]]:
        """Return one vector for each input; retries on another replica when a host dies. `name`: model as the client
        named it; `deaths`: hosts that this request has killed so far.

        Raises:
            KillsHosts: two hosts died of it.
            DeadlineExceeded: they were not there in time.
            HostDied: no host of this release is there, but another release can answer.
        """
        late = f"the deadline passed before the vectors of {len(batch)} inputs were made"
        return await self._somewhere(
            model, name, lambda replica: replica.embed(batch, tenant=tenant), deadline_at, late, deaths
        )

    async def _somewhere(
        self,
        model: LoadedModel,
        name: str,
        call: Callable[[Replica], Awaitable[_T]],
        deadline_at: float,
        late: str,
        deaths: int,
    ) -> _T:
        """Call one replica before a deadline and return its result."""
        left_s = max(0.0, deadline_at - self._clock.monotonic_s())
        alarm = asyncio.timeout(left_s)
        try:
            async with alarm:
                return await self._on_one_that_lives(model, name, call, deaths)
        except TimeoutError as fault:
            if not alarm.expired():
                raise
            raise DeadlineExceeded(late, hint="send less in one request, or give it a later deadline") from fault

    async def _on_one_that_lives(
        self, model: LoadedModel, name: str, call: Callable[[Replica], Awaitable[_T]], deaths: int
    ) -> _T:
        """Call one replica; another when the host dies."""

        def check() -> None:
            self._check_answers(model, name, deaths)

        for attempt in range(1, MOST_ATTEMPTS + 1):
            seat, replica = await model.replicas.pick(partial(self._patience_s, model, name), check)
            seat.in_flight += 1
            try:
                return await call(replica)
            except AshoreError as fault:
                if not died(fault) or attempt == MOST_ATTEMPTS:
                    raise
                seat.suspect(replica, fault)
                deaths = one_more_death(fault, deaths, name)
                check()
                self._metrics.add("ashore_retries", 1, model.served.alias)
            finally:
                seat.in_flight -= 1
        raise AssertionError("unreachable")

    def _patience_s(
        self, model: LoadedModel, name: str, most_s: float = math.inf, *, falls_back: bool = False
    ) -> float:
        """Return how long a request waits for a host: the start time-out if the live release has made room for one
        that loads in its place, or if the model is loaded on demand; only for a moment if another alias may answer."""
        route = self._roster.routes.get(name)
        if (route is not None and route.loads_in_place) or model.may_load:
            return min(most_s, self._roster.topology.start_timeout_s)
        return min(most_s, max(0.0, AWAY_S - model.replicas.away_s) if falls_back else REPLICA_WAIT_S)

    @staticmethod
    def _bounded(replica: Replica, request: GenerationRequest, prompt: Prompt, text: ServedText) -> StartsOrders:
        """Return the replica to start orders on, with the limit of reasoning. A sequence under a grammar does not
        reason."""
        if request.thinking_tokens is None or request.prompt is not None or request.grammar is not None:
            return replica
        if not text.thinks:
            return replica
        return ThinksAtMost(replica, text, tokens=request.thinking_tokens, opens_reasoning=prompt.opens_reasoning)

    def _answer(self, choice: int, request: GenerationRequest, prompt: Prompt, text: ServedText) -> Answer:
        if prompt.bounds[1]:
            return SaidAnswer(text, request, prompt)
        parser = text.answer_parser(
            stop=request.stop,
            tools=bool(request.tools) and request.tool_choice != "none",
            chat=request.prompt is None,
            prompt_opens_reasoning=prompt.opens_reasoning,
        )
        return Answer(
            choice,
            text,
            parser,
            logprobs=request.top_logprobs is not None or request.token_ids,
            tokens_by_id=request.tokens_by_id,
            scored=request.scored,
            one_call=request.one_call,
            cut_by=prompt.cut_by,
        )

    def _count(self, model: str, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        self._metrics.add("ashore_prompt_tokens", prompt_tokens, model)
        self._metrics.add("ashore_cached_tokens", cached_tokens, model)
        self._metrics.add("ashore_completion_tokens", completion_tokens, model)


def _answered_by(model: Answers, head: Sequence[ServingEvent]) -> list[ServingEvent]:
    """Return the head of an answer that names the model that gave it in place of the requested one."""
    release, precision = model.served.release, model.info.precision
    return [replace(one, release=release, precision=precision) if isinstance(one, Started) else one for one in head]


def one_more_death(fault: AshoreError, deaths: int, name: str) -> int:
    """Return how many hosts died while they worked on a request, given its `fault`. Draining hosts, and hosts that died
    before the request reached them, do not count.

    Raises:
        KillsHosts: too many; the request is not handed on.
    """
    if not isinstance(fault, HostDied) or not fault.taken:
        return deaths
    if deaths + 1 >= MOST_DEATHS:
        raise KillsHosts(
            f"{deaths + 1} engine hosts of {name!r} died while they worked on this request; it is given to no other",
            hint="do not send it again as it is; the operator finds in the logs of the hosts why they died",
        ) from fault
    return deaths + 1
