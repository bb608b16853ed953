"""Between the request path and the cache: maps a request to a cache query, and an answer to a cache entry and back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from ashore.core.chat import Message
from ashore.core.clock import Clock
from ashore.data.authority import Principal
from ashore.data.cache import AnswerCache, Ask, CachePolicy, FixedEpochs, Found, KeptAnswer, KeptChoice, Question
from ashore.data.path.guards import Masked
from ashore.data.path.model import ChoiceEnded, Delta, GenerationRequest, Hear, ServingEvent, Started, Usage
from ashore.data.path.topology import ServedModel

NOT_IN_FRAME: Final = frozenset((
    "messages", "prompt",  # split into earlier turns and the question
    "request_id", "answer_id",  # which request it is
    "model", "arrival", "cache",  # caller, route and cache options; the alias is in `Ask`
    "left_out",  # recommended values are already in `sampling`
    "min_precision",  # a cached answer was computed at the best one
    "priority", "urgency", "deadline_s", "deaths", "fallback",  # when and by whom it is answered
    "scored",  # the same answer, only with its likelihood
))  # fmt: skip
"""Fields of a request on which its answer does not depend. A field that is missing here separates answers: at worst a
cached one is not found."""

_encode = msgspec.json.Encoder().encode


def find_question(
    cache: AnswerCache,
    request: GenerationRequest,
    served: ServedModel,
    principal: Principal,
    masked: Masked,
) -> Question | None:
    """Return the cache address of a request, None if it is not cacheable. `masked`: the masked request."""
    storable = not masked.found and request.top_logprobs is None and not request.token_ids
    temperature = request.sampling.temperature
    if cache.keeps_out(principal.tenant, served.alias, request.cache, temperature=temperature, storable=storable):
        return None
    return cache.question(ask_of(request, served, principal, storable=storable, masking=masked.stamp))


def ask_of(
    request: GenerationRequest, served: ServedModel, principal: Principal, *, storable: bool, masking: bytes
) -> Ask:
    """Return the cache query of a request: exactly the fields that its answer depends on."""
    before, question = _split(request)
    frame = _encode(
        (
            served.content,
            before,
            "raw text" if isinstance(request.prompt, str) else request.prompt,  # a single-turn chat is another question
            *(getattr(request, name) for name in request.__struct_fields__ if name not in NOT_IN_FRAME),
        )
    )
    asks_in_words = bool(question) and request.prompt is None and request.num_choices == 1
    plain = asks_in_words and not request.tools and request.grammar is None
    return Ask(
        tenant=principal.tenant,
        alias=served.alias,
        release=served.release,
        frame=frame,
        question=question,
        temperature=request.sampling.temperature,
        single_turn=plain and all(message.role == "system" for message in before),
        rewordable=plain,
        storable=storable,
        masking=masking,
        directive=request.cache,
    )


def _split(request: GenerationRequest) -> tuple[tuple[Message, ...], str]:
    """Return the turns before the last user message, and that message."""
    if request.prompt is not None:
        return (), request.prompt if isinstance(request.prompt, str) else ""
    last = request.messages[-1] if request.messages else None
    if last is None or last != Message(role="user", content=last.content):
        return request.messages, ""
    return request.messages[:-1], last.content


def no_cache(clock: Clock) -> AnswerCache:
    """Return a cache that stores nothing."""
    policy = CachePolicy(mode="off")
    return AnswerCache(policy, secret=secrets.token_bytes(32), epochs=FixedEpochs(), clock=clock)


def replay(found: Found, request: GenerationRequest, hear: Hear) -> Usage:
    """Replay a cached answer as the events of a fresh one, and return its usage."""
    answer = found.answer
    hear(
        Started(
            model=request.model,
            release=answer.release,
            precision=answer.precision,
            prompt_tokens=answer.prompt_tokens,
            created_s=answer.created_s,
            cache=found.label,
            age_s=found.age_s,
            good_until_s=found.expires_at_s,
            entry_id=found.entry_id,
            clamped_to=answer.clamped_to,
        )
    )
    for number, choice in enumerate(answer.choices):
        if choice.reasoning:
            hear(Delta(choice=number, reasoning=choice.reasoning))
        if choice.text:
            hear(Delta(choice=number, text=choice.text))
        hear(ChoiceEnded(choice=number, reason=choice.reason, stop_string=choice.stop_string))
    return Usage(
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        reasoning_tokens=answer.reasoning_tokens,
    )


def worth_keeping(events: Sequence[ServingEvent], usage: Usage, num_choices: int) -> KeptAnswer | None:
    """Return the cache entry of a fresh answer; None if it is incomplete, calls tools, or was computed with less
    precision than the model's best."""
    if usage.lowered:
        return None
    texts: list[list[str]] = [[] for _ in range(num_choices)]
    reasonings: list[list[str]] = [[] for _ in range(num_choices)]
    ends: list[ChoiceEnded | None] = [None] * num_choices
    started: Started | None = None
    for event in events:
        match event:
            case Delta():
                if event.tool_calls:
                    return None
                texts[event.choice].append(event.text)
                reasonings[event.choice].append(event.reasoning)
            case ChoiceEnded():
                ends[event.choice] = event
            case Started():
                started = event
    if started is None or started.answered_by:  # an entry belongs to the release that would have answered
        return None
    choices = []
    for text, reasoning, end in zip(texts, reasonings, ends, strict=True):
        if end is None or end.cut_by or end.reason == "tool_calls":
            return None
        choices.append(KeptChoice("".join(text), "".join(reasoning), end.reason, end.stop_string))
    return KeptAnswer(
        release=started.release,
        precision=started.precision,
        created_s=started.created_s,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        choices=tuple(choices),
        clamped_to=started.clamped_to,
    )
