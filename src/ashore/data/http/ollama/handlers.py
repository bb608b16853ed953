"""Handlers of Ollama's API: parse, call, render."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.errors import UnknownModel
from ashore.core.nearest import did_you_mean
from ashore.core.timespan import written_moment
from ashore.data.authority import Principal
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.ollama.dialects import CHAT_READER, EMBED_READER, EMBEDDINGS_READER, GENERATE_READER, SHOW_READER
from ashore.data.http.ollama.parse import to_chat, to_generate
from ashore.data.http.ollama.render import NDJSON, Form, Lines, Timed, render_whole
from ashore.data.http.ollama.types import (
    Details,
    OllamaEmbedding,
    OllamaEmbeddings,
    OllamaRunning,
    OllamaShown,
    OllamaTags,
    OllamaVersion,
    Piece,
    Running,
    Tag,
    TurnOut,
)
from ashore.data.http.openai.common import deadline_of, priority_of
from ashore.data.http.streaming import num_chars, send_answer, standing_headers, stream_answer, whole_answer
from ashore.data.path import Embedding, GenerationRequest, ModelCard

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode
TAG: Final = ":latest"
"""Default tag that Ollama clients add to a name."""
NEVER: Final = "9999-12-31T23:59:59Z"
"""When a served model is unloaded for want of requests."""
ARCHITECTURE: Final = "ashore"
"""`general.architecture` of a model, which names the other keys of `model_info`."""


async def version(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /api/version`."""
    await exchange.respond_json(OllamaVersion())


