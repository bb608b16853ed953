"""`/v1/heads`: scores of rows, from small models on features. A question is a prompt, its answer a text: both JSON."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidRequest
from ashore.core.sampling import Sampling
from ashore.data.authority import Principal
from ashore.data.http.dialect import Dialect, Reader
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import deadline_of, priority_of, terms_of
from ashore.data.http.streaming import send_answer, standing_headers, whole_answer
from ashore.data.path import GenerationRequest

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

MOST_ROW_BYTES: Final = 4096
MOST_CARD_BYTES: Final = 1 << 18
"""Limits of the answer to a row, and of a card: the budget of tokens holds them back while it is made."""
_GREEDY: Final = Sampling(temperature=0.0)


class HeadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/heads/{head}/score`."""

    rows: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=256)]


class HeadScores(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/heads/{head}/score`, in the order of the rows."""

    scores: list[int | list[int]]
    """One number, or one for each output of the head."""
    decisions: list[str]
    reasons: list[dict[str, int]]
    """Points of each feature; with `base` they add up to the score, or to the largest of several."""
    head: str
    """Digest of the head in the store."""


READER = Reader(HeadRequest, Dialect(name="embeddings"))


async def score(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/heads/{head}/score`."""
    request = await READER.body_of(app, exchange, principal)
    await _ask(app, exchange, principal, msgspec.json.encode(request), MOST_ROW_BYTES * (1 + len(request.rows)))


async def card(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/heads/{head}`."""
    await _ask(app, exchange, principal, b"{}", MOST_CARD_BYTES)


async def score_encrypted(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/heads/{head}/score-encrypted`: a ciphertext in, a ciphertext out."""
    exchange.model = exchange.argument[:64]
    ciphertext = await exchange.body(app.limits)
    priority, deadline_s = priority_of(exchange), deadline_of(exchange)
    exchange.watch()
    found = await app.serving.embeddings.score_encrypted(
        exchange.argument, ciphertext, principal, request_id=exchange.request_id, priority=priority,
        deadline_s=deadline_s, arrival=exchange.arrival,
    )  # fmt: skip
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"x-ashore-release", found.release.encode()),
        *standing_headers(app.serving.standing(principal, exchange.argument)),
    ]
    await exchange.respond(200, headers, found.ciphertext)


async def _ask(app: HttpApp, exchange: Exchange, principal: Principal, question: bytes, most_bytes: int) -> None:
    exchange.model = exchange.argument[:64]
    app.serving.check_head(exchange.argument, principal)
    generation = GenerationRequest(
        model=exchange.argument, prompt=question.decode(), sampling=_GREEDY, max_tokens=most_bytes,
        **terms_of(exchange),
    )  # fmt: skip
    exchange.watch()
    whole = await whole_answer(partial(app.serving.answer, generation, principal), 1, exchange.hold)
    [choice] = whole.choices
    if choice.ended is None or choice.ended.reason != "stop":
        raise InvalidRequest(
            f"the answer was cut after {whole.usage.completion_tokens:,} bytes",
            hint="send fewer rows, or raise the budget of tokens: a byte is a token", param="rows",
        )  # fmt: skip
    await send_answer(exchange, whole, "".join(choice.text).encode())
