"""The guards of a request besides the model: budget, mask, audit.

The ports, and the twins that let everything pass. Each is called on the request path of every protocol, and on the
shortcut of a repeated request; so none of them may wait on a network or a disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ashore.data.audit import NoteForm, RequestNote
from ashore.data.authority import Principal
from ashore.data.authority.budgets import UNBOUND, Standing
from ashore.data.cache import KeptAnswer
from ashore.data.guard import Guard
from ashore.data.path.model import Arrival, GenerationRequest, ServingEvent

Decode = Callable[[Sequence[int]], str]
"""Token ids to text."""


class Reservation(Protocol):
    """The budget reserved for one request."""

    @property
    def tokens(self) -> int:
        """Limit of tokens of prompt and answers together."""
        ...

    def made(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Report the tokens made so far: they are charged if the answer ends now, or if this process dies."""
        ...

    def leave(self) -> None:
        """Release the concurrency slot: the client has gone. May be called twice."""
        ...

    def settle(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, *, joined: bool = False
    ) -> None:
        """Charge the actual usage and release the rest. `joined`: another request's generation gave the answer."""
        ...

    def release(self, *, forgive: bool = False) -> None:
        """Charge the tokens made (nothing with `forgive`) and release the rest. No effect after `settle`."""
        ...


class Budgets(Protocol):
    """Budgets of principals."""

    @property
    def hits_cost_tokens(self) -> bool:
        """Whether cached answers are charged like fresh ones."""
        ...

    async def reserve(
        self,
        principal: Principal,
        alias: str,
        tokens: int,
        *,
        fewest: int | None = None,
        request_id: str = "",
        joins: bool = False,
    ) -> Reservation:
        """Reserve the maximum cost of a request, or what is left if that is at least `fewest`. `joins`: another
        request's generation answers it.

        Raises:
            BudgetExceeded: a budget does not allow it; the message names the window and when it resets.
        """
        ...

    def charge_hit_now(self, principal: Principal, alias: str, tokens: int) -> Standing | None:
        """Charge a cached answer without waiting and return what is left of its budgets; None: not charged, call
        `charge_hit`."""
        ...

    async def charge_hit(self, principal: Principal, alias: str, tokens: int, *, request_id: str = "") -> None:
        """Charge a cached answer of so many tokens.

        Raises:
            BudgetExceeded: a budget does not allow it.
        """
        ...

    def standing(self, principal: Principal, alias: str, *, hit: bool = False) -> Standing | None:
        """Return what is left, None without a limit; `hit`: of the budgets that a cached answer is charged to. Does
        not wait."""
        ...


class OutwardLike(Protocol):
    """Unmasks one request's answer. Takes events in their order."""

    def take(self, event: ServingEvent) -> Sequence[ServingEvent]:
        """Return the events to send for an event.

        Raises:
            PersonalDataBlocked: the answer contains data that the policy blocks.
        """
        ...


class Masked(Protocol):
    """A masked request, and the way to unmask its answer."""

    @property
    def request(self) -> GenerationRequest:
        """The request as the model may see it."""
        ...

    @property
    def found(self) -> bool:
        """Whether personal data was found, whatever was done with it."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """How many entities of each kind were found."""
        ...

    @property
    def outward(self) -> OutwardLike | None:
        """Transforms every event of the answer; None: pass them unchanged."""
        ...

    @property
    def stamp(self) -> bytes:
        """Identifies the masking policy of the request: its cached answer is found under that policy alone."""
        ...

    @property
    def traces_content(self) -> bool:
        """Whether the policy allows masked texts in traces."""
        ...

    @property
    def guarded(self) -> Mapping[str, int]:
        """How many words the guard lists have found so far, by list."""
        ...

    def may_keep(self, answer: KeptAnswer) -> bool:
        """Return whether an answer is free of personal data under the same policy."""
        ...


class Masker(Protocol):
    """Masks personal data in requests."""

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> Masked:
        """Return the request with personal data replaced.

        Raises:
            PersonalDataBlocked: it contains data that the policy blocks.
        """
        ...

    def mask_inputs(
        self, model: str, inputs: Sequence[str | Sequence[int]], principal: Principal, decode: Decode
    ) -> tuple[Sequence[str | Sequence[int]], Mapping[str, int]]:
        """Return the inputs of an embedder with personal data replaced, and how many entities of each kind they held.

        Raises:
            PersonalDataBlocked: they contain data that the policy blocks.
        """
        ...

    def blacken(self, texts: Sequence[str]) -> Sequence[str]:
        """Return texts for display in which all personal data is masked, whatever the policy allows.

        Equal values get equal placeholders in all of them. Reads every character: not for an event loop.
        """
        ...

    def rules_stamp(self, principal: Principal, alias: str) -> bytes:
        """Return a stamp that changes with the rules for this principal; verdicts under another stamp are invalid."""
        ...

    def is_as_strict(self, principal: Principal, alias: str, asked: str) -> bool:
        """Return whether the rules at an alias are at least as strict as those at the one that was asked."""
        ...


class Span(Protocol):
    """One request in a trace. Does not wait and raises nothing."""

    @property
    def trace_id(self) -> str:
        """Id of the trace that it belongs to."""
        ...

    @property
    def traceparent(self) -> str:
        """Header for the engine, so that its spans are children of this one."""
        ...

    def asked(self, request: GenerationRequest, *, content: bool, entry_id: str = "") -> None:
        """Take the request as the model sees it. `content`: whether masked texts may be exported. `entry_id`: name
        of its cached answer, existing or not; empty: the cache is not used."""
        ...

    def hear(self, event: ServingEvent) -> None:
        """Take the next event as the model wrote it, before unmasking."""
        ...

    def end(self, note: RequestNote) -> None:
        """Take the audit note; the last call."""
        ...


class Tracer(Protocol):
    """Traces requests across programs."""

    def begin(self, operation: str, alias: str, arrival: Arrival) -> Span | None:
        """Return the span of a request; None if it is not sampled."""
        ...

    def repeated(self, note: RequestNote, request_id: str, arrival: Arrival) -> None:
        """Record a request that got a finished response."""
        ...


class Auditor(Protocol):
    """Writes the audit log."""

    @property
    def strict(self) -> bool:
        """Whether no answer may go out before its record is on disk: `durable` is awaited then."""
        ...

    @property
    def keeps_content(self) -> bool:
        """Whether a note carries prompt and answer, which are sealed before they are written."""
        ...

    def check(self) -> None:
        """Check that requests can be audited now.

        Raises:
            AuditUnavailable: they cannot; no audit, no service.
        """
        ...

    def digest(self, text: bytes) -> str:
        """Return the keyed digest of a text; empty without a key."""
        ...

    def note(self, note: RequestNote) -> None:
        """Queue a note. Returns at once; the auditor writes it later."""
        ...

    def repeat(self, form: NoteForm, request_id: str) -> None:
        """Queue the note of a request that got a finished response; the form holds all but its id."""
        ...

    async def durable(self, timeout_s: float = 5.0) -> None:
        """Wait until everything noted before is on disk.

        Raises:
            AuditUnavailable: it was not in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasked:
    """A request without personal data."""

    request: GenerationRequest
    found: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    outward: OutwardLike | None = None
    stamp: bytes = b"none"
    traces_content: bool = False
    guarded: Mapping[str, int] = field(default_factory=dict)

    def may_keep(self, answer: KeptAnswer) -> bool:
        return True


