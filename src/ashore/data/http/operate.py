"""Routes for operators: health, readiness, metrics, the OpenAPI document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ashore import __version__
from ashore.data.authority import Principal
from ashore.data.http.exchange import Exchange
from ashore.data.http.vllmnames import with_vllm_names
from ashore.data.path import NO_SERVER, ServingState

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp
    from ashore.data.http.face import Face

SEEN_BY_ALL: Final = (
    "ashore_host_", "ashore_replicas_ready", "ashore_route_price", "ashore_route_ready",
    "ashore_route_tokens_per_second", "ashore_shared_cache_up",
)  # fmt: skip
"""Beginnings of metrics in which every worker reports the same thing. The highest is kept."""
JSON = (b"content-type", b"application/json")
METRICS_TEXT = (b"content-type", b"text/plain; version=1.0.0; charset=utf-8")
OWN_METRICS = "/internal/metrics"
WHY_NOT: Mapping[ServingState, str] = {
    "ready": "",
    "loading": "a model has no engine host ready",
    "draining": "the worker is finishing its requests and then stops",
    "not-recording": "the audit log cannot be written, so no request is answered; see the worker's log",
}
_encode = msgspec.json.Encoder().encode


def merge_pages(pages: Sequence[bytes]) -> bytes:
    """Return one page in Prometheus' text form; the families stand in the order in which they first appear."""
    heads: dict[str, list[str]] = {}
    series: dict[str, dict[str, float]] = {}
    for page in pages:
        family = ""
        for line in page.decode().splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                told = heads.setdefault(family, [])
                if line not in told:
                    told.append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                found = series.setdefault(family, {})
                if name.startswith(SEEN_BY_ALL):
                    found[name] = max(found.get(name, float("-inf")), float(value))
                else:
                    found[name] = found.get(name, 0.0) + float(value)
    lines: list[str] = []
    for family, told in heads.items():
        lines += told
        lines += [f"{name} {value!r}" for name, value in series.get(family, {}).items()]
    return ("\n".join(lines) + "\n").encode()


class Health(msgspec.Struct, frozen=True):
    """Answer of `/healthz`: the process is alive."""

    status: str


class Version(msgspec.Struct, frozen=True):
    """Answer of `/version`."""

    version: str
    """Of ashore."""
    server: str = "ashore"


class ModelReadiness(msgspec.Struct, frozen=True):
    """Whether one model is ready."""

    model: str
    ready: bool


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer of `/readyz`: 200 when every model is ready and the audit log can be written, otherwise 503."""

    status: str
    items: list[ModelReadiness]
    why: str = ""
    """What is missing; `/readyz` is open to everybody, so no more than that."""


async def healthz(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /healthz`."""
    await exchange.respond(200, [JSON], b'{"status":"ok"}')


async def health(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /health`: for vLLM's clients and routers. 503 if no model can answer, as in vLLM."""
    if any(card.ready for card in app.serving.models()):
        await healthz(app, exchange, principal)
    else:
        await exchange.respond(503, [JSON, (b"retry-after", b"2")], b'{"status":"no model is ready"}')


async def ping(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /ping`: for SageMaker and other platforms."""
    await healthz(app, exchange, principal)


async def version(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /version`."""
    await exchange.respond_json(Version(__version__))


async def readyz(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /readyz`."""
    cards = app.serving.models()
    items = [ModelReadiness(card.alias, card.ready) for card in cards]
    status = app.serving.state
    why = WHY_NOT[status]
    if status == "ready" and any(card.state == NO_SERVER for card in cards):
        why = "no server answers behind a model that is not ready; see `ashore status`"
    answer = _encode(Readiness(status, items, why))
    if status == "ready":
        await exchange.respond(200, [JSON], answer)
    else:
        await exchange.respond(503, [JSON, (b"retry-after", b"2")], answer)


async def metrics(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /metrics`. Concurrent requests share one page: a thousand cost as much as one."""
    await _respond_page(app, exchange, own=False)


async def own_metrics(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/metrics`: of this process alone, for another that adds it to its own."""
    await _respond_page(app, exchange, own=True)


async def _respond_page(app: HttpApp, exchange: Exchange, *, own: bool) -> None:
    making = app.making_metrics.get(own)
    if making is None:
        making = app.making_metrics[own] = asyncio.create_task(_page(app, own=own), name="page of metrics")
        making.add_done_callback(lambda _: app.making_metrics.pop(own, None))
    await exchange.respond(200, [METRICS_TEXT], await asyncio.shield(making))


async def _page(app: HttpApp, *, own: bool) -> bytes:
    """Return the page of this worker, or of all processes on the machine."""
    await app.serving.measure()
    for measure in app.rooms.measures:
        await measure()
    app.metrics.set("ashore_workers", 1)
    page = app.metrics.page()
    if own:
        return page
    others = await app.siblings.ask(OWN_METRICS)
    page = merge_pages([page, *others]) if others else page
    return with_vllm_names(page, time.time()) if app.vllm_names else page


async def openapi(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /openapi.json`."""
    from ashore.data.http.openapi import describe

    if not app.description:  # once: it takes longer than a request may block the loop
        app.description = describe(app.described)
    await exchange.respond(200, [JSON], app.description)
