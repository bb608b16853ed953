"""Traces: API workers alone have a part in it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from ashore.core.errors import MissingExtra
from ashore.data.path import Tracer
from ashore.data.privacy import Privacy
from ashore.data.tracing.section import OtelSection
from ashore.kit.extras import how_to_install
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room

SPANS: Final = Metric(
    "ashore_trace_spans", "counter", "Spans of requests by result: `sent` to the collector, or `failed`.", ("result",)
)


async def open_tracing(context: Context) -> Opened:
    """Open tracing.

    Raises:
        MissingExtra: traces are on, and OpenTelemetry is not installed.
    """
    section = context.section("otel", OtelSection)
    if not section.endpoint:
        return Opened()
    try:
        from ashore.data.tracing.export import OtelTracer
    except ImportError as fault:
        raise MissingExtra(f"[otel] needs OpenTelemetry ({fault})", hint=how_to_install("otel")) from fault

    def counted(spans: int, sent: bool) -> None:
        context.metrics.add("ashore_trace_spans", spans, "sent" if sent else "failed")

    tracer = OtelTracer(
        section, blacken=context.need(Privacy).blacken, counted=counted, clock=context.clock, worker=context.worker
    )
    return Opened(gives={Tracer: tracer}, close=partial(asyncio.to_thread, tracer.close))


ROOM: Final = Room(name="tracing", metrics=(SPANS,), section=OtelSection, serve=open_tracing)
