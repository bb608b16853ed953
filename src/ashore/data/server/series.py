"""Figures over time: how they are sampled, merged and read. Pure.

A tick holds what happened in `TICK_S` seconds. Ticks of several workers are merged, and several ticks into a longer
one, by the same rule, so that 30 days read as 8 hours do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ashore.kit.metrics import Metrics

TICK_S: Final = 10
LONG_S: Final = 300
KEPT_S: Final[Mapping[int, int]] = {TICK_S: 8 * 3600, LONG_S: 30 * 86_400}
"""How long ticks of each length are kept."""

Kind = Literal["rate", "level", "peak", "spread"]
"""How figures are merged. rate: counts, added over workers and time, read per second. level: added over workers, their
mean over time. peak: the largest. spread: counts of a histogram, added; read as a quantile."""
Figure = float | tuple[float, ...]
Tick = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Series:
    """One figure."""

    name: str
    metric: str
    """Of the worker; `host:FIELD` for one of the engine hosts, which every worker knows alike; `MEMORY`."""
    kind: Kind
    unit: str
    help: str
    label: str = ""
    """Only values with this label."""
    over: str = ""
    """For hosts: the field that is all of it, so that the figure is a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a figure is displayed: one series, or a quantile of one."""

    name: str
    series: Series
    quantile: float = 0.0

    @property
    def help(self) -> str:
        return f"{self.series.help}, quantile {self.quantile:g}" if self.quantile else self.series.help


MEMORY: Final = "machine:memory"
SERIES: Final = (
    Series("requests", "ashore_requests", "rate", "1/s", "Requests answered"),
    Series("errors", "ashore_errors", "rate", "1/s", "Errors returned"),
    Series("refused", "ashore_refused", "rate", "1/s", "Requests refused for lack of capacity"),
    Series("deferred", "ashore_deferred", "rate", "1/s", "Requests deferred to jobs"),
    Series("cancelled", "ashore_cancelled", "rate", "1/s", "Answers that clients cancelled"),
    Series("prompt_tokens", "ashore_prompt_tokens", "rate", "tok/s", "Prompt tokens"),
    Series("answer_tokens", "ashore_completion_tokens", "rate", "tok/s", "Tokens generated"),
    Series("prefix_tokens", "ashore_cached_tokens", "rate", "tok/s", "Prompt tokens from the prefix cache"),
    Series("cache_lookups", "ashore_cache_lookups", "rate", "1/s", "Lookups of the answer cache"),
    Series(
        "cache_hits",
        "ashore_cache_lookups",
        "rate",
        "1/s",
        "Lookups of the answer cache that found something",
        label="hit",
    ),
    Series("masked", "ashore_masked_entities", "rate", "1/s", "Personal data found"),
    Series("running", "ashore_running_sequences", "level", "", "Sequences given to engines"),
    Series("waiting", "ashore_waiting_sequences", "level", "", "Sequences that wait for a slot"),
    Series("open_requests", "ashore_open_requests", "level", "", "HTTP requests in progress"),
    Series("tokens_in_flight", "ashore_tokens_in_flight", "level", "tok", "Tokens of running and waiting requests"),
    Series("replicas_ready", "ashore_replicas_ready", "peak", "", "Replicas that are connected"),
    Series("kv_used", "host:kv_tokens_used", "peak", "share", "Share of the KV cache in use", over="kv_tokens_total"),
    Series("memory_used", MEMORY, "peak", "share", "Share of the memory that this server may use, in use"),
    Series("cache_bytes", "ashore_cache_bytes", "level", "B", "Memory of cached answers"),
    Series("loop_busy", "ashore_loop_busy_share", "peak", "share", "Share of time in which an event loop was busy"),
    Series("loop_lag", "ashore_loop_lag_seconds", "peak", "s", "Delay of an event loop"),
    Series("ttft", "ashore_ttft_seconds", "spread", "s", "Time to first token"),
    Series("per_token", "ashore_time_per_token_seconds", "spread", "s", "Time per token after the first"),
    Series("queue", "ashore_queue_seconds", "spread", "s", "Wait for a slot"),
)
QUANTILES: Final = (0.5, 0.95)
READINGS: Final = tuple(
    Reading(name=f"{one.name}_p{quantile * 100:.0f}", series=one, quantile=quantile)
    if quantile
    else Reading(name=one.name, series=one)
    for one in SERIES
    for quantile in (QUANTILES if one.kind == "spread" else (0.0,))
)


class Sampler:
    """Samples one worker's metrics."""

    def __init__(self, metrics: Metrics, *, memory_used: Callable[[], float] = lambda: 0.0) -> None:
        """Create it. `memory_used`: the share of the memory that this server may use, in use."""
        self._metrics = metrics
        self._memory_used = memory_used
        self._before = {one.name: self._total(one) for one in SERIES}

    def tick(self) -> dict[str, Figure]:
        """Return the changes since the last call, without zeros: most are zero."""
        found: dict[str, Figure] = {}
        for one in SERIES:
            now, before = self._total(one), self._before[one.name]
            self._before[one.name] = now
            if isinstance(now, tuple):
                spread = tuple(max(0.0, a - b) for a, b in zip(now, before or (0.0,) * len(now), strict=True))  # type: ignore[arg-type]
                if any(spread):
                    found[one.name] = spread
            else:
                value = max(0.0, now - before) if one.kind == "rate" else now  # type: ignore[operator]
                if value:
                    found[one.name] = value
        return found

    def _total(self, one: Series) -> Figure:
        if one.metric == MEMORY:
            return self._memory_used()
        if one.metric.startswith("host:"):
            of, over = one.metric.removeprefix("host:"), one.over
            wholes = dict(self._metrics.values_of(f"ashore_host_{over}"))
            parts = self._metrics.values_of(f"ashore_host_{of}")
            return max((part / whole for labels, part in parts if (whole := wholes.get(labels))), default=0.0)
        if one.kind == "spread":
            spreads = [counts for _, counts, _ in self._metrics.spreads_of(one.metric)]
            return tuple(float(sum(column)) for column in zip(*spreads, strict=True))
        values = (
            value for labels, value in self._metrics.values_of(one.metric) if not one.label or one.label in labels
        )
        return float(sum(values))


