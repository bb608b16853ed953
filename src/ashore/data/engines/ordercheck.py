"""Checks of an order common to all adapters, so that the same mistake gets the same answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import cast

from ashore.core.errors import ContextTooLong, InvalidRequest, KvCacheExhausted, UnsupportedByEngine
from ashore.core.nearest import did_you_mean
from ashore.core.sampling import NEUTRAL, SAMPLING_FIELDS, changed_fields, number_range
from ashore.data.engines.model import EngineInfo, Feature, GenerateOrder, ScoreText


def check_order(order: GenerateOrder, info: EngineInfo, adapters: Collection[str] = ()) -> None:
    """Refuse an order that the engine described by `info` cannot run, `adapters` being the names that are loaded.

    Raises:
        InvalidRequest: no prompt, no tokens to make, a token id outside the vocabulary, a number out of range, or an
            unknown adapter.
        ContextTooLong: prompt and answer together are longer than the context; both numbers are in the message.
        KvCacheExhausted: the prompt alone is larger than the whole KV cache.
        UnsupportedByEngine: it needs a feature that the engine lacks.
    """
    check_ids(order.prompt_ids, info)
    if not 0 <= order.begun < len(order.prompt_ids):
        raise InvalidRequest(f"begun is {order.begun}; expected 0 to {len(order.prompt_ids) - 1}, the prompt but one")
    if order.max_new_tokens < 1:
        raise InvalidRequest(f"max_new_tokens is {order.max_new_tokens}; expected at least 1")
    total = len(order.prompt_ids) + order.max_new_tokens
    if total > info.context_tokens:
        raise ContextTooLong(
            f"the prompt has {len(order.prompt_ids)} tokens and the answer may have "
            f"{order.max_new_tokens}: {total} in total; the context of {info.model} is {info.context_tokens}",
            hint="shorten the prompt or ask for fewer tokens",
        )
    if len(order.prompt_ids) >= info.kv_tokens:
        raise KvCacheExhausted(
            f"the prompt has {len(order.prompt_ids)} tokens and the KV cache holds {info.kv_tokens}",
            hint="shorten the prompt, or raise kv_tokens of the replica",
        )
    for feature in _wanted(order):
        if feature not in info.features:
            raise UnsupportedByEngine(
                f"the engine {info.kind!r} does not support {feature!r}; it supports {', '.join(info.features)}",
                hint="omit the field, or serve the model with another engine",
            )
    check_precision(order.min_precision, info)
    if order.adapter is not None and order.adapter not in adapters:
        raise InvalidRequest(f"there is no adapter {order.adapter!r}", hint=did_you_mean(order.adapter, adapters))
    check_top_logprobs(order.top_logprobs or 0, info)
    if order.sampling.logit_bias:
        check_ids(list(order.sampling.logit_bias), info, where="logit_bias")
    for name in SAMPLING_FIELDS:
        bounds, value = number_range(name), getattr(order.sampling, name)
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            raise InvalidRequest(f"{name} is {value}; expected {bounds[0]:g} to {bounds[1]:g}", param=name)


def check_precision(least: str, info: EngineInfo) -> None:
    """Refuse a minimum precision that the engine does not reach. `least` empty: any precision.

    Raises:
        UnsupportedByEngine: it does not; the message names the supported ones.
    """
    known = info.rungs or (info.precision,)
    if least and least not in known:
        raise UnsupportedByEngine(
            f"no answer of {info.model} has the precision {least[:20]!r}; it answers in {', '.join(known)}",
            hint=f"ask for {known[0]}, or leave the least precision out",
            param="x-ashore-min-precision",
        )


def check_top_logprobs(number: int, info: EngineInfo) -> None:
    """Refuse more log-probabilities per token than the engine returns.

    Raises:
        InvalidRequest: it is negative.
        UnsupportedByEngine: it is too large.
    """
    if number < 0:
        raise InvalidRequest(f"top_logprobs is {number}; expected 0 or more")
    if number > info.max_top_logprobs:
        raise UnsupportedByEngine(
            f"top_logprobs is {number}; the limit of the engine {info.kind!r} is {info.max_top_logprobs}"
        )


def check_scored(texts: Sequence[ScoreText], info: EngineInfo, *, top_logprobs: int = 0) -> None:
    """Refuse texts that the engine described by `info` cannot score.

    Raises:
        InvalidRequest: a text without tokens to score, a `start` below 1, or ids beyond the vocabulary.
        UnsupportedByEngine: too many `top_logprobs`.
        ContextTooLong: a text is longer than the context.
    """
    check_top_logprobs(top_logprobs, info)
    for text in texts:
        check_ids(text.ids, info, where="the text")
        if not 1 <= text.start < len(text.ids):
            raise InvalidRequest(
                f"cannot score a text of {len(text.ids)} tokens from position {text.start}",
                hint="a text to score needs at least two tokens, and a start between 1 and the last one",
            )
        if len(text.ids) > info.context_tokens:
            raise ContextTooLong(f"the text has {len(text.ids)} tokens; the context has {info.context_tokens}")


def check_ids(ids: Sequence[int], info: EngineInfo, *, where: str = "the prompt") -> None:
    """Refuse token ids in `where` that the model does not have.

    Raises:
        InvalidRequest: the list is empty, or an id is outside the vocabulary; the message names it.
    """
    if not ids:
        raise InvalidRequest(f"{where} has no tokens; expected at least one")
    if min(ids) < 0 or max(ids) >= info.vocab_size:
        at = next(i for i, token_id in enumerate(ids) if not 0 <= token_id < info.vocab_size)
        raise InvalidRequest(
            f"token id {ids[at]} at position {at} of {where} is outside the vocabulary of {info.vocab_size} tokens",
            hint="use the tokenizer of this model",
        )


def _wanted(order: GenerateOrder) -> Iterator[Feature]:
    """Yield the features that the order uses. A field at its neutral value uses none."""
    if order.sampling != NEUTRAL and order.sampling.temperature != 0:
        yield "temperature"
    for name in changed_fields(order.sampling):  # each is a feature of the same name
        if name != "temperature":
            yield cast(Feature, name)
    if order.top_logprobs is not None:
        yield "top_logprobs" if order.top_logprobs else "logprobs"
    if order.grammar is not None:
        yield "grammar"
    if order.begun:
        yield "resume"
    if order.adapter is not None:
        yield "adapters"
