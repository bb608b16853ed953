"""Turns a request and its prompt tokens into engine orders: context, engine features, `n`, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import msgspec

from ashore.core.errors import ContextTooLong, InvalidRequest, UnsupportedByEngine
from ashore.core.ids import OrderId, TenantId
from ashore.core.sampling import changed_fields
from ashore.data.engines import EngineInfo, Feature, GenerateOrder, check_precision
from ashore.data.path.model import CutBy, GenerationRequest
from ashore.data.path.scoring import wants_scores

FEWEST_ANSWER_TOKENS: Final = 16
"""An answer may be shortened to fit a budget, but not below this."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the engine gets it."""

    ids: list[int]
    max_new_tokens: int
    opens_reasoning: bool = False
    """The template ended inside a `<think>` block, so the answer starts with reasoning."""
    clamped_to: int = 0
    """Tokens left by the context, if more were requested."""
    cut_by: CutBy = ""
    """Why an answer is cut if it uses all of these tokens, unless by the requested length."""
    bounds: tuple[int, int] = (0, 0)
    """The fewest and the most tokens of a prompt that is sent as text: its server alone counts them, and `ids` is
    empty."""
    fits: Callable[[str], bool] | None = None
    """Returns whether a whole answer is the JSON that was asked for, where a server holds it to that."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt, or the most that it may have."""
        return len(self.ids) or self.bounds[1]

    def most_tokens(self, num_choices: int) -> int:
        """Limit of tokens of prompt and answers together."""
        return self.num_tokens + num_choices * self.max_new_tokens

    def fewest_tokens(self, num_choices: int) -> int:
        """Minimum number of tokens worth starting with."""
        return self.num_tokens + num_choices * min(self.max_new_tokens, FEWEST_ANSWER_TOKENS)

    def within(self, tokens: int, num_choices: int) -> Prompt:
        """Return the prompt with answers that fit a limit of tokens, which is at least `fewest_tokens`."""
        each = (tokens - self.num_tokens) // num_choices
        return replace(self, max_new_tokens=min(self.max_new_tokens, each), cut_by="budget")


def room_for_answer(info: EngineInfo, prompt_tokens: int, max_tokens: int | None, min_tokens: int = 0) -> int:
    """Return the limit of answer tokens: as requested, bounded by the context.

    Raises:
        ContextTooLong: the prompt leaves no room at all, or too little for `min_tokens`.
        InvalidRequest: the requested answer exceeds the limit.
    """
    if max_tokens is not None and min_tokens > max_tokens:
        raise InvalidRequest(
            f"min_tokens is {min_tokens} and the answer may have at most {max_tokens} tokens",
            hint="send a smaller min_tokens, or a larger max_tokens",
            param="min_tokens",
        )
    left = info.context_tokens - prompt_tokens
    if left < 1:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and the context of {info.model} is {info.context_tokens} tokens",
            hint="shorten the prompt; one token at least must be left for the answer",
            param="messages",
        )
    if min_tokens > left:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and min_tokens is {min_tokens}; the context of {info.model} is "
            f"{info.context_tokens} tokens",
            hint=f"shorten the prompt, or send min_tokens of at most {left}",
            param="min_tokens",
        )
    return left if max_tokens is None else min(max_tokens, left)


def needed_features(request: GenerationRequest) -> list[tuple[Feature, str]]:
    """Return the engine features that the request needs beyond greedy generation, each with the field that needs it."""
    asked = request.sampling
    needs: list[tuple[Feature, str]] = [
        (_feature(name), name) for name in changed_fields(asked) if name != "temperature" or asked.temperature != 0
    ]
    if request.top_logprobs is not None:
        needs.append(("top_logprobs", "top_logprobs") if request.top_logprobs else ("logprobs", "logprobs"))
    if wants_scores(request):
        needs.append(("score", "echo"))
    if request.grammar is not None:
        needs.append(("grammar", "response_format" if request.tool_choice in ("auto", "none") else "tool_choice"))
    if request.begun:
        needs.append(("resume", "begun"))
    return needs


def check_writes(alias: str, *, embedder: bool) -> None:
    """Check that the model generates text.

    Raises:
        UnsupportedByEngine: it is an encoder.
    """
    if embedder:
        raise UnsupportedByEngine(
            f"{alias!r} is an encoder: it answers /v1/embeddings or /v1/rerank and writes no text",
            hint="name a model of /v1/models whose features are neither embed nor rank",
            param="model",
        )


def fields_of(info: EngineInfo) -> list[str]:
    """Return what an engine can do in the words that clients use."""
    said = {"grammar": "response_format", "resume": "begun", "score": "echo"}
    return [said.get(one, one) for one in info.features if one not in ("speak", "sleep", "distributions")]


