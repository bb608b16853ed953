"""`/v1/moderations` in OpenAI's form, over the guard lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidRequest
from ashore.data.authority import Principal
from ashore.data.bounds import MOST_TEXTS
from ashore.data.guard import ListSet
from ashore.data.http.dialect import Dialect, Reader
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.common import id_for

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode
CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
"""OpenAI's, which every answer has."""


class TextPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """A picture, which no list reads."""


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/moderations`."""

    input: str | Annotated[list[str | TextPart | ImagePart], Meta(min_length=1, max_length=MOST_TEXTS)]
    """A text or several, with a result each; or the parts of one message, with one result."""
    model: str | None = None
    """Any name: the guard lists answer."""


class ModerationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the lists found in one input."""

    flagged: bool
    categories: dict[str, bool]
    """OpenAI's categories, and those of the guard lists."""
    category_scores: dict[str, float]
    """1 where a list found a word, 0 elsewhere."""
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/moderations`."""

    id: str
    model: str
    results: list[ModerationResult]


RESULT_CHARS: Final = 8
"""A result takes as long to make and to write as so many characters of a prompt to read; each list adds as much."""
READER = Reader(ModerationRequest, Dialect(name="embeddings"))


async def moderations(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/moderations`."""
    request = await READER.body_of(app, exchange, principal)
    texts = _texts_of(request)
    lists = app.serving.lists.every
    known = sorted({one.list.category for one in lists.lists})
    answer_id = id_for("modr-", exchange.request_id)

    def work() -> bytes:
        results = _judged(texts, lists, known)
        return _encode(ModerationOut(id=answer_id, model="ashore-guard-lists", results=results))

    length = sum(map(len, texts)) + len(texts) * RESULT_CHARS * (1 + len(lists.lists))
    body = await app.serving.at_length(length, work, principal)
    await exchange.respond(200, (JSON, (b"x-ashore-categories", ", ".join(known).encode())), body)


def _texts_of(request: ModerationRequest) -> list[str]:
    """Return the texts to judge."""
    if isinstance(request.input, str):
        return [request.input]
    texts = [one for one in request.input if isinstance(one, str)]
    parts = [one.text for one in request.input if isinstance(one, TextPart)]
    if len(texts) == len(request.input):
        return texts
    if len(parts) == len(request.input):
        return ["\n".join(parts)]
    raise InvalidRequest(
        "the input has a picture, or mixes texts and parts; expected texts alone, or parts of the type text",
        hint="send texts: guard lists read no pictures",
        param="input",
    )


def _judged(texts: list[str], lists: ListSet, known: list[str]) -> list[ModerationResult]:
    results = []
    for text in texts:
        found = {one.category for one, _, _ in lists.find(text)}
        names = dict.fromkeys((*CATEGORIES, *known))
        results.append(
            ModerationResult(
                flagged=bool(found),
                categories={name: name in found for name in names},
                category_scores={name: float(name in found) for name in names},
                category_applied_input_types={name: ["text"] if name in known else [] for name in names},
            )
        )
    return results
