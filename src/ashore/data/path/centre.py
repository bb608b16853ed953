"""What this site cannot answer, answered by its centre: over the centre's OpenAI face, masked, and charged here.

A cut link costs no request that the site could answer: connecting has a second, a failure opens a breaker, and until
the first byte of an answer the site falls back to its own answer, or to its own refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ashore.core.chat import openai_message, openai_tools
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, ContextTooLong, EngineFailed, Overloaded
from ashore.core.sampling import NEUTRAL, SAMPLING_FIELDS
from ashore.core.serversent import DONE, ServerSent
from ashore.data.authority import INFER, Authority, Principal
from ashore.data.path.deadlines import deadline_of
from ashore.data.path.generation import FreshAnswers, Place
from ashore.data.path.masking import NOTICE
from ashore.data.path.model import (
    ChoiceEnded,
    Delta,
    FinishReason,
    GenerationRequest,
    Hear,
    ServingEvent,
    Started,
    ToolCallDelta,
    Usage,
)
from ashore.data.path.models import LoadedModel
from ashore.data.path.reception import Reception
from ashore.kit.decode import UNDECODABLE
from ashore.kit.egress import server_of
from ashore.kit.identity import trust

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("ashore.serving")

Escalate = Literal["never", "overflow", "quality"]
ORDER: Final[tuple[Escalate, ...]] = ("never", "overflow", "quality")
CENTRE: Final = "centre"
CENTRE_CONTEXTS: Final = 64
"""How many contexts of the site's model a prompt may have that the centre is asked."""
CONNECT_S: Final = 1.0
REST_S: Final = (5.0, 10.0, 30.0, 60.0)
"""How long the centre is not asked after so many failures in a row."""
CHARS_PER_TOKEN: Final = 3
ANSWER_TOKENS: Final = 1024
"""Reserved of a budget for an answer whose request names no limit."""
WORD_S: Final = 10.0
"""Between two looks at what the centre allows."""
ASKED_DIRECTLY: Final = frozenset(SAMPLING_FIELDS) - {"logit_bias", "min_tokens"}
_ENDS: Final[Mapping[str, FinishReason]] = {"length": "length", "tool_calls": "tool_calls"}


class CentreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `[sites]` that a worker reads."""

    role: str = ""
    centre: str = ""
    escalate: Escalate = "never"
    escalate_key: str = ""
    escalate_to: dict[str, str] = {}
    escalate_first: tuple[str, ...] = ()
    escalate_wait_s: float = 3.0


class _Chunk(msgspec.Struct):
    """A piece of the centre's stream."""

    choices: list[Any] = []
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class _Unanswered(Exception):
    """The centre did not begin an answer; the site goes on by itself."""


class Centre:
    """Asks the centre's OpenAI face, unless it failed lately. Lives on one event loop."""

    def __init__(
        self,
        settings: CentreSettings,
        *,
        folder: Path,
        authority: Authority,
        clock: Clock,
    ) -> None:
        """Create it; connects to nothing.

        Args:
            settings: Of ashore.toml.
            folder: `sites` of the home: what the centre allows, and the authority of its certificate.
            authority: Decides who may ask the centre: a deny rule on `model/ALIAS:centre` forbids it.
            clock: Time of the breaker.
        """
        self.settings = settings
        self._folder, self._authority, self._clock = folder, authority, clock
        self._allow = (server_of(settings.centre),)
        self._failures, self._again_s = 0, 0.0
        self._client = self._open()
        self.look()

    def look(self) -> None:
        """Read what the last want of the centre allows; without one, what ashore.toml says alone counts."""
        try:
            word = (self._folder / "escalate").read_text()
        except OSError:
            word = "quality"
        said = next((one for one in ORDER if one == word), "never")
        self._least = min((self.settings.escalate, said), key=ORDER.index)

    def allowed(self, why: Escalate, request: GenerationRequest, principal: Principal) -> bool:
        """Return whether a request may be asked of the centre now, for being too large or too many (`overflow`), or
        for what its alias deserves (`quality`)."""
        if self._clock.monotonic_s() < self._again_s or not _is_plain(request):
            return False
        if ORDER.index(self._least) < ORDER.index(why):
            return False
        decision = self._authority.decide(principal, INFER, f"model/{request.model}:{CENTRE}")
        return decision.allowed or not decision.rule

    def wants_first(self, request: GenerationRequest) -> bool:
        """Return whether the alias of a request is one for whose sake the centre is asked first."""
        return request.model in self.settings.escalate_first

    async def ask(self, request: GenerationRequest, *, first_s: float) -> AsyncGenerator[ServingEvent]:
        """Yield the centre's answer, `Started` with its first byte.

        Raises:
            _Unanswered: nothing came within `first_s`; the breaker opens if the link is to blame.
            EngineFailed: the answer broke off.
        """
        import httpx

        from ashore.kit.outgoing import stream_checked

        headers, body = {"content-type": "application/json"}, body_of(request, self.settings.escalate_to)
        if self.settings.escalate_key:
            headers["authorization"] = f"Bearer {self.settings.escalate_key}"
        began = False
        try:
            async with asyncio.timeout(first_s) as alarm:
                opened = stream_checked(
                    self._client, f"{self.settings.centre.rstrip('/')}/v1/chat/completions", self._allow, method="POST",
                    headers=headers, content=body,
                )  # fmt: skip
                async with opened as answer:
                    if answer.status_code != 200:
                        raise _Unanswered(f"the centre answered {answer.status_code}")
                    async for event in _events(answer, request, len(body), int(self._clock.now_s())):
                        alarm.reschedule(None)
                        began, self._failures = True, 0
                        yield event
        except (httpx.HTTPError, OSError, TimeoutError, AshoreError) as fault:
            self._rest(fault)
            if isinstance(fault, EngineFailed) and began:
                raise
            if began:
                raise EngineFailed(
                    f"the centre's answer broke off: {fault or type(fault).__name__}", hint="send it again"
                ) from fault
            raise _Unanswered(str(fault)) from fault

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._client.aclose()

    def _rest(self, fault: Exception) -> None:
        self._failures += 1
        rest_s = REST_S[min(self._failures, len(REST_S)) - 1]
        self._again_s = self._clock.monotonic_s() + rest_s
        log.warning("the centre does not answer (%s); not asked for %g s", fault or type(fault).__name__, rest_s)

    def _open(self) -> httpx.AsyncClient:
        import httpx

        authority = self._folder / "centre-ca.pem"
        verify = trust("the centre", str(authority) if authority.is_file() else "")
        return httpx.AsyncClient(trust_env=False, verify=verify, timeout=httpx.Timeout(60.0, connect=CONNECT_S))


