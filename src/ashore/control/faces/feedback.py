"""`/v1/feedback`, and the routes for scores of Langfuse clients: votes on answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.core.errors import AshoreError, InvalidRequest, SwitchedOff
from ashore.core.outward import outward
from ashore.data.authority import Principal
from ashore.data.feedback import Feedback, Score, feedback_of_score
from ashore.data.feedback.service import FeedbackService, Given
from ashore.data.http import Exchange
from ashore.data.http.dialect import plain_body
from ashore.data.http.exchange import JSON
from ashore.kit.call import Actor
from ashore.kit.decode import decode

if TYPE_CHECKING:
    from ashore.data.http import Face

MOST_EVENTS: Final = 100
CHARS_PER_TOKEN: Final = 8
"""Twice the usual token: a correction may be as long as the context of its model."""
NO_STORE: Final = (b"cache-control", b"no-store")
_encode = msgspec.json.Encoder().encode
_feedback, _score = msgspec.json.Decoder(Feedback), msgspec.json.Decoder(Score)


class ScoreKept(msgspec.Struct, frozen=True):
    """The answer to a score."""

    id: str


class IngestionEvent(msgspec.Struct, frozen=True):
    """One event of a client of Langfuse. Only scores are taken."""

    id: str
    type: str
    body: msgspec.Raw


class Ingestion(msgspec.Struct, frozen=True):
    """A batch of events."""

    batch: list[IngestionEvent]


class IngestionDone(msgspec.Struct, frozen=True):
    """What became of one event."""

    id: str
    status: int
    message: str | msgspec.UnsetType = msgspec.UNSET


class IngestionOut(msgspec.Struct, frozen=True):
    """What became of a batch."""

    successes: list[IngestionDone]
    errors: list[IngestionDone]


_ingestion = msgspec.json.Decoder(Ingestion)


async def create(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/feedback`."""
    _service(app)
    sent = await plain_body(app, exchange, principal, _feedback)
    given = await _vote(app, exchange, principal, sent, time.monotonic())
    await exchange.respond(200, [JSON, NO_STORE], _encode(given))


async def score(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/public/scores`."""
    _service(app)
    sent = await plain_body(app, exchange, principal, _score)
    given = await _vote(app, exchange, principal, feedback_of_score(sent), time.monotonic())
    await exchange.respond(200, [JSON, NO_STORE], _encode(ScoreKept(sent.id or given.id)))


async def ingest(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /api/public/ingestion`: scores are votes; traces, which ashore does not store, are accepted and dropped."""
    _service(app)
    sent = await plain_body(app, exchange, principal, _ingestion)
    if len(sent.batch) > MOST_EVENTS:
        raise InvalidRequest(f"{len(sent.batch)} events in one batch", hint=f"send at most {MOST_EVENTS}")
    successes, errors, came_s = [], [], time.monotonic()
    for event in sent.batch:
        try:
            if event.type == "score-create":
                voted = feedback_of_score(decode(bytes(event.body), _score))
                await _vote(app, exchange, principal, voted, came_s)
            successes.append(IngestionDone(event.id, 201))
        except AshoreError as fault:
            errors.append(IngestionDone(event.id, fault.http_status, outward(fault)[0]))
    await exchange.respond(207, [JSON, NO_STORE], _encode(IngestionOut(successes, errors)))


async def _vote(app: Face, exchange: Exchange, principal: Principal, feedback: Feedback, came_s: float) -> Given:
    actor = Actor(principal=principal, origin=exchange.origin, request_id=exchange.request_id)
    longest = {card.alias: CHARS_PER_TOKEN * card.context_tokens for card in app.path.models() if card.context_tokens}
    given = await _service(app).vote_soon(feedback, actor, came_s=came_s, longest=longest, aside=app.path.read_aside)
    app.metrics.add("ashore_feedback_votes", 1, given.model, given.rating or "none")
    return given


def _service(app: Face) -> FeedbackService:
    """Return the feedback service."""
    found: Any = app.rooms.find(FeedbackService)
    if found is None:
        raise SwitchedOff(
            "feedback is off on this server", hint="set feedback = true under [learning] in ashore.toml and restart it"
        )
    service: FeedbackService = found
    return service
