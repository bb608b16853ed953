"""Converts our events and cards to wire messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from ashore.core.ids import RequestId
from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.path import (
    ChoiceEnded,
    Delta,
    Embedding,
    FinishReason,
    ModelCard,
    ServingEvent,
    Started,
    TokenText,
    Usage,
)

FINISH: Final[dict[FinishReason, pb.FinishReason]] = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
}


def answer_event(event: ServingEvent, request_id: RequestId) -> pb.AnswerEvent:
    """Return one event of a stream."""
    match event:
        case Started():
            return pb.AnswerEvent(started=started(event, request_id))
        case Delta():
            return pb.AnswerEvent(delta=_delta(event))
        case ChoiceEnded():
            ended = pb.ChoiceEnded(
                choice=event.choice, finish_reason=FINISH[event.reason], stop_string=event.stop_string or ""
            )
            return pb.AnswerEvent(choice_ended=ended)
        case Usage():
            return pb.AnswerEvent(usage=_usage(event))
        case _:
            assert_never(event)


def whole_answer(events: Iterable[ServingEvent], request_id: RequestId) -> pb.Answer:
    """Return the answer that a whole stream adds up to."""
    answer = pb.Answer()
    choices: dict[int, pb.Choice] = {}
    for event in events:
        match event:
            case Started():
                answer.started.CopyFrom(started(event, request_id))
            case Delta():
                _add(choices.setdefault(event.choice, pb.Choice(index=event.choice)), event)
            case ChoiceEnded():
                choice = choices.setdefault(event.choice, pb.Choice(index=event.choice))
                choice.finish_reason = FINISH[event.reason]
                choice.stop_string = event.stop_string or ""
            case Usage():
                answer.usage.CopyFrom(_usage(event))
            case _:
                assert_never(event)
    answer.choices.extend(choices[at] for at in sorted(choices))
    return answer


def started(event: Started, request_id: RequestId) -> pb.Started:
    """Return the beginning of an answer."""
    return pb.Started(
        request_id=request_id,
        model=event.model,
        release=event.release,
        precision=event.precision,
        prompt_tokens=event.prompt_tokens,
        created_s=event.created_s,
    )


def embed_response(embedding: Embedding) -> pb.EmbedResponse:
    """Return the answer of `Embed`."""
    return pb.EmbedResponse(
        model=embedding.model,
        release=embedding.release,
        precision=embedding.precision,
        vectors=[pb.Vector(values=v) for v in embedding.vectors],
        prompt_tokens=embedding.prompt_tokens,
    )


def models_response(cards: Iterable[ModelCard]) -> pb.ModelsResponse:
    """Return the answer of `Models`."""
    return pb.ModelsResponse(
        models=[
            pb.ModelCard(
                alias=card.alias,
                release=card.release,
                engine=card.kind,
                created_s=card.created_s,
                ready=card.ready,
                embedder=card.embedder,
                precision=card.precision,
                context_tokens=card.context_tokens,
                embedding_size=card.embedding_size,
                features=card.features,
            )
            for card in cards
        ]
    )


def _add(choice: pb.Choice, delta: Delta) -> None:
    choice.text += delta.text
    choice.reasoning += delta.reasoning
    for piece in delta.tool_calls:
        while len(choice.tool_calls) <= piece.index:
            choice.tool_calls.add()
        call = choice.tool_calls[piece.index]
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments += piece.arguments
    choice.logprobs.extend(_token(t) for t in delta.logprobs)


def _delta(delta: Delta) -> pb.Delta:
    return pb.Delta(
        choice=delta.choice,
        text=delta.text,
        reasoning=delta.reasoning,
        tool_calls=[
            pb.ToolCallDelta(index=c.index, id=c.id, name=c.name, arguments=c.arguments) for c in delta.tool_calls
        ],
        logprobs=[_token(t) for t in delta.logprobs],
    )


def _token(token: TokenText) -> pb.TokenLogprob:
    return pb.TokenLogprob(
        text=token.text,
        raw=token.raw,
        logprob=token.logprob,
        top=[pb.TopLogprob(text=text, raw=raw, logprob=logprob) for text, raw, logprob in token.top],
    )


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
