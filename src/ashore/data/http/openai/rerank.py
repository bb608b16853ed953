"""`/v1/rerank` in the form of Jina and Cohere, `/rerank` in that of TEI too, `/v1/score` in that of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidRequest
from ashore.data.authority import Principal
from ashore.data.bounds import MOST_TEXTS
from ashore.data.http.dialect import Dialect, Reader
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.common import deadline_of, id_for, priority_of
from ashore.data.http.openai.embeddings import only_one
from ashore.data.http.openai.types import Name
from ashore.data.http.streaming import standing_headers
from ashore.data.path import Asked, Judged

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode
MOST_SCORED: Final = MOST_TEXTS - 1
"""Limit of texts per question."""


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text as an object."""

    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/rerank` and `POST /rerank`: `documents`, or `texts` in TEI's form, whose answer is a list.

    Without `model`, the only cross-encoder that the caller may ask, or where there is none, the only embedder.
    """

    model: Name | None = None
    query: str
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MOST_SCORED)] | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    """Default: yes."""
    texts: Annotated[list[str], Meta(min_length=1, max_length=MOST_SCORED)] | None = None
    return_text: bool | None = None
    """Of TEI's form; default: no."""
    raw_scores: bool | None = None
    """Of TEI's form: the logits of a cross-encoder, instead of scores from 0 to 1."""


class RerankResult(msgspec.Struct, frozen=True, kw_only=True):
    """One document."""

    index: int
    """Its place in the request."""
    relevance_score: float
    document: Document | msgspec.UnsetType = msgspec.UNSET


class TokensUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class RerankOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/rerank`: the best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: TokensUsed


class RankedText(msgspec.Struct, frozen=True, kw_only=True):
    """One text in TEI's form."""

    index: int
    score: float
    text: str | msgspec.UnsetType = msgspec.UNSET


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/score`: a text with each of several, or as many with as many."""

    model: Name | None = None
    text_1: str | Annotated[list[str], Meta(min_length=1, max_length=MOST_SCORED)]
    text_2: str | Annotated[list[str], Meta(min_length=1, max_length=MOST_SCORED)]


class ScoreOut(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/score`, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreOut]
    usage: TokensUsed


_IGNORED: Final = {
    "user": "OpenAI's clients",
    "truncate": "clients of TEI; a text that is too long is refused",
    "truncation_direction": "clients of TEI",
    "max_chunks_per_doc": "clients of Cohere; a text that is too long is refused",
    "max_tokens_per_doc": "clients of Cohere; a text that is too long is refused",
    "overlap_tokens": "clients of Dify and Xinference",
    "priority": "vLLM's clients; x-ashore-priority says it here",
    "request_id": "vLLM's clients; x-request-id names a request here",
}
_REFUSED: Final = {
    "truncate_prompt_tokens": "shorten the texts; ashore cuts none silently",
    "rank_fields": "send documents as texts",
}
RERANK_READER: Final = Reader(RerankRequest, Dialect(name="embeddings", ignored=_IGNORED, refused=_REFUSED))
SCORE_READER: Final = Reader(ScoreRequest, Dialect(name="embeddings", ignored=_IGNORED, refused=_REFUSED))


async def rerank(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/rerank` and `POST /rerank`."""
    request = await RERANK_READER.body_of(app, exchange, principal)
    if (request.documents is None) == (request.texts is None):
        raise InvalidRequest("the body needs documents, or texts in TEI's form", hint="send one", param="documents")
    given = request.texts if request.documents is None else request.documents
    assert given is not None
    documents = [one if isinstance(one, str) else one.text for one in given]
    field = "texts" if request.documents is None else "documents"
    names = ["query", *(f"{field}[{at}]" for at in range(len(documents)))]
    pairs = [(0, 1 + at) for at in range(len(documents))]
    judged = await _judge(app, exchange, principal, request.model, [request.query, *documents], names, pairs)
    if request.raw_scores and judged.logits is not None:
        judged = replace(judged, scores=judged.logits)
    best = sorted(range(len(documents)), key=lambda at: (-judged.scores[at], at))[: request.top_n]
    if request.documents is None:
        shown = request.return_text
        ranked = [
            RankedText(index=at, score=judged.scores[at], text=documents[at] if shown else msgspec.UNSET) for at in best
        ]
        await _respond(app, exchange, principal, judged, _encode(ranked))
        return
    results = [
        RerankResult(
            index=at,
            relevance_score=judged.scores[at],
            document=msgspec.UNSET if request.return_documents is False else Document(text=documents[at]),
        )
        for at in best
    ]
    answer = RerankOut(
        id=id_for("rerank-", exchange.request_id), model=judged.model, results=results, usage=_used(judged)
    )
    await _respond(app, exchange, principal, judged, _encode(answer))


async def score(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/score`."""
    request = await SCORE_READER.body_of(app, exchange, principal)
    first, second = _listed(request.text_1), _listed(request.text_2)
    if len(first) not in (1, len(second)):
        raise InvalidRequest(
            f"text_1 has {len(first)} texts and text_2 has {len(second)}",
            hint="send one text_1, or as many as text_2 has",
            param="text_1",
        )
    if len(first) + len(second) > MOST_TEXTS:
        raise InvalidRequest(
            f"both lists have {len(first) + len(second)} texts; at most {MOST_TEXTS} are taken",
            hint="split them over several requests",
            param="text_2",
        )
    names = [f"text_{number}[{at}]" for number, texts in ((1, first), (2, second)) for at in range(len(texts))]
    pairs = [(at if len(first) > 1 else 0, len(first) + at) for at in range(len(second))]
    judged = await _judge(app, exchange, principal, request.model, [*first, *second], names, pairs)
    answer = ScoreList(
        id=id_for("score-", exchange.request_id),
        created=app.serving.now_s,
        model=judged.model,
        data=[ScoreOut(index=at, score=one) for at, one in enumerate(judged.scores)],
        usage=_used(judged),
    )
    await _respond(app, exchange, principal, judged, _encode(answer))


async def _judge(
    app: HttpApp,
    exchange: Exchange,
    principal: Principal,
    named: str | None,
    texts: Sequence[str],
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
) -> Judged:
    model = named
    if model is None:
        encoders = [card for card in app.serving.models(principal) if card.embedder]
        rankers = [card for card in encoders if "rank" in card.features]
        model = only_one("rankers and embedders", rankers or encoders, "serve one, such as minilm")
    exchange.model = model[:64]
    asked = Asked(
        model=model,
        texts=texts,
        names=names,
        pairs=pairs,
        request_id=exchange.request_id,
        priority=priority_of(exchange),
        urgency=exchange.urgency,
        deadline_s=deadline_of(exchange),
        arrival=exchange.arrival,
        room=exchange.hold.make_room,
    )
    exchange.watch()
    return await app.serving.relevance.judge(asked, principal)


async def _respond(app: HttpApp, exchange: Exchange, principal: Principal, judged: Judged, body: bytes) -> None:
    headers = [
        JSON,
        (b"x-ashore-release", judged.release.encode()),
        (b"x-ashore-precision", judged.precision.encode()),
        (b"x-ashore-score", judged.method.encode()),
        *standing_headers(app.serving.standing(principal, judged.model)),
    ]
    await exchange.respond(200, headers, body)


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _used(judged: Judged) -> TokensUsed:
    return TokensUsed(prompt_tokens=judged.prompt_tokens, total_tokens=judged.prompt_tokens)