def check_features(request: GenerationRequest, info: EngineInfo) -> None:
    """Check that the engine supports the whole request.

    Raises:
        UnsupportedByEngine: it cannot; the message names the engine, the field and what the engine can do.
        InvalidRequest: logit_bias names a token that the model does not have.
    """
    if speaks(info):
        check_said(request)
    for feature, field in needed_features(request):
        if feature not in info.features:
            raise UnsupportedByEngine(
                f"the engine {info.kind!r} behind {request.model!r} cannot do {field!r}; "
                f"it can do: {', '.join(fields_of(info)) or 'greedy generation only'}",
                hint=f"leave {field} out, or use a model on another engine",
                param=field,
            )
    check_precision(request.min_precision, info)
    if request.top_logprobs and request.top_logprobs > info.max_top_logprobs:
        raise UnsupportedByEngine(
            f"top_logprobs is {request.top_logprobs}; the engine {info.kind!r} gives at most {info.max_top_logprobs}",
            hint=f"ask for at most {info.max_top_logprobs}",
            param="top_logprobs",
        )
    check_prompt_ids(request.stop_token_ids, info, param="stop_token_ids")
    wrong = [token for token in request.sampling.logit_bias if not 0 <= token < info.vocab_size]
    if wrong:
        raise InvalidRequest(
            f"logit_bias names token {wrong[0]}; {request.model} has tokens 0 to {info.vocab_size - 1}",
            hint="tokenise with this model's own tokenizer",
            param="logit_bias",
        )


def check_prompt_ids(ids: Sequence[int], info: EngineInfo, *, param: str = "prompt") -> None:
    """Check that every id is a token of the model.

    Raises:
        InvalidRequest: one is not.
    """
    wrong = next((i for i in ids if not 0 <= i < info.vocab_size), None)
    if wrong is not None:
        raise InvalidRequest(
            f"{param} has token id {wrong}; {info.model} has tokens 0 to {info.vocab_size - 1}",
            hint="tokenise with this model's own tokenizer",
            param=param,
        )


def speaks(info: EngineInfo) -> bool:
    """Return whether a model takes messages and returns text."""
    return "speak" in info.features


def check_said(request: GenerationRequest) -> None:
    """Check that a request needs no token ids, and nothing that a server in chat form cannot be asked for.

    Raises:
        UnsupportedByEngine: it does; the message names the field.
    """
    grammar = request.grammar
    needs = {
        "prompt": request.prompt is not None,
        "n": request.num_choices > 1,
        "return_token_ids": request.token_ids or request.tokens_by_id,
        "stop_token_ids": bool(request.stop_token_ids),
        "ignore_eos": request.ignore_eos,
        "continue_final_message": request.continues,
        "thinking_token_budget": request.thinking_tokens is not None,
        "chat_template_kwargs": bool(request.template_options),
        "response_format": grammar is not None and grammar.kind not in ("json_schema", "json_object"),
    }
    if field := next((name for name, is_asked in needs.items() if is_asked), ""):
        raise UnsupportedByEngine(
            f"{request.model!r} takes messages and returns text; it cannot do {field}",
            hint=f"leave {field} out, or use a model whose tokens ashore sees",
            param=field,
        )


def make_orders(
    request: GenerationRequest,
    prompt: Prompt,
    *,
    order_prefix: str,
    stop_token_ids: tuple[int, ...],
    tenant: TenantId,
    partition: str,
    opening: bytes = b"",
    min_precision: str = "",
    adapter: str = "",
) -> list[GenerateOrder]:
    """Return one order per choice. A given seed is incremented for each choice, so that choices differ and are
    reproducible.

    `order_prefix` is unique over all orders: a client may send one request id twice at the same time.
    """
    sampling, seed = request.sampling, request.sampling.seed
    if sampling.min_tokens > prompt.max_new_tokens:  # a budget allows fewer
        sampling = msgspec.structs.replace(sampling, min_tokens=prompt.max_new_tokens)
    told = 0 if request.top_logprobs is None and request.scored else request.top_logprobs
    return [
        GenerateOrder(
            order_id=OrderId(f"{order_prefix}.{choice}"),
            prompt_ids=prompt.ids,
            begun=request.begun,
            max_new_tokens=prompt.max_new_tokens,
            stop_token_ids=(*(() if request.ignore_eos else stop_token_ids), *request.stop_token_ids),
            sampling=sampling if seed is None or choice == 0 else msgspec.structs.replace(sampling, seed=seed + choice),
            top_logprobs=told,
            grammar=request.grammar,
            adapter=adapter or None,
            ignore_eos=request.ignore_eos and not request.stop_token_ids,
            lookup=request.lookup,
            priority=min(0, request.priority),  # above 0 it orders the requests of its tenant alone: see `fairness`
            prefix_partition=partition,
            opening=opening,
            kept=not request.cache.no_store,
            tenant=tenant,
            min_precision=min_precision,
            traceparent=request.arrival.traceparent,
        )
        for choice in range(request.num_choices)
    ]


def _feature(name: str) -> Feature:
    assert name in get_args(Feature)
    return name  # type: ignore[return-value]
