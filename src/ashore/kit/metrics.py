"""The metrics of an API worker: those of the request path in one table, those of rooms, and the page that shows them.

Labels come from closed sets (aliases that are served, route patterns, HTTP status, error codes), so the number of
series is bounded whatever clients send. Nothing here runs per token.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Kind = Literal["counter", "gauge", "histogram"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)


class Metric(NamedTuple):
    """One metric of a worker."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of the buckets of a histogram."""


TABLE: Final[tuple[Metric, ...]] = (
    Metric(
        "ashore_requests", "counter", "Requests answered, by route and status (HTTP number or gRPC name).",
        ("route", "status"),
    ),
    Metric(
        "ashore_ignored_fields",
        "counter",
        "Request fields that were ignored, by route and path; `other`: an unknown field.",
        ("route", "field"),
    ),
    Metric(
        "ashore_request_seconds", "histogram", "Time from the first byte read to the last byte sent.",
        ("route",), _SECONDS,
    ),
    Metric("ashore_errors", "counter", "Errors returned, by error code.", ("code",)),
    Metric(
        "ashore_ttft_seconds", "histogram", "Time to first token: from arrival to the first part of the answer.",
        ("model",), _SECONDS,
    ),
    Metric(
        "ashore_time_per_token_seconds", "histogram", "Mean time per token of a request, after its first token.",
        ("model",), _TOKEN_SECONDS,
    ),
    Metric("ashore_stage_seconds", "histogram", "Time spent in one stage of the request path.", ("stage",), _SECONDS),
    Metric(
        "ashore_answer_seconds", "histogram", "From arrival to the end of a generated answer.", ("model",), _SECONDS
    ),
    Metric("ashore_queue_seconds", "histogram", "Wait of a generated answer for a slot.", ("model",), _SECONDS),
    Metric("ashore_prefill_seconds", "histogram", "From the slot to the first token.", ("model",), _SECONDS),
    Metric("ashore_decode_seconds", "histogram", "From the first token to the last.", ("model",), _SECONDS),
    Metric("ashore_inference_seconds", "histogram", "From the slot to the last token.", ("model",), _SECONDS),
    Metric("ashore_prompt_length", "histogram", "Tokens of the prompt of a generated answer.", ("model",), _TOKENS),
    Metric("ashore_answer_length", "histogram", "Tokens of a generated answer, all choices.", ("model",), _TOKENS),
    Metric(
        "ashore_answers", "counter",
        "Choices that were generated, by why they ended: stop, length, tool_calls, cancelled, error.",
        ("model", "reason"),
    ),
    Metric(
        "ashore_precision_answers", "counter",
        "Answers of a model with a ladder, by the precisions that computed them.", ("model", "precision"),
    ),
    Metric("ashore_prompt_tokens", "counter", "Prompt tokens of completed answers.", ("model",)),
    Metric("ashore_cached_tokens", "counter", "Prompt tokens that came from the prefix cache.", ("model",)),
    Metric("ashore_completion_tokens", "counter", "Tokens generated in completed answers.", ("model",)),
    Metric(
        "ashore_openings", "counter",
        "Requests of a model with several replicas, by where they went: first (of their opening), elsewhere.",
        ("model", "replica"),
    ),
    Metric("ashore_cache_lookups", "counter", "Cache lookups of cacheable requests, by result.", ("model", "result")),
    Metric("ashore_cache_bytes", "gauge", "Memory used by cached answers in this worker."),
    Metric("ashore_cache_entries", "gauge", "Cached answers and finished responses in this worker."),
    Metric("ashore_cache_evictions", "gauge", "Entries evicted from the cache of this worker to free memory."),
    Metric("ashore_shared_cache_up", "gauge", "1 while the shared cache is used, 0 while it is bypassed."),
    Metric(
        "ashore_masked_entities", "counter", "Personal data found in prompts and answers, by kind and action taken.",
        ("kind", "action", "where"),
    ),
    Metric("ashore_retries", "counter", "Requests sent to another replica because a host died.", ("model",)),
    Metric(
        "ashore_moved_answers", "counter",
        "Whole answers that went on at another replica or node after the one that they had begun on was lost.",
        ("model",),
    ),
    Metric(
        "ashore_moved_pause_seconds", "histogram",
        "From the loss of a replica to the next token of an answer that went on at another one.", ("model",), _SECONDS,
    ),
    Metric(
        "ashore_fallbacks", "counter", "Answers that another alias gave, by what led to it: away, busy, too-long.",
        ("model", "to", "on"),
    ),
    Metric("ashore_cancelled", "counter", "Answers that the client cancelled or disconnected from.", ("model",)),
    Metric("ashore_running_sequences", "gauge", "Sequences given to engines.", ("model",)),
    Metric("ashore_waiting_sequences", "gauge", "Sequences waiting for a slot.", ("model",)),
    Metric(
        "ashore_tokens_in_flight", "gauge",
        "Prompt tokens and expected answer tokens of running and waiting requests.",
        ("model",),
    ),
    Metric("ashore_replicas_ready", "gauge", "Replicas that are connected.", ("model",)),
    Metric(
        "ashore_route_answers", "counter", "Answers of an alias that is routed by cost, by the model that gave them.",
        ("model", "backend"),
    ),
    Metric(
        "ashore_route_late", "counter", "Those that came after they were due.", ("model", "backend"),
    ),
    Metric(
        "ashore_route_cost", "counter", "Their cost, in the currency of the prices: device time at the price of it.",
        ("model", "backend"),
    ),
    Metric(
        "ashore_route_price", "gauge", "Price of one replica for an hour, as declared.", ("model", "backend"),
    ),
    Metric(
        "ashore_route_tokens_per_second", "gauge",
        "Learned rates of one replica: prefill, stream (one answer alone), full (all answers together).",
        ("model", "backend", "rate"),
    ),
    Metric(
        "ashore_route_ready", "gauge", "Replicas that a request routed by cost may go to.", ("model", "backend"),
    ),
    Metric("ashore_route_waiting", "gauge", "Requests that wait to be routed by cost.", ("model",)),
    Metric("ashore_refused", "counter", "Requests refused for lack of capacity, by reason.", ("model", "reason")),
    Metric("ashore_running_limit", "gauge", "Maximum number of sequences that this worker runs at once."),
    Metric("ashore_loop_busy_share", "gauge", "Share of time in which this worker's event loop was busy."),
    Metric("ashore_loop_lag_seconds", "gauge", "Delay before this worker's event loop handles an event."),
    Metric("ashore_deferred", "counter", "Requests deferred to jobs for lack of capacity, by route.", ("route",)),
    Metric("ashore_open_requests", "gauge", "HTTP requests in progress."),
    Metric("ashore_workers", "gauge", "API workers of this machine that contributed to this page."),
)  # fmt: skip
"""What the request path measures; each room brings its own beside it."""

