"""What an API worker answers to the control process of its machine, by its unix socket alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.data.authority import Principal
from ashore.data.cache.report import REPORT
from ashore.data.feedback.receipts import WRITTEN, Receipts
from ashore.data.http.exchange import Exchange
from ashore.data.http.operate import JSON, OWN_METRICS, own_metrics
from ashore.data.http.routes import Handler, Route
from ashore.data.path import ModelCard, ServingState
from ashore.kit.state import EpochWatch

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp
    from ashore.data.http.face import Face

STANDING: Final = "/internal/standing"
CHANGES: Final = "/internal/changes"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """State of the request path of one worker."""

    state: ServingState
    models: list[ModelCard]
    behind: Mapping[str, tuple[str, ...]]
    """The models behind each alias of others."""


async def standing(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/standing`."""
    cards = app.serving.models()
    behind = {card.alias: found for card in cards if (found := app.serving.behind(card.alias))}
    told = Standing(state=app.serving.state, models=cards, behind=behind)
    await exchange.respond_json(told)


async def cache(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/cache`."""
    query = exchange.query()
    part = {name: query.get(name, "") for name in ("tenant", "model", "entry")}
    await exchange.respond_json(await app.serving.cache.report(app.number, **part))


async def receipts(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/receipts`: answers once the receipts of answers that have ended are on disk."""
    if (found := app.rooms.find(Receipts)) is not None:
        await found.written()
    await exchange.respond(200, [JSON], b"{}")


async def changes(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/changes`: answers once this process goes by everything that is committed now."""
    if (watch := app.rooms.find(EpochWatch)) is not None:
        await asyncio.to_thread(watch.look)
        await asyncio.sleep(0)  # callbacks passed changes on to this loop before
    await exchange.respond(200, [JSON], b"{}")


def inner(path: str, handler: Handler) -> Route:
    """Return a route for processes of this machine."""
    return Route(method="GET", path=path, guard="ours", handler=handler, summary="", tag="")


INNER: Final = (
    inner(OWN_METRICS, own_metrics), inner(STANDING, standing), inner(REPORT, cache), inner(WRITTEN, receipts),
    inner(CHANGES, changes),
)  # fmt: skip
