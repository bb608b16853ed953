"""`/v1/completions`: plain text or token ids in, text out, no chat template."""

from __future__ import annotations

from typing import Literal

import msgspec

from ashore.core.errors import AshoreError, InvalidRequest
from ashore.core.sampling import left_out
from ashore.data.bounds import check_streamed_echo
from ashore.data.http.errors import openai_error
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import (
    UsageOut,
    asked_sampling,
    cut_json,
    cut_of,
    grammar_of,
    id_for,
    prompts_of,
    stops_of,
    terms_of,
    token_stops_of,
    usage_out,
)
from ashore.data.http.openai.types import CompletionRequest
from ashore.data.http.streaming import Choice, WholeAnswer
from ashore.data.path import ChoiceEnded, Delta, GenerationRequest, Started, TokenText, Usage

_encode = msgspec.json.Encoder().encode

MOST_PROMPTS = 64


class LegacyLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities in the format of the completions API."""

    tokens: list[str]
    token_logprobs: list[float | None]
    """None for the first token of a prompt."""
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"]
    cut_by: str | msgspec.UnsetType = msgspec.UNSET
    """`deadline` or `budget`, where one of them ended it; the reason is `length` then."""
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    stop_reason: int | msgspec.UnsetType | None = msgspec.UNSET
    """These two where the request asks for ids."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageOut


