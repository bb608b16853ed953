"""TensorRT-LLM's form of an order: `trtllm-serve`'s completions API with token ids, of which vLLM's is a relative.

The server does not run on the machines that test this: the form is from its source, and the tests replay answers in it.

Source: TensorRT-LLM, `CompletionRequest` and `CompletionResponseStreamChoice` of its `serve.openai_protocol`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.core.sampling import RECOMMENDABLE, changed_fields
from ashore.data.engines.model import GenerateOrder, Grammar
from ashore.data.engines.vllm import wire
from ashore.data.engines.vllm.dialects import UNSAID, Dialect, no_grammar


def order_body(order: GenerateOrder, model: str) -> dict[str, Any]:
    """Return the request body for `order`."""
    sampling = order.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": order.prompt_ids,
        "max_tokens": order.max_new_tokens,
        **{name: getattr(sampling, name) for name in RECOMMENDABLE},
        **{name: getattr(sampling, name) for name in changed_fields(sampling)},
        "ignore_eos": True,  # the order defines what ends it
        "stop_token_ids": [] if order.ignore_eos else list(order.stop_token_ids),
        "detokenize": False,
        "add_special_tokens": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias.items()}
    if order.grammar is not None:
        body["response_format"] = _response_format(order.grammar)
    return body


def _response_format(grammar: Grammar) -> dict[str, Any]:
    match grammar.kind:
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            return {"type": "json_schema", "json_schema": {"schema": msgspec.json.decode(grammar.text)}}
        case "regex":
            return {"type": "regex", "regex": grammar.text}
        case "lark":
            raise no_grammar("TensorRT-LLM", grammar)


TENSORRT_LLM: Final = Dialect(
    name="tensorrt-llm",
    title="TensorRT-LLM",
    owner="tensorrt_llm",
    path="/v1/completions",
    body=order_body,
    reader=wire.reader,
    lacks=UNSAID | {"logprobs", "top_logprobs"},
)
