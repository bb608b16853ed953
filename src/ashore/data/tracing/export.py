"""Spans with OpenTelemetry's own library: created on the request path, masked, batched and sent on another thread."""

from __future__ import annotations

import logging
import platform
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ashore import __version__
from ashore.core.clock import Clock
from ashore.data.audit import RequestNote
from ashore.data.path import Arrival, ChoiceEnded, Delta, GenerationRequest, ServingEvent, Span, Started, Usage
from ashore.data.tracing.attributes import (
    INPUT,
    OUTPUT,
    asked_attributes,
    input_messages,
    note_attributes,
    output_messages,
    read_messages,
    texts_of,
    with_texts,
)
from ashore.data.tracing.section import OtelSection

log = logging.getLogger("ashore.tracing")

SEND_S: Final = 3.0
"""Longest try to send a batch, repetitions included. Nobody waits for it but the end of the worker, once."""
MOST_QUEUED: Final = 4096
"""Spans that wait to be sent; further ones are dropped."""
MOST_TEXT_CHARS: Final = 64 << 20
"""Of all texts of spans that wait to be sent. One conversation has up to a million: a collector that never answers
would have gigabytes wait. Further spans go without their texts."""
BATCH: Final = 512
EVERY_MS: Final = 1000

Blacken = Callable[[Sequence[str]], Sequence[str]]
Counted = Callable[[int, bool], None]


