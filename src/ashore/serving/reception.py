"""What every request meets first, whatever it asks for: is there time, may it ask, who answers in whose place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from ashore.access import INFER, Authority, Principal
from ashore.core import Clock, RequestId
from ashore.errors import AshoreError, Overloaded
from ashore.metrics import Metrics
from ashore.serving.concurrency import ConcurrencyLimit
from ashore.serving.guards import Guards
from ashore.serving.model import Arrival, GenerationRequest
from ashore.serving.model_registry import Roster
from ashore.serving.models import LoadedModel
from ashore.serving.recording import Watch
from ashore.serving.replicas import deaths_of

MOST_RELEASES = 3
"""Releases that a request may be sent to in turn, while none has answered and each gives way to another."""


class Reception:
    """The beginning of the request path. Every call is made on one event loop."""

    def __init__(
        self,
        roster: Roster,
        *,
        authority: Authority,
        guards: Guards,
        clock: Clock,
        metrics: Metrics,
        limit: ConcurrencyLimit,
    ) -> None:
        self._roster = roster
        self._authority = authority
        self._guards = guards
        self._clock = clock
        self._metrics = metrics
        self._limit = limit
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Requests that were admitted or wait to be, and have not ended."""
        return self._in_flight

    async def idle(self) -> None:
        """Return when there are none."""
        await self._idle.wait()

    @contextmanager
    def noted(self, watch: Watch) -> Iterator[None]:
        """Count a request as one of them for as long as this lasts, and have the record hear how it ended."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
            watch.outcome = "answered"
        except AshoreError as fault:
            watch.failed(fault)
            raise
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()
            watch.note()

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

    def turn_away(self, model: LoadedModel) -> None:
        """Refuse early what would be refused anyway, while there is no processor time to spend on it.

        Raises:
            Overloaded: the queue of the model is full.
        """
        self._limit.look()
        if self._limit.pressed:
            model.gate.check_queue()

    def may_ask(self, principal: Principal, alias: str) -> bool:
        """Return whether a principal may ask a model, and each model behind an alias."""
        names = (alias, *self._roster.behind(alias))
        return all(self._authority.decide(principal, INFER, f"model/{name}").allowed for name in names)

    def authorise(self, principal: Principal, alias: str) -> None:
        """Return when the principal may ask the model. Comes before the look whether there is such a model.

        Who asks by an alias that leads to releases of other models must be allowed to ask those models too: an alias
        opens nothing.

        Raises:
            PermissionDenied: it may not.
        """
        self._authority.require(principal, INFER, f"model/{alias}")
        for name in self._roster.behind(alias):
            self._authority.require(principal, INFER, f"model/{name}")

    def watch(
        self,
        request_id: RequestId,
        alias: str,
        principal: Principal,
        prompt: bytes,
        *,
        arrival: Arrival,
        operation: str,
    ) -> Watch:
        """Return what notes a request for the record, and in a trace where it is followed: as `operation`, in the words
        of OpenTelemetry."""
        tracer = self._guards.tracer
        span = None if tracer is None else tracer.begin(operation, alias, arrival)
        if span is not None:
            arrival = replace(arrival, trace=span.trace_id, traceparent=span.traceparent)
        return Watch(
            self._guards.auditor,
            self._clock,
            request_id=request_id,
            alias=alias,
            principal=principal,
            prompt=prompt,
            arrival=arrival,
            span=span,
        )

    def elsewhere(
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
