"""Routes for whoever runs the server: health, readiness, metrics, the description of the interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ashore.access import Principal
from ashore.api.http.exchange import Exchange
from ashore.api.http.mergedmetrics import merge_pages
from ashore.api.http.openapi import describe
from ashore.api.http.siblings import OWN_ONLY
from ashore.audit import AuditService
from ashore.errors import AshoreError
from ashore.serving import ServingState

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp
    from ashore.backup import Timetable, Turn, TurnKind

JSON = (b"content-type", b"application/json")
WHY_NOT: Mapping[ServingState, str] = {
    "ready": "",
    "loading": "a model has no engine host that is ready",
    "draining": "the worker stops once its answers have ended",
    "not-recording": "the audit log cannot be written, and nothing is answered without it; the worker's log says why",
}
log = logging.getLogger("ashore.http")
_encode = msgspec.json.Encoder().encode


class Health(msgspec.Struct, frozen=True):
    """Answer of `/healthz`: the process answers."""

    status: str


class ModelReadiness(msgspec.Struct, frozen=True):
    """Whether one model can answer now."""

    model: str
    ready: bool


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer of `/readyz`: 200 when every model can answer and it can be recorded, otherwise 503."""

    status: str
    items: list[ModelReadiness]
    why: str = ""
    """What is missing; `/readyz` is open to everybody, so no more than that."""


async def healthz(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /healthz`."""
    await exchange.respond(200, [JSON], b'{"status":"ok"}')


async def health(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /health`: what vLLM's clients and routers ask for."""
    await healthz(app, exchange, principal)


async def readyz(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /readyz`."""
    items = [ModelReadiness(card.alias, card.ready) for card in app.serving.models()]
    status = app.serving.state
    answer = _encode(Readiness(status, items, WHY_NOT[status]))
    if status == "ready":
        await exchange.respond(200, [JSON], answer)
    else:
        await exchange.respond(503, [JSON, (b"retry-after", b"2")], answer)


async def metrics(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /metrics`. Who asks while a page is made gets that page: a thousand who ask at once cost what one costs."""
    own = OWN_ONLY in exchange.headers
    making = app.making_metrics.get(own)
    if making is None:
        making = app.making_metrics[own] = asyncio.create_task(_page(app, own=own), name="page of metrics")
        making.add_done_callback(lambda _: app.making_metrics.pop(own, None))
    content_type = (b"content-type", b"text/plain; version=1.0.0; charset=utf-8")
    await exchange.respond(200, [content_type], await asyncio.shield(making))


async def _page(app: HttpApp, *, own: bool) -> bytes:
    """Return the page of this worker, or of all of the machine."""
    await app.serving.measure()
    if app.number == 0:
        await _count_jobs(app)
        _tell_backups(app, await asyncio.to_thread(app.backups))
        await _tell_copies(app)
    app.metrics.set("ashore_workers", 1)
    page = app.metrics.page()
    others = [] if own else await app.siblings.ask("/metrics")
    return merge_pages([page, *others]) if others else page


async def _count_jobs(app: HttpApp) -> None:
    """Bring the gauges of the queue up to date; one worker does, because the pages of all are added up."""
    try:
        found = await app.desk.call(app.desk.queue.counts)
    except AshoreError as fault:
        log.warning("the queue cannot be counted: %s", fault.message)
        return
    for key in app.counted_jobs - set(found):
        app.metrics.set("ashore_jobs", 0, *key)
    for key, number in found.items():
        app.metrics.set("ashore_jobs", number, *key)
    app.counted_jobs |= set(found)


def _tell_backups(app: HttpApp, table: Timetable | None) -> None:
    """Bring the gauges of the backups up to date that the server makes by itself."""
    if table is None:
        return
    turns: tuple[tuple[TurnKind, Turn], ...] = (("run", table.run), ("scrub", table.scrub))
    for kind, turn in turns:
        app.metrics.set("ashore_backup_time_seconds", turn.good_s, kind, "good")
        app.metrics.set("ashore_backup_time_seconds", table.due_s(kind), kind, "due")
        app.metrics.set("ashore_backup_failures", turn.failures, kind)
    app.metrics.set("ashore_backup_harms", table.found, "found")
    app.metrics.set("ashore_backup_harms", table.repaired, "repaired")
    app.metrics.set("ashore_backup_nodes", len(table.away), "away")
    app.metrics.set("ashore_backup_nodes", table.spare, "spare")


async def _tell_copies(app: HttpApp) -> None:
    """Bring the gauges of the audit's archive and anchors up to date."""
    desk = app.desks.get("audit")
    if not isinstance(desk, AuditService):
        return
    standing = await asyncio.to_thread(desk.archiving)
    if standing is not None:
        app.metrics.set("ashore_audit_archive_time_seconds", standing.good_us / 1e6)
        app.metrics.set("ashore_audit_archive_failures", standing.failures)
    for one in await asyncio.to_thread(desk.anchoring):
        app.metrics.set("ashore_audit_anchor_time_seconds", one.good_us / 1e6, one.place, "good")
        app.metrics.set("ashore_audit_anchor_time_seconds", one.silent_us / 1e6, one.place, "silent")
        app.metrics.set("ashore_audit_anchor_failures", one.failures, one.place)


async def openapi(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /openapi.json`."""
    if not app.description:  # once: it takes longer than a request may keep the loop
        app.description = describe(app.table.routes)
    await exchange.respond(200, [JSON], app.description)
