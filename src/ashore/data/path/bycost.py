"""Routes requests of one alias over different models, bound late and by cost; `ashore.data.dispatch` decides, with
learned rates.

A request that has passed the gate waits here until it is placed on a model. The choice, its linear program and the
account of running work are those of the simulator (ADR 28); this file adds the clock, the seats and the observations. A
model whose rates are not known yet gets its first requests regardless of cost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.data.dispatch import EVERY_S, LEARNED, Backend, ByCost, CheapestInTime, Device, Fleet, Rates, Request
from ashore.data.engines import EngineInfo, Turn
from ashore.data.path.ports import Replica, ServedText
from ashore.data.path.replicas import Ability, ReplicaSet, Seat
from ashore.data.path.section import RouteByCost
from ashore.data.path.topology import ServedModel
from ashore.kit.metrics import Metrics

log = logging.getLogger("ashore.serving")

SOON_S: Final = 0.05
"""Minimum time between two solutions while requests wait and room was made."""
FIRST_OUTPUT_TOKENS: Final = 128.0
"""Expected of an answer before any was seen."""
FORGET: Final = 0.1
"""Share of the expected length that each further answer replaces."""
PROBE: Final = 'The quick brown fox 0123456789 : {"a": [1]} \n\tÄrger, 你好, мир.'
"""Two tokenizers that agree on it are taken for the same."""
RETRY_S: Final = 300.0
"""A cheaper model that seems too slow for what is asked gets one request after so long without any: it may have
recovered."""


class Answers(Protocol):
    """A loaded model that can answer: a `LoadedModel`."""

    served: ServedModel
    text: ServedText
    replicas: ReplicaSet

    @property
    def info(self) -> EngineInfo:
        """Nature and features of its engine; only once a replica was ready."""
        ...


@dataclass(slots=True)
class _Member:
    """One candidate model."""

    alias: str
    price_per_hour: float
    rates: Rates = field(default_factory=Rates)
    model: Answers | None = None
    """None: there is none of that name, or its tokenizer is another one."""
    devices: dict[Seat, Device] = field(default_factory=dict)
    begun_s: float = 0.0
    """When it began an answer, the last time."""

    @property
    def running(self) -> int:
        return sum(len(one.running) for one in self.devices.values())

    def backend(self, workers: int) -> Backend:
        """Return its backend for the policy: one device for each live seat, or for this worker's share of it."""
        info = None if self.model is None else self.model.replicas.info
        most = max(1, (1 if info is None else info.max_sequences) // workers)
        return Backend(
            name=self.alias,
            price_per_hour=self.price_per_hour,
            prefill_tokens_per_s=self.rates.prefill.per_s,
            decode_tokens_per_s=self.rates.decode_per_s(most),
            stream_tokens_per_s=self.rates.stream.per_s,
            max_running=most,
        )


@dataclass(slots=True, eq=False)
class Placed:
    """Where a request was placed. `leave` must follow once."""

    model: Answers
    seat: Seat
    replica: Replica
    request: Request
    member: _Member
    device: Device
    began_s: float
    crowd_s: float
    _route: ByCostRoute

    def answered(self, *, first_s: float, decode_s: float, prompt_tokens: int, output_tokens: int) -> None:
        """Learn from a whole answer. Arguments are those of `Rates.learn`, for one sequence."""
        self._route.learn(self, first_s, decode_s, prompt_tokens, output_tokens)

    def leave(self) -> None:
        """Release the place."""
        self._route.leave(self)


@dataclass(slots=True, eq=False)
class _Waiter:
    request: Request
    turn: Turn
    sequences: int
    can: Callable[[EngineInfo], bool]
    placed: asyncio.Future[Placed | None]


class ByCostRoute:
    """The choice by cost for one alias in one worker. Every call is made on the event loop."""

    def __init__(self, route: RouteByCost, *, clock: Clock, metrics: Metrics, workers: int) -> None:
        """Create the route; `take` sets its models. `workers`: how many share the hosts."""
        self.route = route
        self._clock, self._metrics, self._workers = clock, metrics, workers
        self._zero_s = clock.monotonic_s()
        self._members = tuple(_Member(alias, price) for alias, price in route.prices.items())
        self._policy = ByCost()
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiter] = {}
        self._output_tokens = FIRST_OUTPUT_TOKENS
        self._solving: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._solved_s = -EVERY_S
        self._told: set[str] = set()
        self._failed = False
        """Whether the last solution failed; logged once."""

    def change(self, route: RouteByCost) -> None:
        """Apply new prices or models. Rates learned for remaining models are kept."""
        known = {one.alias: one for one in self._members}
        self.route = route
        self._members = tuple(known.get(alias) or _Member(alias, price) for alias, price in route.prices.items())
        for member in self._members:
            member.price_per_hour = route.prices[member.alias]
        self._policy = ByCost(known=self._policy.known)
        self._solved_s = -EVERY_S

    def take(self, found: Mapping[str, Answers]) -> None:
        """Set the models, by alias. Running requests end where they are."""
        home = found.get(self.route.alias)
        for member in self._members:
            model = found.get(member.alias)
            if model is not None and home is not None and not _reads_alike(home, model):
                if member.alias not in self._told:
                    log.error("%s answers for no %s: its tokenizer is another one", member.alias, self.route.alias)
                self._told.add(member.alias)
                model = None
            if model is not None and (member.model is None or member.model.served.content != model.served.content):
                member.rates = Rates()
            member.model = model
        self._look()

    @property
    def content(self) -> str:
        """Content digest that decides the answers: of all models that may give them."""
        return "+".join(sorted(one.model.served.content for one in self._members if one.model is not None))

    @property
    def ability(self) -> Ability:
        """The combined ability of its models. Twice that many are admitted, so that requests can wait for a cheaper
        place."""
        found = [one.model.replicas.ability for one in self._members if one.model is not None]
        return Ability(2 * sum(one.sequences for one in found), sum(one.kv_tokens for one in found))

    def due_at(self, arrived_at: float, asked_s: float | None, end_by: float | None) -> float:
        """Return when the whole answer is due: as the client requested, or as the route configures."""
        return end_by if asked_s is not None and end_by is not None else arrived_at + self.route.answer_within_s

    async def place(
        self,
        *,
        prompt_tokens: int,
        most_tokens: int,
        sequences: int,
        due_at: float,
        can: Callable[[EngineInfo], bool],
        turn: Turn,
    ) -> Placed | None:
        """Wait for a place and return it; None if no live model can answer the request. Cancel to leave.

        Args:
            prompt_tokens: Tokens of the prompt.
            most_tokens: Limit of the answer's tokens.
            sequences: Answers requested.
            due_at: When the whole answer is due, in monotonic seconds.
            can: Whether an engine supports the request.
            turn: Takes the choice among the replicas of the model, which is by opening.
        """
        barred = tuple(one.alias for one in self._members if not self._can(one, can))
        if len(barred) == len(self._members):
            return None
        request = Request(
            number=next(self._numbers),
            arrival_s=self._now_s,
            prompt_tokens=prompt_tokens,
            output_tokens=sequences * max(1, min(most_tokens, round(self._output_tokens))),
            deadline_s=due_at - self._zero_s,
            barred=barred,
        )
        waiter = _Waiter(request, turn, sequences, can, asyncio.get_running_loop().create_future())
        self._waiting[request.number] = waiter
        self._look()
        try:
            return await waiter.placed
        except asyncio.CancelledError:
            bound = waiter.placed.result() if waiter.placed.done() and not waiter.placed.cancelled() else None
            if bound is not None:
                bound.leave()  # in the same turn
            raise
        finally:
            self._waiting.pop(request.number, None)

    def leave(self, placed: Placed) -> None:
        """Remove an ended request and start those that now fit."""
        placed.device.end(placed.request.number, self._now_s)
        self._look()

    def learn(self, placed: Placed, first_s: float, decode_s: float, prompt_tokens: int, output_tokens: int) -> None:
        """Count an answer, and learn its rates."""
        now_s, member = self._now_s, placed.member
        took_s = max(1e-6, now_s - placed.began_s)
        at_once = max(1.0, (placed.device.crowd(now_s) - placed.crowd_s) / took_s)
        member.rates.learn(
            prompt_tokens=prompt_tokens,
            first_s=first_s,
            output_tokens=output_tokens,
            decode_s=decode_s,
            at_once=at_once,
        )
        self._output_tokens += FORGET * (output_tokens - self._output_tokens)
        made = replace(placed.request, output_tokens=output_tokens, prompt_tokens=prompt_tokens)
        labels = (self.route.alias, member.alias)
        self._metrics.add("ashore_route_answers", 1, *labels)
        self._metrics.add("ashore_route_cost", member.backend(self._workers).cost(made), *labels)
        self._metrics.add("ashore_route_late", float(now_s > placed.request.deadline_s), *labels)

    def measure(self) -> None:
        """Update the gauges."""
        self._metrics.set("ashore_route_waiting", len(self._waiting), self.route.alias)
        for member in self._members:
            labels = (self.route.alias, member.alias)
            self._metrics.set("ashore_route_price", member.price_per_hour, *labels)
            self._metrics.set("ashore_route_ready", len(self._live(member)), *labels)
            if member.rates.answers:
                backend = member.backend(self._workers)
                for rate, per_s in (
                    ("prefill", backend.prefill_tokens_per_s),
                    ("stream", backend.stream_tokens_per_s),
                    ("full", backend.decode_tokens_per_s),
                ):
                    self._metrics.set("ashore_route_tokens_per_second", per_s, *labels, rate)

    def close(self) -> None:
        """Stop deciding. Waiting requests get None."""
        for waiter in self._waiting.values():
            if not waiter.placed.done():
                waiter.placed.set_result(None)
        for one in (self._alarm, self._solving):
            if one is not None:
                one.cancel()

    # --- deciding

    @property
    def _now_s(self) -> float:
        return self._clock.monotonic_s() - self._zero_s

    def _can(self, member: _Member, can: Callable[[EngineInfo], bool]) -> bool:
        return bool(self._live(member)) and member.model is not None and can(member.model.info)

    @staticmethod
    def _live(member: _Member) -> list[Seat]:
        return [] if member.model is None else [one for one in member.model.replicas.seats if one.replica is not None]

    def _fleet(self, now_s: float) -> Fleet:
        """Return the backends and their queues, with the rates learned so far."""
        backends = [member.backend(self._workers) for member in self._members]
        for member, backend in zip(self._members, backends, strict=True):
            live = self._live(member)
            busy = {seat: one for seat, one in member.devices.items() if one.running}
            member.devices = busy | {seat: member.devices.get(seat) or Device(backend, at_s=now_s) for seat in live}
            for seat, device in member.devices.items():
                device.backend = backend
                device.others = max(0, seat.in_flight - len(device.running))
        devices = [[member.devices[seat] for seat in self._live(member)] for member in self._members]
        return Fleet(backends, now_s=now_s, devices=devices)

    def _look(self) -> None:
        """Start the requests whose turn it is, and schedule the next check."""
        if not self._waiting or self._solving is not None:
            return
        now_s = self._now_s
        fleet = self._fleet(now_s)
        self._bar_who_is_away()
        self._try_unknown(fleet, now_s)
        since_s = now_s - self._solved_s
        is_news = any(one.request.number > self._policy.known for one in self._waiting.values())
        if since_s < EVERY_S and is_news and self._policy.prices.per_s:
            self._begin(self._decided(self._policy, self._asked(), fleet, now_s, tick=False), fleet, now_s)
        if not self._waiting:
            return
        if since_s >= EVERY_S or (since_s >= SOON_S and any(fleet.room(at) for at in range(len(self._members)))):
            self._solving = asyncio.get_running_loop().create_task(self._solve(), name=f"choice for {self.route.alias}")
        else:
            self._look_in(SOON_S - since_s if since_s < SOON_S else EVERY_S - since_s)

    def _look_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, seconds), self._look)

    def _asked(self) -> tuple[Request, ...]:
        return tuple(one.request for one in self._waiting.values())

    async def _solve(self) -> None:
        """Solve the linear program on a thread: it takes some milliseconds."""
        now_s = self._now_s
        fleet = self._fleet(now_s)
        copy = Fleet(fleet.backends, now_s=now_s, devices=[[one.copy() for one in row] for row in fleet.devices])
        policy, asked = self._policy, self._asked()
        try:
            begin = await asyncio.to_thread(partial(self._decided, policy, asked, copy, now_s, tick=True))
        finally:
            self._solving, self._solved_s = None, now_s
        if policy is self._policy:  # the solution is for other models
            self._begin(begin, self._fleet(self._now_s), self._now_s)
        if self._waiting:
            self._look_in(EVERY_S)

    def _decided(
        self, policy: ByCost, asked: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool
    ) -> Mapping[int, int]:
        """Return the policy's decision; if it fails, that of a policy without solver. Logged once, until it works
        again."""
        try:
            begin = policy.decide(asked, fleet, now_s, tick=tick)
        except Exception:
            if not self._failed:
                log.exception("the choice by cost for %s failed; each goes to the cheapest in time", self.route.alias)
            self._failed = True
            return CheapestInTime().decide(asked, fleet, now_s, tick=tick)
        self._failed = self._failed and not tick
        return begin

    def _begin(self, begin: Mapping[int, int], fleet: Fleet, now_s: float) -> None:
        for number, at in begin.items():
            if number in self._waiting and fleet.room(at):
                self._start(self._waiting[number], self._members[at], now_s)

    def _start(self, waiter: _Waiter, member: _Member, now_s: float) -> None:
        model = member.model
        free = [seat for seat, one in member.devices.items() if seat.replica is not None and not one.is_full]
        if model is None or not free or waiter.placed.done():
            return
        seat = model.replicas.affinity.choose(waiter.turn, free)
        replica, device = seat.replica, member.devices[seat]
        assert replica is not None, "it was live in this turn of the loop"
        del self._waiting[waiter.request.number]
        crowd_s = device.crowd(now_s)
        device.begin(waiter.request, now_s)
        member.begun_s = now_s
        waiter.placed.set_result(Placed(model, seat, replica, waiter.request, member, device, now_s, crowd_s, self))

    def _try_unknown(self, fleet: Fleet, now_s: float) -> None:
        """Send one request at a time to each model with too few observations."""
        dearest = max(member.price_per_hour for member in self._members)
        for at, member in enumerate(self._members):
            if member.running or not fleet.room(at):
                continue
            is_known = member.rates.answers >= LEARNED
            if is_known and (now_s - member.begun_s < RETRY_S or member.price_per_hour >= dearest):
                continue
            for waiter in list(self._waiting.values()):
                request, backend = waiter.request, fleet.backends[at]
                if backend.takes(request) and not (is_known and backend.could_answer(request)):
                    self._start(waiter, member, now_s)
                    break

    def _bar_who_is_away(self) -> None:
        """Bar models without a host from the plan of waiting requests."""
        for waiter in self._waiting.values():
            barred = tuple(one.alias for one in self._members if not self._can(one, waiter.can))
            if barred != waiter.request.barred:
                waiter.request = replace(waiter.request, barred=barred)


def _reads_alike(one: Answers, other: Answers) -> bool:
    """Return whether two models tokenise alike, judged by a sample."""
    if one.text is other.text:
        return True
    same_ends = one.text.eos_token_ids == other.text.eos_token_ids
    return same_ends and one.text.encode(PROBE) == other.text.encode(PROBE)
