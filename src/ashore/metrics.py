"""Every metric of an API worker, in one table, and the page that `/metrics` shows.

Labels come from closed sets (aliases that are served, route patterns, HTTP status, error codes), so the number of
series is bounded whatever clients send. Nothing here runs per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.core import Metric

    from ashore.engines import EngineStats

Kind = Literal["counter", "gauge", "histogram"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)

TABLE: Final[tuple[tuple[str, Kind, str, tuple[str, ...], tuple[float, ...]], ...]] = (
    (
        "ashore_requests",
        "counter",
        "Requests answered, by route and status (HTTP number or gRPC name).",
        ("route", "status"),
        (),
    ),
    ("ashore_request_seconds", "histogram", "From the first byte read to the last one sent.", ("route",), _SECONDS),
    ("ashore_errors", "counter", "Errors answered, by code of the error tree.", ("code",), ()),
    ("ashore_ttft_seconds", "histogram", "From arrival to the first piece of the answer.", ("model",), _SECONDS),
    (
        "ashore_time_per_token_seconds",
        "histogram",
        "Mean per request, after its first token.",
        ("model",),
        _TOKEN_SECONDS,
    ),
    ("ashore_stage_seconds", "histogram", "Time in one stage of the request path.", ("stage",), _SECONDS),
    ("ashore_prompt_tokens", "counter", "Prompt tokens of whole answers.", ("model",), ()),
    ("ashore_cached_tokens", "counter", "Prompt tokens that came from the prefix cache.", ("model",), ()),
    ("ashore_completion_tokens", "counter", "Tokens generated in whole answers.", ("model",), ()),
    ("ashore_cache_lookups", "counter", "Requests that could be kept, by what was found.", ("model", "result"), ()),
    ("ashore_cache_bytes", "gauge", "Memory that kept answers take in this worker.", (), ()),
    ("ashore_cache_entries", "gauge", "Kept answers and finished responses in this worker.", (), ()),
    ("ashore_cache_evictions", "gauge", "Entries that left the cache of this worker for want of room.", (), ()),
    ("ashore_shared_cache_up", "gauge", "1 while the shared cache answers, 0 while it is left alone.", (), ()),
    (
        "ashore_masked_entities",
        "counter",
        "Personal data met in prompts and answers, by kind and what was done.",
        ("kind", "action", "where"),
        (),
    ),
    ("ashore_retries", "counter", "Requests sent to another replica because a host died.", ("model",), ()),
    ("ashore_cancelled", "counter", "Answers that the client did not wait for.", ("model",), ()),
    ("ashore_running_sequences", "gauge", "Sequences given to engines.", ("model",), ()),
    ("ashore_waiting_sequences", "gauge", "Sequences that wait for a slot.", ("model",), ()),
    ("ashore_tokens_in_flight", "gauge", "Prompt and expected answer tokens, running and waiting.", ("model",), ()),
    ("ashore_replicas_ready", "gauge", "Replicas that are connected.", ("model",), ()),
    ("ashore_refused", "counter", "Requests refused for want of room, by why.", ("model", "reason"), ()),
    ("ashore_running_limit", "gauge", "Sequences that this worker drives at most.", (), ()),
    ("ashore_loop_busy_share", "gauge", "Share of the time in which this worker's loop had no rest.", (), ()),
    ("ashore_loop_lag_seconds", "gauge", "What an event waits until this worker's loop comes to it.", (), ()),
    ("ashore_deferred", "counter", "Requests that became jobs for want of room, by route.", ("route",), ()),
    ("ashore_jobs", "gauge", "Jobs in the queue, by kind and state; the same in every worker.", ("kind", "state"), ()),
    (
        "ashore_backup_time_seconds",
        "gauge",
        "Of backups and scrubs made by themselves: Unix time of the last good end (`good`), of the next one (`due`).",
        ("kind", "what"),
        (),
    ),
    ("ashore_backup_failures", "gauge", "Backups and scrubs made by themselves that failed in a row.", ("kind",), ()),
    ("ashore_backup_harms", "gauge", "Harms that scrub and repair have found, and have repaired.", ("what",), ()),
    (
        "ashore_backup_nodes",
        "gauge",
        "Nodes of the backup that lack something (`away`), that may still be lost (`spare`; below 0: something is).",
        ("what",),
        (),
    ),
    (
        "ashore_audit_archive_time_seconds",
        "gauge",
        "Unix time at which a round of archiving the audit last ended well; 0: none did.",
        (),
        (),
    ),
    ("ashore_audit_archive_failures", "gauge", "Rounds of archiving the audit that failed in a row.", (), ()),
    ("ashore_open_requests", "gauge", "HTTP requests in progress.", (), ()),
    ("ashore_workers", "gauge", "API workers of this machine that answered for this page.", (), ()),
)
"""Name, kind, help, labels, buckets."""

HOST_TABLE: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("running", "gauge", "Sequences in the engine's batch."),
    ("waiting", "gauge", "Sequences queued in the host."),
    ("kv_tokens_used", "gauge", "Tokens held in the KV cache."),
    ("kv_tokens_total", "gauge", "Tokens that the KV cache holds."),
    ("steps", "counter", "Engine steps since load."),
    ("step_seconds", "counter", "Seconds spent in engine steps."),
    ("prompt_tokens", "counter", "Prompt tokens since load."),
    ("cached_tokens", "counter", "Prompt tokens from the prefix cache since load."),
    ("completion_tokens", "counter", "Tokens generated since load."),
    ("preemptions", "counter", "Sequences set back for want of KV cache."),
)
"""Field of `EngineStats`, kind, help. On the page as `ashore_host_FIELD`, with labels model and replica."""


class Metrics:
    """The metrics of one process. Make one, hand it down; nothing is global."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._host_stats: Mapping[tuple[str, str], EngineStats] = {}
        made: dict[str, Counter | Gauge | Histogram] = {}
        for name, kind, text, labels, buckets in TABLE:
            match kind:
                case "counter":
                    made[name] = Counter(name, text, labels, registry=self._registry)
                case "gauge":
                    made[name] = Gauge(name, text, labels, registry=self._registry)
                case "histogram":
                    made[name] = Histogram(name, text, labels, buckets=buckets, registry=self._registry)
        self._made = made
        self._children: dict[tuple[str, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        self._registry.register(_Hosts(self))

    def add(self, name: str, amount: float = 1.0, *labels: str) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(amount)  # type: ignore[union-attr]

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        self._child(name, labels).observe(value)  # type: ignore[union-attr]

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)  # type: ignore[union-attr]

    def drop(self, name: str, *labels: str) -> None:
        """Forget a gauge with these labels: what it was of is gone. Nothing happens where there is none."""
        if self._children.pop((name, labels), None) is not None:
            self._made[name].remove(*labels)

    def set_hosts(self, stats: Mapping[tuple[str, str], EngineStats]) -> None:
        """Take what hosts said last, by (alias, replica); replaces what they said before."""
        self._host_stats = dict(stats)

    def page(self) -> bytes:
        """Return all of it in Prometheus' text form."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def value(self, name: str, *labels: str) -> float:
        """Return a counter or gauge as it stands; for tests and `/readyz`."""
        return float(self._child(name, labels)._value.get())  # type: ignore[union-attr]

    def _child(self, name: str, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        key = (name, labels)
        child = self._children.get(key)
        if child is None:
            made = self._made[name]
            child = self._children[key] = made.labels(*labels) if labels else made
        return child

    def host_stats(self) -> Iterable[tuple[tuple[str, str], EngineStats]]:
        """Return what `set_hosts` took."""
        return self._host_stats.items()


class _Hosts:
    """Collector of what the hosts said."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = list(self._metrics.host_stats())
        for field, kind, text in HOST_TABLE:
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = make(f"ashore_host_{field}", text, labels=("model", "replica"))
            for labels, one in stats:
                family.add_metric(labels, float(getattr(one, field)))
            yield family
