"""The form of SGLang's `/generate` with token ids, and LMDeploy's form of it.

Neither server runs on the machines that test this: the forms are from their sources, and the tests replay answers in
them. A stream of SGLang repeats all tokens with every event, unless the server was started with
`--incremental-streaming-output`; the count of tokens in `meta_info` shows which.

Sources: SGLang, `GenerateReqInput` of its `srt.managers.io_struct` and its tokenizer manager; LMDeploy,
`GenerateReqInput` and `GenerateReqOutput` of its `serve.openai.protocol`, and its API server.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.core.errors import EngineFailed
from ashore.core.sampling import changed_fields
from ashore.data.engines.model import Feature, GenerateOrder, TokenLogprob
from ashore.data.engines.vllm.dialects import UNSAID, Dialect, Piece, Read, Row, no_grammar
from ashore.data.engines.vllm.wire import ErrorBody, TokenId


class _Finish(msgspec.Struct, frozen=True):
    type: str = ""
    matched: TokenId | str | None = None
    message: str = ""


class _Meta(msgspec.Struct, frozen=True):
    finish_reason: _Finish | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    output_token_logprobs: list[tuple[Any, ...]] | None = None
    """(log-probability, id, text or nothing) of each token."""
    output_top_logprobs: list[list[tuple[Any, ...]] | None] | None = None


class _Event(msgspec.Struct, frozen=True):
    output_ids: list[TokenId] | None = None
    meta_info: _Meta = _Meta()
    error: ErrorBody | None = None


def sglang_body(order: GenerateOrder, model: str) -> dict[str, Any]:
    """Return SGLang's request body for `order`."""
    sampling = order.sampling
    params: dict[str, Any] = {
        "max_new_tokens": order.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "min_new_tokens": sampling.min_tokens,
        "stop_token_ids": list(order.stop_token_ids),
        "ignore_eos": True,  # the order defines what ends it
    }
    if order.ignore_eos:
        params["stop_token_ids"] = []
    if "logit_bias" in changed_fields(sampling):
        params["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias.items()}
    if order.grammar is not None:
        match order.grammar.kind:
            case "json_object":
                params["json_schema"] = '{"type":"object"}'
            case "json_schema":
                params["json_schema"] = order.grammar.text
            case "regex":
                params["regex"] = order.grammar.text
            case "lark":
                raise no_grammar("SGLang", order.grammar)
    body: dict[str, Any] = {"input_ids": order.prompt_ids, "sampling_params": params, "stream": True}
    if order.top_logprobs is not None:
        body |= {"return_logprob": True, "top_logprobs_num": order.top_logprobs, "logprob_start_len": -1}
    if order.prefix_partition:
        body["extra_key"] = order.prefix_partition
    return body


def lmdeploy_body(order: GenerateOrder, model: str) -> dict[str, Any]:
    """Return LMDeploy's request body for `order`."""
    sampling = order.sampling
    return {
        "input_ids": order.prompt_ids,
        "max_tokens": order.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "stop_token_ids": [] if order.ignore_eos else list(order.stop_token_ids),
        "ignore_eos": True,
        "skip_special_tokens": False,
        "return_logprob": order.top_logprobs is not None,
        "stream": True,
    }


def reader(order: GenerateOrder) -> Read:
    """Return what reads the answer of `order`."""
    made = 0

    def read(data: bytes) -> Piece:
        nonlocal made
        event = msgspec.json.decode(data, type=_Event)
        meta, finish = event.meta_info, event.meta_info.finish_reason
        if event.error is not None:
            return Piece(rows=[], error=event.error.message)
        if event.output_ids is None and finish is None:
            raise EngineFailed("the server sent text without token ids", hint="it must be started with a tokenizer")
        ids = event.output_ids or []
        repeats = made if len(ids) == meta.completion_tokens and made <= len(ids) else 0
        rows = _rows(ids, meta, order.top_logprobs)[repeats:]
        made += len(rows)
        piece = Piece(rows=rows, cached_tokens=meta.cached_tokens if finish is not None else None)
        if finish is not None:
            piece.ended = finish.type or "nothing"
            piece.stop_token_id = finish.matched if isinstance(finish.matched, int) else None
            if finish.type == "abort":
                piece.error = finish.message or "it was aborted"
        return piece

    return read


def _rows(ids: list[int], meta: _Meta, top: int | None) -> list[Row]:
    told = meta.output_token_logprobs
    if top is None or told is None:
        return [(token_id, None, ()) for token_id in ids]
    if len(told) < len(ids):
        raise EngineFailed(f"the server sent {len(told)} log-probabilities for {len(ids)} tokens")
    told, best = told[-len(ids) :] if ids else [], (meta.output_top_logprobs or [])[-len(ids) :] if ids else []
    rows: list[Row] = []
    for place, token_id in enumerate(ids):
        others = (best[place] or []) if place < len(best) else []
        entries = tuple(TokenLogprob(int(one[1]), float(one[0])) for one in others[:top])
        rows.append((token_id, float(told[place][0]), entries))
    return rows


_LMDEPLOY_LACKS: Final = frozenset[Feature](
    ("presence_penalty", "frequency_penalty", "logit_bias", "seed", "min_tokens", "top_logprobs", "grammar")
)

SGLANG: Final = Dialect(
    name="sglang",
    title="SGLang",
    owner="sglang",
    path="/generate",
    body=sglang_body,
    reader=reader,
    version=("/get_server_info", "version"),
    lacks=UNSAID | {"seed"},  # it draws by a seed only where the server was started for that
)

LMDEPLOY: Final = Dialect(
    name="lmdeploy",
    title="LMDeploy",
    owner="lmdeploy",
    path="/generate",
    body=lmdeploy_body,
    reader=reader,
    version=("", ""),
    lacks=UNSAID | _LMDEPLOY_LACKS,
)