_BY_HOST: Final = ("model", "replica")
_BY_BACKEND: Final = ("model", "replica", "server")

HOST_TABLE: Final[tuple[Metric, ...]] = (
    Metric("ashore_host_running", "gauge", "Sequences in the engine's batch.", _BY_HOST),
    Metric("ashore_host_waiting", "gauge", "Sequences queued in the host.", _BY_HOST),
    Metric("ashore_host_kv_tokens_used", "gauge", "Tokens stored in the KV cache.", _BY_HOST),
    Metric("ashore_host_kv_tokens_total", "gauge", "Capacity of the KV cache in tokens.", _BY_HOST),
    Metric("ashore_host_steps", "counter", "Engine steps since load.", _BY_HOST),
    Metric("ashore_host_step_seconds", "counter", "Seconds spent in engine steps.", _BY_HOST),
    Metric("ashore_host_prompt_tokens", "counter", "Prompt tokens since load.", _BY_HOST),
    Metric("ashore_host_cached_tokens", "counter", "Prompt tokens from the prefix cache since load.", _BY_HOST),
    Metric("ashore_host_restored_tokens", "counter", "Prompt tokens from prefixes on disk since load.", _BY_HOST),
    Metric("ashore_host_kept_prefix_bytes", "gauge", "Prefixes on disk, of all hosts of this home.", _BY_HOST),
    Metric("ashore_host_prefix_faults", "counter", "Prefixes on disk that were not written or did not open.", _BY_HOST),
    Metric("ashore_host_completion_tokens", "counter", "Tokens generated since load.", _BY_HOST),
    Metric("ashore_host_proposed_tokens", "counter", "Tokens proposed by look-up since load.", _BY_HOST),
    Metric("ashore_host_accepted_tokens", "counter", "Proposed tokens that answers go on with.", _BY_HOST),
    Metric("ashore_host_preemptions", "counter", "Sequences preempted because the KV cache was full.", _BY_HOST),
    Metric("ashore_host_block_tokens", "gauge", "Tokens in a block of the KV cache; 0: it has none.", _BY_HOST),
    Metric("ashore_host_opening_first", "counter", "Orders sent to the server of their opening.", _BY_HOST),
    Metric("ashore_host_opening_elsewhere", "counter", "Orders sent to another server, for its load.", _BY_HOST),
    Metric("ashore_host_adapters", "gauge", "LoRA adapters that are loaded.", _BY_HOST),
    Metric("ashore_host_rung", "gauge", "Rung of the ladder that computes now; 0: the most exact.", _BY_HOST),
    Metric("ashore_host_rung_switches", "counter", "Changes of the rung since load.", _BY_HOST),
    Metric(
        "ashore_host_adapter_active", "gauge",
        "1 for each LoRA adapter of which a sequence is `running` or `waiting`.",
        (*_BY_HOST, "adapter", "state"),
    ),
    Metric("ashore_host_backend_up", "gauge", "1 while a server of another machine gets orders.", _BY_BACKEND),
    Metric("ashore_host_backend_running", "gauge", "Orders on a server of another machine.", _BY_BACKEND),
    Metric("ashore_host_backend_orders", "counter", "Orders sent to a server of another machine.", _BY_BACKEND),
    Metric("ashore_host_backend_ejections", "counter", "Times a server of another machine was put out.", _BY_BACKEND),
    Metric("ashore_host_backend_prompt_tokens", "counter", "Prompt tokens of a server that reports hits.", _BY_BACKEND),
    Metric("ashore_host_backend_cached_tokens", "counter", "Those that its prefix cache had.", _BY_BACKEND),
)  # fmt: skip
"""Of engine hosts, as each reports them: `data/path` sets the whole of each before a page is made."""