class OtelTracer:
    """The `Tracer` of `data/path/guards.py` over OpenTelemetry. Called on one event loop; `close` on a thread."""

    def __init__(
        self, section: OtelSection, *, blacken: Blacken, counted: Counted, clock: Clock, worker: int = 0
    ) -> None:
        """Create it; nothing is sent before a span ends.

        Args:
            section: Destination of spans.
            blacken: Masks all personal data in texts. Called on the sending thread.
            counted: Called with the numbers of sent and failed spans, on the same thread.
            clock: For times within a request.
            worker: Index of this worker on the machine.
        """
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # we log it ourselves, once
        self._clock = clock
        self._exporter = Careful(
            OTLPSpanExporter(
                endpoint=f"{section.endpoint.rstrip('/')}/v1/traces",
                headers=section.headers(),
                certificate_file=section.ca_file or None,
                timeout=SEND_S,
                compression=Compression.Gzip,
            ),
            section.endpoint,
            blacken=blacken,
            counted=counted,
        )
        resource = Resource.create(
            {
                "service.name": section.service_name,
                "service.version": __version__,
                "service.instance.id": f"{platform.node()}/{worker}",
            }
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(section.share)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=MOST_QUEUED,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EVERY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("ashore", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._texts = Texts(MOST_TEXT_CHARS)

    def begin(self, operation: str, alias: str, arrival: Arrival) -> Span | None:
        """Return the span of a request; None if neither the sampler nor the caller selects it."""
        span = self._start(operation, alias, arrival)
        return None if span is None else RequestSpan(span, operation, self._clock, self._texts)

    def repeated(self, note: RequestNote, request_id: str, arrival: Arrival) -> None:
        """Record a request that got a finished response."""
        operation = "text_completion" if note.route.endswith("/v1/completions") else "chat"
        span = self._start(operation, note.alias, arrival)
        if span is not None:
            span.set_attributes({**_common(operation), **note_attributes(note), "gen_ai.response.id": request_id})
            span.end()

    def close(self) -> None:
        """Send the rest, for as long as one try takes, and end."""
        self._exporter.closing = True
        self._provider.shutdown()

    def _start(self, operation: str, alias: str, arrival: Arrival) -> SdkSpan | None:
        parent = None
        if arrival.traceparent:
            parent = self._propagator.extract({"traceparent": arrival.traceparent})
        span = self._tracer.start_span(f"{operation} {alias}", context=parent, kind=SpanKind.SERVER)
        return span if isinstance(span, SdkSpan) else None


class Texts:
    """Memory limit for the texts of spans that wait to be sent. A span releases its share when it is garbage, also
    if the queue dropped it."""

    def __init__(self, most_chars: int) -> None:
        self._left = most_chars
        self._lock = threading.RLock()  # garbage collection may release while its thread takes

    def take(self, span: object, num_chars: int) -> bool:
        """Return whether there is room for the texts of a span; they keep it until the span is gone."""
        with self._lock:
            if num_chars > self._left:
                return False
            self._left -= num_chars
        weakref.finalize(span, self._give_back, num_chars).atexit = False
        return True

    def _give_back(self, num_chars: int) -> None:
        with self._lock:
            self._left += num_chars


class RequestSpan:
    """The `Span` of `data/path/guards.py`."""

    __slots__ = (
        "_attributes",
        "_choices",
        "_clock",
        "_content",
        "_first_at",
        "_queued_s",
        "_reasons",
        "_span",
        "_started_at",
        "_texts",
    )

    def __init__(self, span: SdkSpan, operation: str, clock: Clock, texts: Texts) -> None:
        self._span, self._clock, self._started_at = span, clock, clock.monotonic_s()
        self._texts = texts
        self._attributes: dict[str, object] = dict(_common(operation))
        self._first_at, self._queued_s = 0.0, 0.0
        self._reasons: dict[int, str] = {}
        self._choices: dict[int, tuple[list[str], list[str], list[str]]] = {}
        self._content = False

    @property
    def trace_id(self) -> str:
        """Id of the trace that it belongs to."""
        return f"{self._span.context.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """Header for the engine, so that its spans are children of this one."""
        context = self._span.context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def asked(self, request: GenerationRequest, *, content: bool, entry_id: str = "") -> None:
        """Take the request as the model sees it."""
        self._attributes.update(asked_attributes(request))
        self._content = content
        if content:
            self._attributes[INPUT] = input_messages(request)

    def hear(self, event: ServingEvent) -> None:
        """Take the next event as the model wrote it."""
        if isinstance(event, Delta):
            if self._content:
                reasoning, text, calls = self._choices.setdefault(event.choice, ([], [], []))
                reasoning.append(event.reasoning)
                text.append(event.text)
                calls.extend(f"{call.name}{call.arguments}" for call in event.tool_calls)
        elif isinstance(event, Started):
            self._first_at = self._first_at or self._clock.monotonic_s()
            self._queued_s = event.queued_s
        elif isinstance(event, ChoiceEnded):
            self._reasons[event.choice] = event.reason
        elif isinstance(event, Usage) and event.reasoning_tokens:
            self._attributes["gen_ai.usage.reasoning.output_tokens"] = event.reasoning_tokens

    def end(self, note: RequestNote) -> None:
        """Take the audit note, and end the span."""
        self._attributes.update(note_attributes(note))
        self._attributes["gen_ai.latency.e2e"] = self._clock.monotonic_s() - self._started_at
        if self._first_at:
            first_s = self._first_at - self._started_at
            self._attributes["gen_ai.latency.time_to_first_token"] = first_s
            self._attributes["gen_ai.response.time_to_first_chunk"] = first_s
            self._attributes["gen_ai.latency.time_in_queue"] = self._queued_s
        if self._reasons:
            self._attributes["gen_ai.response.finish_reasons"] = [self._reasons[one] for one in sorted(self._reasons)]
        if self._content and self._choices:
            self._attributes[OUTPUT] = output_messages(
                [
                    ("".join(reasoning), "".join(text), "".join(calls), self._reasons.get(number, ""))
                    for number, (reasoning, text, calls) in sorted(self._choices.items())
                ]
            )
        told = {name: str(self._attributes[name]) for name in (INPUT, OUTPUT) if name in self._attributes}
        if told and not self._texts.take(self._span, sum(map(len, told.values()))):
            for name in told:
                del self._attributes[name]
        self._span.set_attributes(self._attributes)  # type: ignore[arg-type]
        if note.outcome == "failed":
            self._span.set_status(StatusCode.ERROR, note.error_code)
        self._span.end()


class Careful(SpanExporter):
    """An exporter that masks texts, logs once when a collector is lost and once when it is back, and stops in time."""

    def __init__(self, inner: SpanExporter, place: str, *, blacken: Blacken, counted: Counted) -> None:
        self._inner, self._place, self._blacken, self._counted = inner, place, blacken, counted
        self._gone = False
        self.closing = False
        """Whether the worker is shutting down: spans that a collector does not accept at once are then dropped."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. A span that cannot be masked is sent without its texts."""
        if self.closing and self._gone:
            self._counted(len(spans), False)
            return SpanExportResult.FAILURE
        result = self._inner.export([self._masked(span) for span in spans])
        sent = result is SpanExportResult.SUCCESS
        self._counted(len(spans), sent)
        if sent == self._gone:
            self._gone = not sent
            if sent:
                log.info("%s takes spans again", self._place)
            else:
                log.warning("%s takes no spans; they are dropped until it does, and requests go on", self._place)
        return result

    def shutdown(self) -> None:
        """Stop the exporter."""
        self._inner.shutdown()

    def _masked(self, span: ReadableSpan) -> ReadableSpan:
        attributes = span.attributes or {}
        if INPUT not in attributes and OUTPUT not in attributes:
            return span
        kept = {name: value for name, value in attributes.items() if name not in (INPUT, OUTPUT)}
        try:
            kept |= self._texts(attributes)
        except Exception:  # outermost loop of the texts of one span: they are dropped, the rest of it is sent
            log.exception("the texts of a span could not be masked, so they are left out")
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=kept,
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _texts(self, attributes: Mapping[str, object]) -> dict[str, str]:
        """Return the attributes with masked texts: equal values have equal placeholders in question and answer."""
        read = {name: read_messages(str(attributes[name])) for name in (INPUT, OUTPUT) if name in attributes}
        texts = [text for messages in read.values() for text in texts_of(messages)]
        masked = iter(self._blacken(texts))
        return {
            name: with_texts(messages, [next(masked) for _ in texts_of(messages)]) for name, messages in read.items()
        }


def _common(operation: str) -> dict[str, str]:
    return {"gen_ai.operation.name": operation, "gen_ai.provider.name": "ashore"}
