"""Traces: each request as a span of OpenTelemetry, sent to a collector over OTLP.

Owns: `[otel]`, the attributes of a span, and the export of spans off the request path. Refuses: to import OpenTelemetry
where `[otel] endpoint` is empty; to send texts that the privacy policy does not release (`trace_content`), or unmasked.

Where to add what:

- An attribute: data/tracing/attributes.py, by its name in OpenTelemetry's semantic conventions where they have one.
- How spans are batched and sent: data/tracing/export.py.
"""

from ashore.data.tracing.section import OtelSection
