"""Figures of the control process, which the page of a worker adds to its own."""

from __future__ import annotations

from ashore.data.authority import Principal
from ashore.data.http import Face
from ashore.data.http.exchange import Exchange
from ashore.data.http.operate import METRICS_TEXT


async def own_metrics(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/metrics`."""
    for measure in app.rooms.measures:
        await measure()
    await exchange.respond(200, [METRICS_TEXT], app.metrics.page())
