"""Handlers of the OpenAI routes: parse, call, render."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ashore.core.errors import UnknownModel
from ashore.core.nearest import did_you_mean
from ashore.data.authority import Principal
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.chat import ChatChunks, free_text_names, render_chat, to_generation
from ashore.data.http.openai.common import deadline_of, priority_of, prompts_of
from ashore.data.http.openai.completions import CompletionChunks, render_completion, to_generations
from ashore.data.http.openai.dialects import CHAT_READER, COMPLETION_READER, EMBEDDING_READER
from ashore.data.http.openai.embeddings import ModelList, model_out, render_embeddings
from ashore.data.http.streaming import (
    answer_headers,
    cut_headers,
    num_chars,
    send_answer,
    standing_headers,
    stream_answer,
    whole_answer,
)

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp


async def chat(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/chat/completions`."""
    make = partial(to_generation, exchange=exchange)
    request, generation = await CHAT_READER.made_of(app, exchange, principal, make)
    exchange.model = generation.model[:64]
    answer = partial(app.serving.answer, generation, principal)
    if request.stream:
        include_usage = bool(request.stream_options and request.stream_options.include_usage)
        chunks = ChatChunks(
            exchange, generation.num_choices, include_usage=include_usage, free_text=free_text_names(request)
        )
        await stream_answer(exchange, answer, chunks, loads=partial(app.serving.loads, generation.model))
    else:
        exchange.watch()
        whole = await whole_answer(answer, generation.num_choices, exchange.hold)
        render = partial(render_chat, whole, exchange, free_text_names(request))
        await send_answer(exchange, whole, await app.serving.at_length(num_chars([whole]), render, principal))


async def completions(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/completions`. Several prompts are answered one after the other."""
    make = partial(to_generations, exchange=exchange)
    request, generations = await COMPLETION_READER.made_of(app, exchange, principal, make)
    token_ids, logprobs = bool(request.return_token_ids), request.logprobs is not None
    exchange.model = request.model[:64]
    if request.stream:
        include_usage = bool(request.stream_options and request.stream_options.include_usage)
        chunks = CompletionChunks(
            exchange,
            generations[0].num_choices,
            include_usage=include_usage,
            token_ids=token_ids,
            logprobs=logprobs,
        )
        answer = partial(app.serving.answer, generations[0], principal)
        await stream_answer(exchange, answer, chunks, loads=partial(app.serving.loads, request.model))
        return
    exchange.watch()
    answers = [
        await whole_answer(partial(app.serving.answer, one, principal), one.num_choices, exchange.hold)
        for one in generations
    ]
    render = partial(render_completion, answers, exchange, token_ids=token_ids, logprobs=logprobs)
    body = await app.serving.at_length(num_chars(answers), render, principal)
    if len(answers) == 1:
        await send_answer(exchange, answers[0], body)
        return
    cut = cut_headers([choice for answer in answers for choice in answer.choices])
    exchange.tokens = sum(answer.usage.completion_tokens for answer in answers)
    await exchange.respond(200, [JSON, *answer_headers(answers[0].started), *cut], body)


async def embeddings(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/embeddings`."""
    request = await EMBEDDING_READER.body_of(app, exchange, principal)
    exchange.model = request.model[:64]
    inputs = prompts_of(request.input, "input")
    priority, deadline_s = priority_of(exchange), deadline_of(exchange)
    exchange.watch()
    embedding = await app.serving.embeddings.embed(
        request.model,
        inputs,
        principal,
        request_id=exchange.request_id,
        dimensions=request.dimensions,
        input_type=request.input_type or "",
        priority=priority,
        urgency=exchange.urgency,
        deadline_s=deadline_s,
        arrival=exchange.arrival,
        room=exchange.hold.make_room,
    )
    if request.input_type and not embedding.tells_inputs:
        exchange.ignored = (*exchange.ignored, "input_type")
    headers = [
        JSON,
        (b"x-ashore-release", embedding.release.encode()),
        (b"x-ashore-precision", embedding.precision.encode()),
        *standing_headers(app.serving.standing(principal, request.model)),
    ]
    render = partial(render_embeddings, request, embedding)
    body = await app.serving.at_length(embedding.num_chars, render, principal)
    await exchange.respond(200, headers, body)


async def models(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/models`."""
    await exchange.respond_json(ModelList(data=[model_out(card) for card in app.serving.models(principal)]))


async def model(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/models/{id}`."""
    alias = exchange.argument
    cards = {card.alias: card for card in app.serving.models(principal)}
    if alias not in cards:
        raise UnknownModel(
            f"no model is called {alias[:100]!r} here", hint=did_you_mean(alias[:100], cards), param="model"
        )
    await exchange.respond_json(model_out(cards[alias]))
