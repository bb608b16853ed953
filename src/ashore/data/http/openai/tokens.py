"""`/tokenize`, `/detokenize` and `/tokenizer_info`, in the form of vLLM: for token counts of evaluation tools."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidRequest
from ashore.data.authority import Principal
from ashore.data.bounds import MOST_MESSAGES, MOST_TOOLS
from ashore.data.http.dialect import Dialect, Reader
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.chat import messages_of, template_options, tool_of
from ashore.data.http.openai.dialects import ANYWHERE
from ashore.data.http.openai.embeddings import only_one
from ashore.data.http.openai.types import MOST_INPUTS, ChatMessage, Name, TokenId, ToolIn
from ashore.data.path import GenerationRequest, Tokenized

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode
TOKEN_CHARS: Final = 8
"""Cost of writing one token of an answer, in characters of a prompt."""


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /tokenize`: `prompt` or `messages`. Without `model`, the only one that the caller may ask."""

    model: Name | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MOST_MESSAGES)] | None = None
    tools: Annotated[list[ToolIn], Meta(max_length=MOST_TOOLS)] | None = None
    add_special_tokens: bool | None = None
    """Of a prompt: with what the model expects around it; default: yes. The template alone decides for messages."""
    add_generation_prompt: bool | None = None
    """Of messages: with the beginning of the answer; default: yes."""
    continue_final_message: bool | None = None
    """Of messages: the last one is the beginning of the answer."""
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class TokenizeOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /detokenize`."""

    model: Name | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MOST_INPUTS)]


class DetokenizeOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /detokenize`. Control tokens have no text."""

    prompt: str


class TokenizerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /tokenizer_info`."""

    tokenizer_class: str = "PreTrainedTokenizerFast"
    eos_token: str | None
    eos_token_id: int | None
    bos_token: str | None
    bos_token_id: int | None
    chat_template: str | None
    model_max_length: int


_MOST_CONTROL_CHARS: Final = 64
"""Length of the text of a control token."""
_IGNORED: Final = {
    **ANYWHERE,
    "request_id": "vLLM's clients; x-request-id names a request here",
    "mm_processor_kwargs": "vLLM's clients",
}
_REFUSED: Final = {"chat_template": "the model's own template is used"}
TOKENIZE_READER: Final = Reader(TokenizeRequest, Dialect(name="chat", ignored=_IGNORED, refused=_REFUSED))
DETOKENIZE_READER: Final = Reader(DetokenizeRequest, Dialect(name="completions", ignored=_IGNORED))


async def tokenize(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /tokenize`."""
    request = await TOKENIZE_READER.body_of(app, exchange, principal)
    if (request.prompt is None) == (request.messages is None):
        raise InvalidRequest("the body needs either prompt or messages", hint="send one of them", param="prompt")
    continues = bool(request.continue_final_message)
    asked = GenerationRequest(
        request_id=exchange.request_id,
        model=request.model or only_one("models", app.serving.models(principal), "see GET /v1/models"),
        prompt=request.prompt,
        messages=messages_of(request.messages or (), continues=continues),
        continues=continues,
        tools=tuple(tool_of(tool) for tool in request.tools or ()),
        template_options=template_options(request.chat_template_kwargs),
        arrival=exchange.arrival,
    )
    exchange.model = asked.model[:64]
    counted = await app.serving.tokens.encode(
        asked,
        principal,
        bare=request.add_special_tokens is False,
        opens_answer=request.add_generation_prompt is not False,
    )
    ids = counted.ids
    if request.prompt and request.add_special_tokens is False and len(request.prompt) <= _MOST_CONTROL_CHARS:
        control = counted.text.encode(request.prompt, allow_special=True, bare=True)
        ids = control if len(control) == 1 else ids
    with_texts = bool(request.return_token_strs)
    body = await app.serving.at_length(
        len(ids) * TOKEN_CHARS, partial(_render, counted, ids, with_texts=with_texts), principal
    )
    await exchange.respond(200, [JSON], body)


def _render(counted: Tokenized, ids: list[int], *, with_texts: bool) -> bytes:
    text = counted.text.token_text
    answer = TokenizeOut(
        count=len(ids),
        max_model_len=counted.context_tokens,
        tokens=ids,
        token_strs=[text(one) for one in ids] if with_texts else None,
    )
    return _encode(answer)


async def tokenizer_info(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /tokenizer_info`."""
    model = exchange.query().get("model") or only_one("models", app.serving.models(principal), "see GET /v1/models")
    exchange.model = model[:64]
    text, context_tokens = app.serving.tokens.tokenizer(model, principal)
    end = text.eos_token_ids[0] if text.eos_token_ids else None
    answer = TokenizerInfo(
        eos_token=None if end is None else text.token_text(end),
        eos_token_id=end,
        bos_token=None if text.bos_token_id is None else text.token_text(text.bos_token_id),
        bos_token_id=text.bos_token_id,
        chat_template=text.template_source or None,
        model_max_length=context_tokens,
    )
    await exchange.respond_json(answer)


async def detokenize(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /detokenize`."""
    request = await DETOKENIZE_READER.body_of(app, exchange, principal)
    model = request.model or only_one("models", app.serving.models(principal), "see GET /v1/models")
    exchange.model = model[:64]
    text = await app.serving.tokens.decode(model, request.tokens, principal)
    body = await app.serving.at_length(len(text), partial(_encode, DetokenizeOut(prompt=text)), principal)
    await exchange.respond(200, [JSON], body)