class EscalatedAnswers(FreshAnswers):
    """Fresh answers of a site that may ask its centre."""

    def __init__(self, *args: Any, centre: Centre, **more: Any) -> None:
        super().__init__(*args, **more)
        self._centre = centre

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
        """Generate an answer here, or at the centre. As `FreshAnswers.answer`."""
        here = partial(super().answer, model, request, principal, arrived_at, place, hear, shared=shared)
        there = partial(self._ask, model, request, principal, arrived_at, place, hear)
        if self._centre.wants_first(request) and self._centre.allowed("quality", request, principal):
            with suppress(_Unanswered):
                return await there(could=True)
        try:
            return await here()
        except (Overloaded, ContextTooLong) as fault:
            if not self._centre.allowed("overflow", request, principal):
                raise
            try:
                return await there(could=False)
            except _Unanswered as why:
                raise fault from why

    async def _ask(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        principal: Principal,
        arrived_at: float,
        place: Place,
        hear: Hear,
        *,
        could: bool,
    ) -> Usage:
        """Emit the centre's answer. `could`: the site can answer as well, so it waits for a moment only.

        Raises:
            _Unanswered: no event was sent.
        """
        deadline = deadline_of(self._roster.topology.admission, request.deadline_s, arrived_at)
        leaving = msgspec.structs.replace(request, model=f"{request.model}:{CENTRE}")
        masked = await self._reader.masked(
            leaving, model.text, model.info, principal, deadline.begin_by, contexts=CENTRE_CONTEXTS
        )
        leaving = msgspec.structs.replace(masked.request, model=request.model)
        prompt_tokens = sum(len(one.content) for one in leaving.messages) // CHARS_PER_TOKEN
        most = prompt_tokens + request.num_choices * (request.max_tokens or ANSWER_TOKENS)
        reservation = await self._budgets.reserve(
            principal, request.model, most, fewest=prompt_tokens, request_id=request.request_id
        )
        place.take(reservation)
        usage, made = Usage(prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=0), 0
        first_s = max(0.0, deadline.begin_by - self._clock.monotonic_s())
        try:
            asked = self._centre.ask(
                leaving, first_s=min(first_s, self._centre.settings.escalate_wait_s) if could else first_s
            )
            async with aclosing(asked) as events:
                async for event in events:
                    if isinstance(event, Usage):
                        usage = event
                        continue
                    made += isinstance(event, Delta)
                    reservation.made(prompt_tokens, made)
                    for one in (event,) if masked.outward is None else masked.outward.take(event):
                        if not (isinstance(one, Delta) and one.text == NOTICE):  # added once, as for every answer
                            hear(one)
            self._count(request.model, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            reservation.settle(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            return usage
        except _Unanswered:
            reservation.release(forgive=True)
            raise
        finally:
            reservation.release()


def _is_plain(request: GenerationRequest) -> bool:
    """Return whether the OpenAI form says all of a request: ids of tokens and what depends on them stay here."""
    grammar = request.grammar
    return (
        request.prompt is None
        and request.top_logprobs is None
        and not (request.token_ids or request.continues or request.stop_token_ids or request.ignore_eos)
        and not (request.sampling.logit_bias or request.sampling.min_tokens or request.min_precision)
        and (grammar is None or grammar.kind in ("json_schema", "json_object"))
    )


def body_of(request: GenerationRequest, names: Mapping[str, str]) -> bytes:
    """Return a masked request in OpenAI's form, with the centre's name of its model."""
    body: dict[str, Any] = {
        "model": names.get(request.model, request.model),
        "messages": [openai_message(one) for one in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": request.num_choices,
    }
    for name in ASKED_DIRECTLY - request.left_out:
        value = getattr(request.sampling, name)
        if value is not None and value != getattr(NEUTRAL, name):
            body[name] = value
    if request.max_tokens is not None:
        body["max_completion_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body |= openai_tools(request.tools, request.tool_choice)
        body["parallel_tool_calls"] = not request.one_call
    if request.grammar is not None:
        text = request.grammar.text
        schema = {"name": "answer", "schema": msgspec.Raw(text.encode())} if text else None
        body["response_format"] = {"type": request.grammar.kind} | ({"json_schema": schema} if schema else {})
    return msgspec.json.encode(body)


async def _events(
    answer: httpx.Response, request: GenerationRequest, sent_bytes: int, now_s: int
) -> AsyncIterator[ServingEvent]:
    """Yield the events of a stream of server-sent events. No more tokens are believed than bytes were sent and came."""
    is_whole, ended, has_begun, come_bytes = False, set[int](), False, 0
    async for data in _data(answer):
        come_bytes += len(data)
        if data == DONE:
            is_whole = True
            break
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
            events = [one for choice in chunk.choices for one in _choice_events(choice, request)]
            usage = None if chunk.usage is None else _usage(chunk.usage, sent_bytes, come_bytes)
        except (*UNDECODABLE, KeyError, TypeError, ValueError) as fault:
            raise EngineFailed(f"the centre sent a piece that cannot be read: {fault}") from fault
        if chunk.error is not None:
            raise EngineFailed(f"the centre's answer failed: {str(chunk.error.get('message', ''))[:200]}")
        if not has_begun:
            has_begun = True
            yield Started(
                model=request.model, release=CENTRE, precision="", prompt_tokens=0, created_s=now_s, answered_by=CENTRE
            )
        for event in events:
            if isinstance(event, ChoiceEnded):
                ended.add(event.choice)
            yield event
        if usage is not None:
            yield usage
    if not is_whole or len(ended) < request.num_choices:
        raise EngineFailed("the centre's answer ended before it was whole", hint="send it again")


async def _data(answer: httpx.Response) -> AsyncIterator[bytes]:
    reader = ServerSent("the centre")
    async for piece in answer.aiter_raw():
        for data in reader.take(piece):
            yield data


def _choice_events(choice: dict[str, Any], request: GenerationRequest) -> list[ServingEvent]:
    number, said = int(choice["index"]), choice.get("delta") or {}
    if not 0 <= number < request.num_choices:
        raise ValueError(f"there is no choice {number}")
    calls = tuple(
        ToolCallDelta(
            index=int(call["index"]), id=str(call.get("id") or ""),
            name=str((call.get("function") or {}).get("name") or ""),
            arguments=str((call.get("function") or {}).get("arguments") or ""),
        )
        for call in said.get("tool_calls") or ()
    )  # fmt: skip
    text, reasoning = str(said.get("content") or ""), str(said.get("reasoning_content") or "")
    found: list[ServingEvent] = []
    if text or reasoning or calls:
        found.append(Delta(choice=number, text=text, reasoning=reasoning, tool_calls=calls))
    if (reason := choice.get("finish_reason")) is not None:
        found.append(ChoiceEnded(choice=number, reason=_ENDS.get(reason, "stop")))
    return found


def _usage(told: Mapping[str, Any], sent_bytes: int, come_bytes: int) -> Usage:
    details = told.get("prompt_tokens_details") or {}
    prompt_tokens = min(max(0, int(told["prompt_tokens"])), sent_bytes)
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(max(0, int(details.get("cached_tokens") or 0)), prompt_tokens),
        completion_tokens=min(max(0, int(told["completion_tokens"])), come_bytes),
    )


async def keep_to_word(reception: Reception, home: Path, clock: Clock, centre: Centre | None) -> None:
    """Let a site serve without news for as long as its centre allows: `sites/until` says until when, and who. And have
    `centre` asked for what the newest assignment allows."""
    while True:
        if centre is not None:
            centre.look()
        reception.lapsed = ""
        with suppress(OSError, ValueError):
            until_s, days, host = (home / "sites" / "until").read_text().split(maxsplit=2)
            if 0 < float(until_s) < clock.now_s():
                reception.lapsed = f"this site has had no news of its centre ({host}) for {days} days, and the centre \
allows no more"
        await asyncio.sleep(WORD_S)


def centre_of(told: Mapping[str, Any], home: str, *, authority: Authority, clock: Clock) -> Centre | None:
    """Return what asks the centre, as `[sites]` says; None where this is no site, or asks nobody."""
    settings = msgspec.convert(told, CentreSettings)
    if settings.role != "site" or settings.escalate == "never" or not settings.centre:
        return None
    return Centre(settings, folder=Path(home) / "sites", authority=authority, clock=clock)