def to_generations(request: CompletionRequest, exchange: Exchange) -> list[GenerationRequest]:
    """Return the generation requests, one per prompt.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    prompts = prompts_of(request.prompt, "prompt")
    if len(prompts) > MOST_PROMPTS:
        raise InvalidRequest(f"prompt has {len(prompts)} entries; the limit is {MOST_PROMPTS}", param="prompt")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise InvalidRequest(
            f"best_of is {request.best_of} and n is {request.n or 1}; ashore returns every choice it generates",
            hint="send n in place of best_of, and choose among the choices yourself",
            param="best_of",
        )
    if request.continue_final_message:
        raise InvalidRequest(
            "continue_final_message is for messages", hint="leave it out", param="continue_final_message"
        )
    if request.suffix and (request.echo or not all(isinstance(prompt, str) for prompt in prompts)):
        raise InvalidRequest(
            "suffix needs a prompt of text, and no echo", hint="leave suffix or echo out", param="suffix"
        )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    if request.stream and request.echo and request.logprobs is not None:
        check_streamed_echo(prompts[0])
    if request.return_token_ids and (request.echo or request.stop):
        raise InvalidRequest(
            "return_token_ids does not go with echo or stop", hint="give stop_token_ids", param="return_token_ids"
        )
    if request.begun and not (isinstance(prompts[0], tuple) and request.begun < len(prompts[0]) and len(prompts) == 1):
        raise InvalidRequest(
            f"begun is {request.begun}; it needs one prompt of more token ids than that",
            hint="send the ids of the prompt and of the answer so far",
            param="begun",
        )
    if request.begun and ((request.n or 1) > 1 or request.echo):
        raise InvalidRequest("begun goes with one choice, and without echo", hint="leave them out", param="begun")
    if request.max_tokens == 0 and not request.echo:
        raise InvalidRequest(
            "max_tokens is 0 and echo is off, so the answer would be empty",
            hint="set max_tokens to at least 1, or set echo",
            param="max_tokens",
        )
    if request.stream and len(prompts) > 1:
        raise InvalidRequest(
            f"a streamed request takes one prompt; this one has {len(prompts)}",
            hint="send one request for each prompt",
            param="prompt",
        )
    return [
        GenerationRequest(
            model=request.model,
            prompt=prompt,
            begun=request.begun or 0,
            sampling=asked_sampling(request),
            left_out=left_out(request),
            num_choices=request.n or 1,
            max_tokens=16 if request.max_tokens is None else request.max_tokens,
            stop=stops_of(request.stop),
            top_logprobs=request.logprobs,
            token_ids=bool(request.return_token_ids),
            tokens_by_id=bool(request.return_tokens_as_token_ids),
            prefix_salt=request.cache_salt or "",
            grammar=grammar_of(request.response_format),
            suffix=request.suffix or "",
            stop_token_ids=token_stops_of(request),
            echo=bool(request.echo),
            ignore_eos=bool(request.ignore_eos),
            lookup=request.lookup is not False,
            **terms_of(exchange),
        )
        for prompt in prompts
    ]


def render_completion(answers: list[WholeAnswer], exchange: Exchange, *, token_ids: bool, logprobs: bool) -> bytes:
    """Return the whole answers as one JSON object; choices of the first prompt come first."""
    started = answers[0].started
    choices = [choice for answer in answers for choice in answer.choices]
    usages = [answer.usage for answer in answers]
    return _encode(
        Completion(
            id=id_for("cmpl-", exchange.request_id),
            created=started.created_s,
            model=started.model,
            system_fingerprint=started.release,
            choices=[
                _choice(index, choice, token_ids=token_ids, logprobs=logprobs) for index, choice in enumerate(choices)
            ],
            usage=usage_out(
                Usage(
                    prompt_tokens=sum(u.prompt_tokens for u in usages),
                    cached_tokens=sum(u.cached_tokens for u in usages),
                    completion_tokens=sum(u.completion_tokens for u in usages),
                    reasoning_tokens=sum(u.reasoning_tokens for u in usages),
                    accepted_tokens=sum(u.accepted_tokens for u in usages),
                    rejected_tokens=sum(u.rejected_tokens for u in usages),
                )
            ),
        )
    )


def legacy_logprobs(tokens: tuple[TokenText, ...] | list[TokenText], offset: int) -> LegacyLogprobs | None:
    """Return log-probabilities in the legacy format, None if there are none; `offset` is where the first token
    starts."""
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return LegacyLogprobs(
        tokens=[t.text for t in tokens],
        token_logprobs=[None if t.first else t.logprob for t in tokens],
        top_logprobs=[_best(t) for t in tokens] if any(t.top for t in tokens) else None,
        text_offset=offsets,
    )


def _best(token: TokenText) -> dict[str, float] | None:
    return None if token.first else {text: logprob for text, _, logprob in token.top}


class CompletionChunks:
    """Renders a stream of `text_completion` chunks."""

    def __init__(
        self,
        exchange: Exchange,
        num_choices: int,
        *,
        include_usage: bool,
        token_ids: bool = False,
        logprobs: bool = True,
    ) -> None:
        self._token_ids = token_ids
        self._tells_logprobs = logprobs
        self._id = id_for("cmpl-", exchange.request_id)
        self._include_usage = include_usage
        self._after = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._offsets = [0] * num_choices
        self._base = b""

    def opened(self, started: Started) -> bytes:
        self._base = b'data: {"id":%s,"object":"text_completion","created":%d,"model":%s,"system_fingerprint":%s' % (
            _encode(self._id),
            started.created_s,
            _encode(started.model),
            _encode(started.release),
        )
        return b""

    def delta(self, delta: Delta) -> bytes:
        logprobs = b"null"
        if delta.logprobs and self._tells_logprobs:
            logprobs = _encode(legacy_logprobs(delta.logprobs, self._offsets[delta.choice]))
            self._offsets[delta.choice] += sum(len(t.text) for t in delta.logprobs)
        ids = b',"token_ids":%b' % _encode([t.token_id for t in delta.logprobs]) if self._token_ids else b""
        return self._chunk(delta.choice, _encode(delta.text), logprobs, b"null" + ids)

    def ended(self, ended: ChoiceEnded) -> bytes:
        reason = b'"length"' if ended.reason == "length" else b'"stop"'
        if self._token_ids:
            reason += b',"token_ids":[],"stop_reason":%b' % _encode(ended.stop_token_id)
        return self._chunk(ended.choice, b'""', b"null", reason + cut_json(ended))

    def closed(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return b"data: [DONE]\n\n"
        return b'%b,"choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % (self._base, _encode(usage_out(usage)))

    def failed(self, error: AshoreError) -> bytes:
        return b"data: " + openai_error(error) + b"\n\n"

    def _chunk(self, index: int, text: bytes, logprobs: bytes, reason: bytes) -> bytes:
        return b'%b,"choices":[{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._base,
            index,
            text,
            logprobs,
            reason,
            self._after,
        )


def _choice(index: int, choice: Choice, *, token_ids: bool, logprobs: bool) -> CompletionChoice:
    assert choice.ended is not None
    return CompletionChoice(
        index=index,
        text="".join(choice.text),
        logprobs=legacy_logprobs(choice.logprobs if logprobs else [], 0),
        finish_reason="length" if choice.ended.reason == "length" else "stop",
        cut_by=cut_of(choice.ended),
        token_ids=[token.token_id for token in choice.logprobs] if token_ids else msgspec.UNSET,
        stop_reason=choice.ended.stop_token_id if token_ids else msgspec.UNSET,
    )