async def tags(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /api/tags`."""
    listed = OllamaTags(models=[_tag(card) for card in app.serving.models(principal)])
    await exchange.respond_json(listed)


async def running(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /api/ps`."""
    ready = [card for card in app.serving.models(principal) if card.ready and card.state == "loaded"]
    listed = [
        Running(
            **msgspec.structs.asdict(_tag(card)),
            expires_at=NEVER,
            context_length=card.context_tokens,
        )
        for card in ready
    ]
    await exchange.respond_json(OllamaRunning(models=listed))


async def show(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/show`."""
    request = await SHOW_READER.body_of(app, exchange, principal)
    card = _card(app, request.model, principal)
    facts: dict[str, str | int] = {
        "general.architecture": ARCHITECTURE,
        f"{ARCHITECTURE}.context_length": card.context_tokens,
    }
    if card.embedding_size:
        facts[f"{ARCHITECTURE}.embedding_length"] = card.embedding_size
    shown = OllamaShown(
        parameters="\n".join(f"{name} {value:g}" for name, value in sorted(card.recommended.items())),
        details=_details(card),
        model_info=facts,
        capabilities=_capabilities(card),
        modified_at=written_moment(card.created_s),
    )
    await exchange.respond_json(shown)


async def chat(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/chat`."""
    request = await CHAT_READER.body_of(app, exchange, principal)
    model = _served_name(app, request.model, principal)
    if not request.messages:
        await _loaded(app, exchange, principal, model, "chat")
        return
    length = len(exchange.body_at_hand(app.limits) or b"")
    generation = await app.serving.at_length(length, partial(to_chat, request, model, exchange), principal)
    await _answer(app, exchange, principal, generation, "chat", stream=request.stream is not False)


async def generate(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/generate`."""
    request = await GENERATE_READER.body_of(app, exchange, principal)
    model = _served_name(app, request.model, principal)
    if not request.prompt and not request.suffix:
        await _loaded(app, exchange, principal, model, "generate")
        return
    generation = to_generate(request, model, exchange)
    await _answer(app, exchange, principal, generation, "generate", stream=request.stream is not False)


async def embed(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/embed`."""
    request = await EMBED_READER.body_of(app, exchange, principal)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    made = await _embed(app, exchange, principal, request.model, inputs, request.dimensions)
    took = int((time.perf_counter() - exchange.started_at) * 1e9)
    body = OllamaEmbeddings(
        model=made.model, embeddings=made.vectors, total_duration=took, prompt_eval_count=made.prompt_tokens
    )
    await _respond(app, exchange, principal, made, body)


async def embeddings(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/embeddings`, which `/api/embed` replaced."""
    request = await EMBEDDINGS_READER.body_of(app, exchange, principal)
    made = await _embed(app, exchange, principal, request.model, [request.prompt], None)
    await _respond(app, exchange, principal, made, OllamaEmbedding(embedding=made.vectors[0]))


async def _answer(
    app: HttpApp, exchange: Exchange, principal: Principal, generation: GenerationRequest, form: Form, *, stream: bool
) -> None:
    exchange.model = generation.model[:64]
    answer = partial(app.serving.answer, generation, principal)
    if stream:
        await stream_answer(exchange, answer, Lines(exchange, form), NDJSON)
        return
    exchange.watch()
    timed = Timed(answer)
    whole = await whole_answer(timed, 1, exchange.hold)
    render = partial(render_whole, whole, exchange, form, first_at=timed.first_at)
    await send_answer(exchange, whole, await app.serving.at_length(num_chars([whole]), render, principal))


async def _loaded(app: HttpApp, exchange: Exchange, principal: Principal, model: str, form: Form) -> None:
    """Answer a request that only asks whether the model is there."""
    card = _card(app, model, principal)
    piece = Piece(
        model=card.alias,
        created_at=written_moment(app.serving.now_s),
        message=TurnOut(content="") if form == "chat" else msgspec.UNSET,
        response="" if form == "generate" else msgspec.UNSET,
        done=True,
        done_reason="load",
    )
    await exchange.respond_json(piece)


async def _embed(
    app: HttpApp,
    exchange: Exchange,
    principal: Principal,
    named: str,
    inputs: list[str],
    dimensions: int | None,
) -> Embedding:
    model = _served_name(app, named, principal)
    exchange.model = model[:64]
    priority, deadline_s = priority_of(exchange), deadline_of(exchange)
    exchange.watch()
    return await app.serving.embeddings.embed(
        model,
        inputs,
        principal,
        request_id=exchange.request_id,
        dimensions=dimensions,
        priority=priority,
        urgency=exchange.urgency,
        deadline_s=deadline_s,
        arrival=exchange.arrival,
        room=exchange.hold.make_room,
    )


async def _respond(
    app: HttpApp,
    exchange: Exchange,
    principal: Principal,
    made: Embedding,
    body: OllamaEmbeddings | OllamaEmbedding,
) -> None:
    headers = [
        JSON,
        (b"x-ashore-release", made.release.encode()),
        (b"x-ashore-precision", made.precision.encode()),
        *standing_headers(app.serving.standing(principal, made.model)),
    ]
    written = await app.serving.at_length(made.num_chars, partial(_encode, body), principal)
    await exchange.respond(200, headers, written)


def _served_name(app: HttpApp, named: str, principal: Principal) -> str:
    """Return the name without the tag that Ollama clients add, unless the caller may use a model of that exact name."""
    bare = named.removesuffix(TAG)
    return bare if bare != named and named not in {card.alias for card in app.serving.models(principal)} else named


def _card(app: HttpApp, named: str, principal: Principal) -> ModelCard:
    """Return a model that the principal may use."""
    model = _served_name(app, named, principal)
    cards = {card.alias: card for card in app.serving.models(principal)}
    if model not in cards:
        hint = did_you_mean(model[:100], cards)
        raise UnknownModel(f"no model is called {model[:100]!r} here", hint=hint, param="model")
    return cards[model]


def _tag(card: ModelCard) -> Tag:
    return Tag(
        name=card.alias,
        model=card.alias,
        modified_at=written_moment(card.created_s),
        digest=hashlib.sha256((card.content or card.release).encode()).hexdigest(),
        details=_details(card),
    )


def _details(card: ModelCard) -> Details:
    return Details(format=card.kind, quantization_level=card.precision)


def _capabilities(card: ModelCard) -> list[str]:
    if card.embedder:
        return ["embedding"]
    told = {"tools": card.knows_tools, "thinking": card.thinks, "insert": card.fills_gaps}
    return ["completion", *(name for name, is_so in told.items() if is_so)]
