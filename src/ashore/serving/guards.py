"""What stands between a request and its answer besides the model: the budget, the mask, the audit.

The ports, and the twins that let everything pass. Each is called on the request path of every protocol, and on the
shortcut of a repeated request; so none of them may wait on a network or a disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ashore.access import Principal
from ashore.access.budgets import UNBOUND, Standing
from ashore.audit import NoteForm, RequestNote
from ashore.cache import KeptAnswer
from ashore.serving.model import Arrival, GenerationRequest, ServingEvent

Decode = Callable[[Sequence[int]], str]
"""Token ids to text."""


class Reservation(Protocol):
    """What is set aside for one request."""

    @property
    def tokens(self) -> int:
        """How many tokens prompt and answers may have."""
        ...

    def made(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Say how much of the answer exists: so much is charged if it ends now, or if this process dies."""
        ...

    def leave(self) -> None:
        """Free the place among the concurrent ones: the client has gone. May be called twice."""
        ...

    def settle(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, *, joined: bool = False
    ) -> None:
        """Charge what was used, and give the rest back. `joined`: somebody else's generation gave the answer."""
        ...

    def release(self, *, forgive: bool = False) -> None:
        """Charge what was made, nothing with `forgive`, and give the rest back. After `settle`, does nothing."""
        ...


class Budgets(Protocol):
    """How much a principal may still ask for."""

    @property
    def hits_cost_tokens(self) -> bool:
        """Whether what comes from the cache is charged like what is made afresh."""
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
        """Set aside what a request may cost at most, or what is left, where that is `fewest` at least. `joins`:
        somebody else's generation answers it.

        Raises:
            BudgetExceeded: a budget does not allow it; the message names the window and when it resets.
        """
        ...

    def charge_hit_now(self, principal: Principal, alias: str, tokens: int) -> Standing | None:
        """Charge an answer from the cache without waiting for anything, and return what is left of what it cost; None:
        nothing was charged, `charge_hit` has to decide."""
        ...

    async def charge_hit(self, principal: Principal, alias: str, tokens: int, *, request_id: str = "") -> None:
        """Charge an answer from the cache, which had so many tokens.

        Raises:
            BudgetExceeded: a budget does not allow it.
        """
        ...

    def standing(self, principal: Principal, alias: str, *, hit: bool = False) -> Standing | None:
        """Return what is left, None where nothing bounds it; `hit`: of what a kept answer costs. Waits for nothing."""
        ...


class OutwardLike(Protocol):
    """The way back of one request's answer. Takes events in their order."""

    def take(self, event: ServingEvent) -> Sequence[ServingEvent]:
        """Return what the client is told of an event.

        Raises:
            PersonalDataBlocked: the answer holds what the policy blocks.
        """
        ...


class Masked(Protocol):
    """A request without personal data, and the way back."""

    @property
    def request(self) -> GenerationRequest:
        """What the model may see."""
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
        """What every event of the answer goes through; None: they pass as they are."""
        ...

    @property
    def stamp(self) -> bytes:
        """Names the policy that the request was masked by: its answer is found again under that one alone."""
        ...

    @property
    def traces_content(self) -> bool:
        """Whether the policy allows texts, masked, in traces."""
        ...

    def may_keep(self, answer: KeptAnswer) -> bool:
        """Return whether an answer holds no personal data, as the same policy sees it."""
        ...


class Masker(Protocol):
    """Takes personal data out of requests."""

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> Masked:
        """Return the request with personal data replaced.

        Raises:
            PersonalDataBlocked: it holds what the policy blocks.
        """
        ...

    def mask_inputs(
        self, model: str, inputs: Sequence[str | Sequence[int]], principal: Principal, decode: Decode
    ) -> tuple[Sequence[str | Sequence[int]], Mapping[str, int]]:
        """Return the inputs of an embedder with personal data replaced, and how many entities of each kind they held.

        Raises:
            PersonalDataBlocked: they hold what the policy blocks.
        """
        ...

    def blacken(self, texts: Sequence[str]) -> Sequence[str]:
        """Return texts for a person's eyes in which everything that is found is masked, whatever the policy allows.

        The same value has the same stand-in in all of them. Reads every character: not for an event loop.
        """
        ...

    def rules_stamp(self, principal: Principal, alias: str) -> bytes:
        """Return what changes when other rules hold for this principal: a verdict of other rules is worth nothing."""
        ...


class Span(Protocol):
    """One request, as whoever follows traces sees it. Waits for nothing and raises nothing."""

    @property
    def trace_id(self) -> str:
        """Of the trace that it is part of."""
        ...

    @property
    def traceparent(self) -> str:
        """What an engine is told, so that its own spans lie below this one."""
        ...

    def asked(self, request: GenerationRequest, *, content: bool, entry_id: str = "") -> None:
        """Take the request as the model sees it. `content`: whether its texts and the answer's may go out, masked.
        `entry_id`: name of the cached answer to it, whether there is one yet or not; empty: none is looked for."""
        ...

    def hear(self, event: ServingEvent) -> None:
        """Take the next event in the model's words, before masked values are restored."""
        ...

    def end(self, note: RequestNote) -> None:
        """Take what the record says of it; the last call."""
        ...


class Tracer(Protocol):
    """Follows requests across programs."""

    def begin(self, operation: str, alias: str, arrival: Arrival) -> Span | None:
        """Return the span of a request; None where it is not chosen to be followed."""
        ...

    def repeated(self, note: RequestNote, request_id: str, arrival: Arrival) -> None:
        """Take a request that got a finished response."""
        ...


class Auditor(Protocol):
    """Keeps the record."""

    @property
    def strict(self) -> bool:
        """Whether no answer may go out before its record is on disk: `durable` is awaited then."""
        ...

    @property
    def keeps_content(self) -> bool:
        """Whether a note is to carry prompt and answer, which are sealed before they are written."""
        ...

    def check(self) -> None:
        """Return when what a request does can be recorded.

        Raises:
            AuditUnavailable: it cannot; no audit, no service.
        """
        ...

    def digest(self, text: bytes) -> str:
        """Return the keyed digest of a text; empty where there is no key."""
        ...

    def note(self, note: RequestNote) -> None:
        """Take a note. Returns at once; writing is the auditor's business."""
        ...

    def repeat(self, form: NoteForm, request_id: str) -> None:
        """Take the note of a request that got a finished response, which the form has but for its id."""
        ...

    async def durable(self, timeout_s: float = 5.0) -> None:
        """Return when everything noted before is on disk.

        Raises:
            AuditUnavailable: it was not in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasked:
    """A request in which nothing was found."""

    request: GenerationRequest
    found: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    outward: OutwardLike | None = None
    stamp: bytes = b"none"
    traces_content: bool = False

    def may_keep(self, answer: KeptAnswer) -> bool:
        return True


class NoReservation:
    """Nothing was set aside, since nothing is bounded."""

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
    """Budgets without a bound: counts requests by principal."""

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
    """A masker that lets every request pass as it is."""

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


class CountingAuditor:
    """An auditor that only counts outcomes, and keeps nothing of them."""

    strict = False
    keeps_content = False

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        """By outcome and what the cache said."""

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
    """Several tracers as one. The trace is that of the first which follows a request."""

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
    """All of them."""

    budgets: Budgets = field(default_factory=Unlimited)
    masker: Masker = field(default_factory=SeesNothing)
    auditor: Auditor = field(default_factory=CountingAuditor)
    tracer: Tracer | None = None
