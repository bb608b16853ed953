"""Builds the audit record of a request from its prompt and streamed answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, ContentBlocked
from ashore.core.ids import RequestId
from ashore.data.audit import NoteForm, RequestNote
from ashore.data.authority import Principal
from ashore.data.cache import Ready
from ashore.data.path.guards import Auditor, Span
from ashore.data.path.model import Arrival, Delta, GenerationRequest, Receipt, ServingEvent, Started, Usage
from ashore.data.path.section import Trigger

Outcome = Literal["answered", "failed", "cancelled"]

_encode: Final = msgspec.json.Encoder().encode


class Watch:
    """Observes an answer and audits its outcome."""

    __slots__ = (
        "_arrived_at",
        "_auditor",
        "_cache",
        "_cached_tokens",
        "_clock",
        "_completion_tokens",
        "_error_code",
        "_moved",
        "_noted",
        "_pieces",
        "_precision",
        "_prompt",
        "_prompt_tokens",
        "_request_id",
        "alias",
        "answering",
        "arrival",
        "fallback",
        "guarded",
        "masked",
        "outcome",
        "principal",
        "receipt",
        "release",
        "revoked",
        "span",
        "told",
    )

    def __init__(
        self,
        auditor: Auditor,
        clock: Clock,
        *,
        request_id: RequestId,
        alias: str,
        principal: Principal,
        prompt: bytes,
        arrival: Arrival,
        span: Span | None = None,
    ) -> None:
        self._auditor, self._clock, self._arrived_at = auditor, clock, clock.monotonic_s()
        self._request_id, self._prompt, self.arrival, self.span = request_id, prompt, arrival, span
        self.alias, self.principal, self.release = alias, principal, ""
        self.answering: tuple[str, Trigger] | None = None
        """The alias that answers in its place and what led to it; None: it answers itself."""
        self.fallback: list[str] = []
        """The aliases that were tried in its place or passed over, with why."""
        self.outcome: Outcome = "cancelled"
        self.receipt = Receipt()
        self.masked: Mapping[str, int] = {}
        self.guarded: Mapping[str, int] = {}
        self._cache = "miss"
        self._error_code = self._precision = self._moved = ""
        self._prompt_tokens = self._completion_tokens = self._cached_tokens = 0
        self._pieces: dict[int, list[str]] = {}
        self._noted = False
        self.revoked: AshoreError | None = None
        """Why its caller lost the right to it while it ran."""
        self.told = False
        """Whether an answer has begun."""

    def hear(self, event: ServingEvent) -> None:
        """Process the next event, as the client gets it."""
        if isinstance(event, Delta):
            if event.text or event.tool_calls:
                pieces = self._pieces.setdefault(event.choice, [])
                pieces.append(event.text)
                if event.tool_calls:
                    pieces.extend(f"{call.name}{call.arguments}" for call in event.tool_calls)
        elif isinstance(event, Started):
            self.told = True
            self._cache = event.cache
            if event.cache == "miss":
                self.release = event.release
            self._prompt_tokens = event.prompt_tokens
        elif isinstance(event, Usage):
            self._prompt_tokens, self._completion_tokens = event.prompt_tokens, event.completion_tokens
            self._cached_tokens, self._precision = event.cached_tokens, event.precision
            self._moved = event.moved

    def failed(self, fault: AshoreError) -> None:
        """Record that the answer failed."""
        self.outcome, self._error_code = "failed", fault.code
        if isinstance(fault, ContentBlocked):
            self.guarded = {**self.guarded, **fault.found}

    def begin(self) -> None:
        """Record that an answer begins; nothing may be sent before that is on disk."""
        self._auditor.note(self._note("begun"))

    async def ended(self) -> None:
        """Record that the answer is whole, and wait until that is on disk; its last piece waits for it.

        Raises:
            AuditUnavailable: it could not be written.
        """
        self.outcome = "answered"
        self.note()
        await self._auditor.durable()

    def note(self) -> None:
        """Record the outcome. The first call counts."""
        if self._noted:
            return
        self._noted = True
        note = self._note(self.outcome)
        self.receipt.note = note
        self._auditor.note(note)
        if self.span is not None:
            self.span.end(note)

    def _note(self, outcome: str) -> RequestNote:
        digest, answer = self._auditor.digest, self._answer()
        return RequestNote(
            request_id=self._request_id,
            principal=self.principal.id,
            tenant=self.principal.tenant,
            alias=self.alias,
            release=self.release,
            outcome=outcome,
            cache=self._cache,
            key=self.principal.key_id,
            origin=self.arrival.origin,
            route=self.arrival.route,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cached_tokens=self._cached_tokens,
            masked=dict(self.masked),
            ignored=self.arrival.ignored,
            trace=self.arrival.trace,
            fallback=", ".join(self.fallback),
            guard=", ".join(f"{name}={count}" for name, count in self.guarded.items()),
            error_code=self._error_code,
            precision=self._precision,
            moved=self._moved,
            latency_ms=(self._clock.monotonic_s() - self._arrived_at) * 1e3,
            prompt=digest(self._prompt),
            answer=digest(answer) if answer else "",
            content=(self._prompt, answer) if self._auditor.keeps_content and outcome != "begun" else None,
        )

    def _answer(self) -> bytes:
        """Return the choices one below the other; a single one as its plain text."""
        choices = ("".join(self._pieces[number]) for number in sorted(self._pieces))
        return "\n".join(choices).encode("utf-8", "surrogatepass")


def prompt_bytes(request: GenerationRequest) -> bytes:
    """Return the prompt in the form that the audit log digests.

    A raw prompt is its text; a fill-in-the-middle prompt the JSON of both texts. A conversation of one user message is
    that message. Anything else is the JSON of all turns, or of the token ids.
    """
    asked = request.prompt
    if asked is None:
        if len(request.messages) == 1 and request.messages[0].role == "user":
            asked = request.messages[0].content
        else:
            return _safe_json(request.messages)
    elif request.suffix:
        return _safe_json((asked, request.suffix))
    return asked.encode("utf-8", "surrogatepass") if isinstance(asked, str) else _safe_json(asked)


class Told:
    """The audit note of a finished response, and the form of its repeats."""

    __slots__ = ("_for", "_form", "_note")

    def __init__(self, note: RequestNote | None) -> None:
        self._note = note
        self._for: tuple[Principal, str, str] | None = None
        self._form: NoteForm | None = None

    def form(self, ready: Ready, principal: Principal, arrival: Arrival) -> NoteForm:
        """Return the form for this caller: mostly the same client on the same route as before. A traced request has
        its own."""
        if arrival.trace:
            return NoteForm(self._noted(ready, principal, arrival))
        asked = (principal, arrival.origin, arrival.route)
        if self._form is None or self._for != asked:
            self._for, self._form = asked, NoteForm(self._noted(ready, principal, arrival))
        return self._form

    def _noted(self, ready: Ready, principal: Principal, arrival: Arrival) -> RequestNote:
        note = self._note or RequestNote(
            request_id="", principal="", tenant="", alias=ready.alias, release=ready.release, outcome="", cache=""
        )
        return msgspec.structs.replace(
            note,
            request_id="",
            principal=principal.id,
            tenant=principal.tenant,
            outcome="answered",
            cache=ready.label,
            key=principal.key_id,
            origin=arrival.origin,
            route=arrival.route,
            trace=arrival.trace,
            latency_ms=0.0,
            error_code="",
            fallback="",
            guard="",
            moved="",
            content=None,
        )


def _safe_json(value: object) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:  # lone surrogates, which a template refuses later
        return repr(value).encode("utf-8", "backslashreplace")
