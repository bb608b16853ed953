"""Orders that this engine cannot run, refused one by one before they touch anything."""

from __future__ import annotations

from collections.abc import Collection

from ashore.core import did_you_mean
from ashore.engines.model import EngineInfo, GenerateOrder
from ashore.errors import ContextTooLong, InvalidRequest, KvCacheExhausted

MAX_TOP_LOGPROBS = 20


def check_order(order: GenerateOrder, info: EngineInfo, adapters: Collection[str] = ()) -> None:
    """Return if `order` can run, `adapters` being the names of those that are loaded.

    Raises:
        InvalidRequest: empty prompt, token ids beyond the vocabulary, numbers out of range, an unknown adapter.
        ContextTooLong: prompt and answer are longer than the context; both numbers are in the message.
        KvCacheExhausted: the prompt alone is larger than the whole KV cache.
    """
    length = len(order.prompt_ids)
    if not length:
        raise InvalidRequest("the prompt has no tokens", hint="send at least one")
    if order.max_new_tokens < 1:
        raise InvalidRequest(f"max_new_tokens is {order.max_new_tokens}; expected at least 1")
    if length + order.max_new_tokens > info.context_tokens:
        raise ContextTooLong(
            f"the prompt has {length} tokens and the answer may have {order.max_new_tokens}; "
            f"together at most {info.context_tokens} fit",
            hint="shorten the prompt or ask for fewer tokens",
        )
    if length + 1 > info.kv_tokens:
        raise KvCacheExhausted(f"the prompt has {length} tokens and the KV cache holds {info.kv_tokens}")
    _check_ids(order.prompt_ids, info.vocab_size, "prompt")
    _check_ids(list(order.sampling.logit_bias), info.vocab_size, "logit_bias")
    if order.top_logprobs is not None and not 0 <= order.top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs is {order.top_logprobs}; expected 0 to {MAX_TOP_LOGPROBS}")
    if order.adapter is not None and order.adapter not in adapters:
        raise InvalidRequest(f"no adapter is called {order.adapter!r}", hint=did_you_mean(order.adapter, adapters))
    _check_sampling(order)


def _check_ids(ids: list[int], vocab_size: int, where: str) -> None:
    if ids and (min(ids) < 0 or max(ids) >= vocab_size):
        wrong = next(i for i in ids if not 0 <= i < vocab_size)
        raise InvalidRequest(f"{where} has the token id {wrong}; this model has 0 to {vocab_size - 1}")


def _check_sampling(order: GenerateOrder) -> None:
    sampling = order.sampling
    ranges = (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 0.0, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("top_k", sampling.top_k, 0, 2**31),
        ("repetition_penalty", sampling.repetition_penalty, 1e-3, 100.0),
        ("presence_penalty", sampling.presence_penalty, -100.0, 100.0),
        ("frequency_penalty", sampling.frequency_penalty, -100.0, 100.0),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise InvalidRequest(f"{name} is {value}; expected {low} to {high}")
