"""Entry of every request: check load, authorise, resolve the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.core.errors import (
    AshoreError,
    NotReady,
    Overloaded,
    PermissionDenied,
    PersonalDataBlocked,
    Unauthenticated,
    UnknownModel,
)
from ashore.core.ids import RequestId
from ashore.data.authority import INFER, Authority, Principal
from ashore.data.path.concurrency import ConcurrencyLimit
from ashore.data.path.guards import Guards
from ashore.data.path.model import Arrival, GenerationRequest
from ashore.data.path.model_registry import Roster
from ashore.data.path.models import LoadedModel
from ashore.data.path.recording import Watch
from ashore.data.path.replicas import deaths_of
from ashore.data.path.section import Trigger
from ashore.kit.metrics import Metrics

MOST_RELEASES = 3
"""Releases that a request may be sent to in turn, while none has answered and each gives way to another."""


def lapse(why: str) -> NotReady:
    """Return the refusal of a site that may not serve now."""
    return NotReady(why, hint="bring back the link, or a stick: `ashore site import DIRECTORY`; `ashore site status`")


class Reception:
    """Entry of the request path. Every call is made on one event loop."""

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
        self._running: dict[Watch, asyncio.Task[object] | None] = {}
        """Requests that run or wait to be admitted, and the task of each."""
        self.current: Callable[[Principal], Principal] = lambda principal: principal
        """Returns what a principal is by now; raises `Unauthenticated` if its key or account is not valid any more."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.overflows = False
        """Whether the centre may answer what finds no room here."""
        self.lapsed = ""
        """Why this site may not serve now: its centre allows no more time without news. Empty: it may."""

    @property
    def in_flight(self) -> int:
        """Requests that run or wait to be admitted."""
        return len(self._running)

    async def idle(self) -> None:
        """Wait until there are none."""
        await self._idle.wait()

    @contextmanager
    def noted(self, watch: Watch) -> Iterator[None]:
        """Count a request as in flight within this context, and audit how it ended.

        Raises:
            Unauthenticated, PermissionDenied: its caller has no account or right to it, or lost it on the way.
            NotReady: this site may not serve without news of its centre.
        """
        self._running[watch] = task = asyncio.current_task()
        self._idle.clear()
        try:
            self.authorise(self.current(watch.principal), watch.alias)  # its body may have been long on the way
            yield
            watch.outcome = "answered"
        except AshoreError as fault:
            watch.failed(fault)
            raise
        except asyncio.CancelledError:
            if watch.revoked is None or task is None or task.uncancel():  # the client has gone as well
                raise
            watch.failed(watch.revoked)
            raise watch.revoked from None
        finally:
            del self._running[watch]
            if not self._running:
                self._idle.set()
            watch.note()

    def end_revoked(self) -> None:
        """End the running requests whose callers may not make them any more, within a step of the engine."""
        for watch, task in self._running.items():
            try:
                principal = self.current(watch.principal)
                asked = (watch.alias, *(watch.answering or ())[:1])
                for name in (one for alias in asked for one in (alias, *self._roster.behind(alias))):
                    self._authority.require(principal, INFER, f"model/{name}")
            except (Unauthenticated, PermissionDenied) as fault:
                if watch.revoked is None and task is not None:
                    watch.revoked = fault
                    task.cancel()

    @property
    def pressed(self) -> bool:
        """Whether this worker has been short of processor time for more than a moment."""
        return self._limit.pressed

    def check_pressure(self, principal: Principal, *, may_be_kept: bool = False) -> None:
        """Refuse a request before its body is read, while the worker is overloaded and could not admit it.

        Args:
            principal: The caller. Overload that other tenants make refuses none that has nothing running.
            may_be_kept: The answer may be cached, and then costs no more than a refusal.

        Raises:
            Overloaded: the worker drowns, or is pressed and the queue of every model is full.
        """
        if self.lapsed:
            raise lapse(self.lapsed)
        self._limit.look()
        tenant = principal.tenant
        if self._limit.drowning(tenant) or (self._limit.pressed and not may_be_kept and self._roster.is_full(tenant)):
            self._metrics.add("ashore_refused", 1, "-", "loop")
            raise Overloaded(
                f"no processor time: the worker has not rested, and comes round to a request every "
                f"{self._limit.pulse.lag_s * 1e3:.0f} ms",
                hint="send it again after the time in `retry-after`, or add a worker with --workers",
                retry_after_s=1,
            )

    def check_room(self, principal: Principal) -> None:
        """Refuse an unread request that the cache cannot answer, if no model has room for it.

        Raises:
            Overloaded: the queues of all releases that may answer are full.
        """
        gates = () if self.overflows else self._roster.gates
        if len(gates) == 1:
            gates[0].check_queue(principal.tenant)
        elif gates and all(gate.is_full(principal.tenant) for gate in gates):
            self._metrics.add("ashore_refused", 1, "-", "queue")
            raise Overloaded(
                "no room: the queue of every model is full",
                hint="send it again after the time in `retry-after`, or raise [admission]",
                retry_after_s=min(gate.retry_after_s for gate in gates),
            )

    def check_queue(self, alias: str, principal: Principal) -> None:
        """Refuse a request by its model alone, if the queue of that model is full.

        Raises:
            Overloaded: the queue is full.
        """
        lead = self._roster.known(alias)
        if lead is not None:
            lead.first.gate.check_queue(principal.tenant)

    def turn_away(self, model: LoadedModel, principal: Principal) -> None:
        """Refuse early, while processor time is short, a request that would be refused anyway.

        Raises:
            Overloaded: the queue of the model is full.
        """
        self._limit.look()
        if self._limit.pressed:
            model.gate.check_queue(principal.tenant)

    def may_ask(self, principal: Principal, alias: str) -> bool:
        """Return whether a principal may use a model, and each model behind an alias."""
        names = (alias, *self._roster.behind(alias))
        return all(self._authority.decide(principal, INFER, f"model/{name}").allowed for name in names)

    def refuses_step(self, watch: Watch, to: str, on: Trigger) -> str:
        """Return why an alias may not answer in place of the asked one, as the code of an error; empty: it may."""
        lead = self._roster.known(to)
        if lead is None:
            return UnknownModel.code
        if not self.may_ask(self.current(watch.principal), to):
            return PermissionDenied.code
        if not self._guards.masker.is_as_strict(watch.principal, to, watch.alias):
            return PersonalDataBlocked.code
        gate = lead.first.gate
        return Overloaded.code if on == "busy" and 2 * gate.load_of_all.waiting > gate.capacity.max_waiting else ""

    def authorise(self, principal: Principal, alias: str) -> None:
        """Check that the principal may use the model. Runs before the lookup of the model.

        For an alias that leads to releases of other models, the principal needs the right to those models too: an alias
        grants nothing.

        Raises:
            PermissionDenied: it may not. NotReady: this site may not serve without news of its centre.
        """
        if self.lapsed:
            raise lapse(self.lapsed)
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
        """Return the observer that audits a request, and traces it as `operation` (OpenTelemetry) if sampled."""
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
        """Return another release that answers under a name by now, or the same one if a crashed host is back; else
        None."""
        lead = self._roster.known(name)
        other = None if lead is None else lead.pick(principal, request)
        if other is None or other.served.release != model.served.release:
            return other
        return other if deaths_of(fault) and other.replicas.ready else None