class NoReservation:
    """A reservation without limits."""

    tokens = sys.maxsize

    def made(self, prompt_tokens: int, completion_tokens: int) -> None:
        return None

    def leave(self) -> None:
        return None

    def settle(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, *, joined: bool = False
    ) -> None:
        return None

    def release(self, *, forgive: bool = False) -> None:
        return None


class Unlimited:
    """Budgets without limits: counts requests by principal."""

    hits_cost_tokens = False

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self._reservation = NoReservation()

    async def reserve(
        self,
        principal: Principal,
        alias: str,
        tokens: int,
        *,
        fewest: int | None = None,
        request_id: str = "",
        joins: bool = False,
    ) -> Reservation:
        self.charge_hit_now(principal, alias, tokens)
        return self._reservation

    def charge_hit_now(self, principal: Principal, alias: str, tokens: int) -> Standing | None:
        self.requests[principal.id] = self.requests.get(principal.id, 0) + 1
        return UNBOUND

    async def charge_hit(self, principal: Principal, alias: str, tokens: int, *, request_id: str = "") -> None:
        self.charge_hit_now(principal, alias, tokens)

    def standing(self, principal: Principal, alias: str, *, hit: bool = False) -> Standing | None:
        return None


class SeesNothing:
    """A masker that passes every request unchanged."""

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> Masked:
        return Unmasked(request=request)

    def mask_inputs(
        self, model: str, inputs: Sequence[str | Sequence[int]], principal: Principal, decode: Decode
    ) -> tuple[Sequence[str | Sequence[int]], Mapping[str, int]]:
        return inputs, {}

    def blacken(self, texts: Sequence[str]) -> Sequence[str]:
        return texts

    def rules_stamp(self, principal: Principal, alias: str) -> bytes:
        return b"none"

    def is_as_strict(self, principal: Principal, alias: str, asked: str) -> bool:
        return True


class CountingAuditor:
    """An auditor that only counts outcomes and stores nothing."""

    strict = False
    keeps_content = False

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        """By outcome and cache result."""

    def check(self) -> None:
        return None

    def digest(self, text: bytes) -> str:
        return ""

    def note(self, note: RequestNote) -> None:
        what = (note.outcome, note.cache)
        self.outcomes[what] = self.outcomes.get(what, 0) + 1

    def repeat(self, form: NoteForm, request_id: str) -> None:
        self.note(form.note)

    async def durable(self, timeout_s: float = 5.0) -> None:
        return None


class Followers:
    """Several tracers as one. The trace is that of the first which samples a request."""

    def __init__(self, tracers: Sequence[Tracer]) -> None:
        self._tracers = tuple(tracers)

    def begin(self, operation: str, alias: str, arrival: Arrival) -> Span | None:
        spans = [span for one in self._tracers if (span := one.begin(operation, alias, arrival)) is not None]
        return _Spans(spans) if len(spans) > 1 else spans[0] if spans else None

    def repeated(self, note: RequestNote, request_id: str, arrival: Arrival) -> None:
        for one in self._tracers:
            one.repeated(note, request_id, arrival)


class _Spans:
    """Several spans of one request."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = tuple(spans)

    @property
    def trace_id(self) -> str:
        return self._spans[0].trace_id

    @property
    def traceparent(self) -> str:
        return self._spans[0].traceparent

    def asked(self, request: GenerationRequest, *, content: bool, entry_id: str = "") -> None:
        for one in self._spans:
            one.asked(request, content=content, entry_id=entry_id)

    def hear(self, event: ServingEvent) -> None:
        for one in self._spans:
            one.hear(event)

    def end(self, note: RequestNote) -> None:
        for one in self._spans:
            one.end(note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """All guards of a worker."""

    budgets: Budgets = field(default_factory=Unlimited)
    masker: Masker = field(default_factory=SeesNothing)
    auditor: Auditor = field(default_factory=CountingAuditor)
    tracer: Tracer | None = None
    lists: Guard = field(default_factory=Guard)
    """The guard lists, which the masker goes by."""