class Metrics:
    """The metrics of one process. Create one and pass it down; there is no global. Thread-safe.

    A request updates a dozen of them, so they are plain numbers here; `prometheus_client` writes the page.
    """

    def __init__(self, more: Iterable[Metric] = ()) -> None:
        """Start with the metrics of `TABLE`, `more` and `HOST_TABLE`."""
        self.table: Final = (*TABLE, *more, *HOST_TABLE)
        self._num_labels = {one.name: len(one.labels) for one in self.table}
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}
        """Of counters and gauges, by name and labels."""
        self._spreads: dict[tuple[str, tuple[str, ...]], _Spread] = {}
        """Of histograms."""
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._lock = threading.Lock()
        for name, kind, _, labels, bounds in self.table:
            if kind == "histogram":
                self._bounds[name] = bounds
            elif not labels:
                self._values[name, ()] = 0.0

    def add(self, name: str, amount: float = 1.0, *labels: str) -> None:
        """Add to a counter."""
        key = (name, labels)
        with self._lock:
            so_far = self._values.get(key)
            self._values[key] = amount + (self._begun(name, labels) if so_far is None else so_far)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        with self._lock:
            spread = self._spreads.get((name, labels)) or self._new_spread(name, labels)
            spread.observe(value)

    def observe_all(self, values: Mapping[str, float], *labels: str) -> None:
        """Put a value into each of several histograms with the same labels."""
        with self._lock:
            for name, value in values.items():
                spread = self._spreads.get((name, labels)) or self._new_spread(name, labels)
                spread.observe(value)

    def _new_spread(self, name: str, labels: tuple[str, ...]) -> _Spread:
        self._begun(name, labels)
        spread = self._spreads[name, labels] = _Spread(self._bounds[name])
        return spread

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        key = (name, labels)
        with self._lock:
            if key not in self._values:
                self._begun(name, labels)
            self._values[key] = value

    def _begun(self, name: str, labels: tuple[str, ...]) -> float:
        """Return the initial value of a metric. An unknown name or wrong number of labels is our own bug."""
        assert len(labels) == self._num_labels[name], f"{name} has {self._num_labels[name]} labels, not {labels}"
        return 0.0

    def drop(self, name: str, *labels: str) -> None:
        """Remove a gauge with these labels, because its subject is gone. No-op if there is none."""
        with self._lock:
            self._values.pop((name, labels), None)

    def set_all(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set every series of a counter or gauge, by its labels; others of that name are gone."""
        with self._lock:
            for labels in values:
                self._begun(name, labels)
            gone = [key for key in self._values if key[0] == name and key[1] not in values]
            for key in gone:
                del self._values[key]
            self._values.update({(name, labels): value for labels, value in values.items()})

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Own(self))
        return generate_latest(registry)

    def value(self, name: str, *labels: str) -> float:
        """Return the value of a counter or gauge, 0 if never set; for tests and `/readyz`."""
        return self._values.get((name, labels), 0.0)

    def values_of(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        """Return a counter or gauge by its labels."""
        with self._lock:
            return [(labels, value) for (one, labels), value in self._values.items() if one == name]

    def spreads_of(self, name: str) -> list[tuple[tuple[str, ...], list[int], float]]:
        """Return a histogram by its labels: the count at or below each bound, the total count and the sum."""
        with self._lock:
            return [
                (labels, list(accumulate(spread.counts)), spread.total)
                for (one, labels), spread in self._spreads.items()
                if one == name
            ]


class _Spread:
    """A histogram with one set of labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Between one bound and the next; the last is of what lies above all of them."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class _Own:
    """Collector of this process's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        for name, kind, text, names, bounds in self._metrics.table:
            if kind == "histogram":
                spread = HistogramMetricFamily(name, text, labels=names)
                written = [floatToGoString(bound) for bound in (*bounds, float("inf"))]  # type: ignore[no-untyped-call]
                for labels, counts, total in self._metrics.spreads_of(name):
                    spread.add_metric(labels, list(zip(written, counts, strict=True)), total)
                yield spread
                continue
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = make(name, text, labels=names)
            for labels, value in self._metrics.values_of(name):
                family.add_metric(labels, value)
            yield family