def merged(ticks: Sequence[Tick], *, over_time: bool) -> dict[str, Figure]:
    """Return several ticks merged into one: of several workers at one moment, or consecutive ones of a worker."""
    found: dict[str, Figure] = {}
    for one in SERIES:
        values = [tick[one.name] for tick in ticks if one.name in tick]
        if not values:
            continue
        spreads = [value for value in values if isinstance(value, (tuple, list))]
        if spreads:
            found[one.name] = tuple(float(sum(column)) for column in zip(*spreads, strict=True))
            continue
        plain = [value for value in values if isinstance(value, (int, float))]
        if one.kind == "peak":
            found[one.name] = max(plain)
        else:
            mean = one.kind == "level" and over_time
            found[one.name] = sum(plain) / (len(ticks) if mean else 1)
    return found


def read(reading: Reading, tick: Tick | None, *, length_s: int) -> float | None:
    """Return one figure of a tick of `length_s` seconds; None: unknown, or not measured."""
    if tick is None:
        return None
    value = tick.get(reading.series.name)
    if reading.series.kind == "spread":
        return None if value is None or isinstance(value, (int, float)) else quantile_of(reading, value)
    plain = 0.0 if value is None or not isinstance(value, (int, float)) else float(value)
    return plain / length_s if reading.series.kind == "rate" else plain


def quantile_of(reading: Reading, cumulated: Sequence[float]) -> float | None:
    """Return a quantile of a histogram, interpolated linearly between bounds; above the last bound, that bound."""
    from ashore.kit.metrics import TABLE

    bounds = next(one.bounds for one in TABLE if one.name == reading.series.metric)
    total = cumulated[-1]
    if total <= 0:
        return None
    rank, low, below = reading.quantile * total, 0.0, 0.0
    for bound, count in zip(bounds, cumulated, strict=False):
        if count >= rank:
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = float(bound), count
    return float(bounds[-1])


def gathered(
    rows: Iterable[tuple[int, Tick]], *, start_s: int, step_s: int, num_points: int, ticks_a_point: int
) -> list[Tick | None]:
    """Return one merged tick for each point from `start_s` on; None if no worker wrote any.

    Args:
        rows: Time and tick of every worker.
        start_s: Time of the first tick.
        step_s: Length of a tick.
        num_points: How many points.
        ticks_a_point: Ticks that one point spans.
    """
    by_time: dict[int, list[Tick]] = {}
    for at_s, tick in rows:
        by_time.setdefault(at_s, []).append(tick)
    points: list[Tick | None] = []
    for number in range(num_points):
        first_s = start_s + number * ticks_a_point * step_s
        times = (by_time.get(first_s + at * step_s) for at in range(ticks_a_point))
        there = [merged(ticks, over_time=False) for ticks in times if ticks]
        points.append(merged(there, over_time=True) if there else None)
    return points
