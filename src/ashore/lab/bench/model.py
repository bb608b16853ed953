"""Requests and results of a load test."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ashore.core.errors import InvalidRequest
from ashore.lab.bench.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """The promised service level; None: none."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One measurement. Exactly one of `rate_per_s` (open loop) and `concurrency` (closed loop) is set."""

    url: str
    """`http://host:port`, with or without `/v1`."""
    model: str = ""
    """Empty: the first one that `/v1/models` names."""
    api: Literal["chat", "completions"] = "chat"
    key: str = field(default="", repr=False)
    ca_file: str = ""
    """Authority of the server's certificate; empty: those of the system."""
    rate_per_s: float | None = None
    """Open loop: arrivals of a Poisson process; latency counts from the planned arrival, not from a free slot."""
    concurrency: int | None = None
    """Closed loop: so many users, each asking again as soon as it is answered."""
    requests: int | None = None
    duration_s: float | None = None
    """After so many seconds nothing new is sent; what runs is waited for."""
    prompt_tokens: int = 32
    """Length of the prompt as the server counts it, template and system prompt left out of the reckoning when
    `calibrate` is off, the template included when it is on."""
    output_tokens: int = 64
    workload: Workload | None = None
    """Prompts of this kind instead of `prompt_tokens`; use it with `calibrate` off."""
    first_index: int = 0
    """Number of the first prompt."""
    system_tokens: int = 0
    """Length of a system prompt that every request shares; 0: none."""
    seed: int = 0
    temperature: float = 0.0
    ignore_eos: bool = True
    """Ask for answers of exactly `output_tokens`; servers that do not know the field may refuse it."""
    warmup: int = 1
    """Requests sent one by one and not counted."""
    calibrate: bool = True
    """Send up to three short probes until the server itself counts `prompt_tokens`."""
    ramp_s: float = 0.0
    """Closed loop: users start evenly over so many seconds."""
    timeout_s: float = 120.0
    slo: Slo = Slo()
    stall_ms: float = 200.0
    """A gap between two events of one stream longer than this counts as a stall."""
    keep_text: bool = False
    tokenizer: Path | None = None
    """`tokenizer.json` of the model: prompts are then exact without probing."""
    extra_body: dict[str, object] = field(default_factory=dict)
    """More fields for every request body; None leaves one out."""

    def __post_init__(self) -> None:
        if (self.rate_per_s is None) == (self.concurrency is None):
            raise InvalidRequest(
                "set either a rate (open loop) or a concurrency (closed loop)", hint="--rate 4 or --concurrency 16"
            )
        if self.requests is None and self.duration_s is None:
            raise InvalidRequest(
                "the measurement has no end; set the number of requests or a duration", hint="--requests 100"
            )
        limits = {"rate": self.rate_per_s, "concurrency": self.concurrency, "requests": self.requests}
        limits |= {"duration": self.duration_s, "prompt-tokens": self.prompt_tokens}
        limits |= {"output-tokens": self.output_tokens, "timeout": self.timeout_s}
        for name, value in limits.items():
            if value is not None and value <= 0:
                raise InvalidRequest(f"{name} is {value}; expected more than 0", param=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as seen by its sender. Times in seconds; `start_s` counts from the start of the measurement."""

    index: int
    start_s: float
    e2e_s: float
    status: int = 0
    """HTTP status; 0 where no answer came."""
    error: str = ""
    """Empty when the whole answer came: status 200, every event, `[DONE]`."""
    ttft_s: float | None = None
    """Until the first event that carried text."""
    gaps_s: tuple[float, ...] = ()
    """Between successive events that carried text."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    accepted_tokens: int = 0
    rejected_tokens: int = 0
    finish_reason: str = ""
    text: str = ""

    @property
    def tpot_s(self) -> float | None:
        """Return seconds per token after the first, or None for answers of one token."""
        if self.completion_tokens < 2 or not self.gaps_s:
            return None
        return sum(self.gaps_s) / (self.completion_tokens - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Milliseconds over many observations; zeros when there was none."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Requests served within the service level."""

    requests_per_s: float
    tok_per_s: float
    share: float
    """Of all requests sent, between 0 and 1; failed ones count as not served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupReport:
    """A workload with tokens looked up and without, in turns."""

    workload: Workload
    rounds: tuple[tuple[LoadReport, LoadReport], ...]
    """With and without, of the same prompts: one of each user."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Tokens per second with look-up as a multiple of those without, by round."""
        return tuple(on.tok_per_s / max(off.tok_per_s, 1e-9) for on, off in self.rounds)

    @property
    def ratio(self) -> float:
        """Median of `ratios`."""
        return statistics.median(self.ratios)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Result of a measurement."""

    url: str
    model: str
    api: str
    load: str
    """`closed loop, 16 users` or `open loop, 4 requests/s`."""
    wall_s: float
    """From the first arrival to the last answer."""
    sent: int
    succeeded: int
    errors: dict[str, int]
    """What failed, and how often."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    accepted_tokens: int
    """Of these, tokens that the server had proposed by look-up or with a draft."""
    rejected_tokens: int
    requests_per_s: float
    tok_per_s: float
    """Completion tokens over `wall_s`."""
    ttft_ms: Distribution
    tpot_ms: Distribution
    gap_ms: Distribution
    e2e_ms: Distribution
    worst_gap_ms: Distribution
    """The longest gap of each stream."""
    stall_ms: float
    stalled_streams: int
    """Streams with a gap longer than `stall_ms`."""
    first_ttft_ms: float
    """Of the first counted request: with a shared system prompt and no warm-up, the uncached one."""
    later_ttft_ms: Distribution
    """Of all others."""
    goodput: Goodput | None
    client_cpu_s: float
    """Processor seconds that the load client itself took during `wall_s`."""
    records: tuple[RequestRecord, ...] = field(default=(), repr=False)
