"""Candidates, measurements and choices of tuning. Stored as JSON, so these are msgspec structs."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from ashore.core.kinds import EngineKind
from ashore.data.engines.cards import card_of
from ashore.data.engines.model import EngineOptions

Goal = Literal["latency", "throughput", "balanced"]

GOALS: Final[tuple[Goal, ...]] = get_args(Goal)

MANY_STREAMS: Final = 16
"""Streams of the throughput axis; `one_tok_per_s` is the latency axis."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the model on this machine."""

    kind: EngineKind
    variant: str
    """Variant of the model in the store; empty for the model as pulled."""
    precision: str
    """Precision of the weights, in words: `int8`, `fp16`, `q8_0`."""
    options: EngineOptions

    @property
    def label(self) -> str:
        """Short name, unique among the candidates of one tuning: `openvino int8 dq=128 kv=u8 threads=2`."""
        short = card_of(self.kind).options.short
        words = [f"{short.get(k, k)}={v}" for k, v in sorted(self.options.extra.items())]
        return " ".join([self.kind, self.precision, *words, f"threads={self.options.threads}"])


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of all measurements over a loaded engine, warm-up apart."""

    one_tok_per_s: float
    """Output tokens per second of a single stream behind its first, whose time is `ttft_ms`."""
    four_tok_per_s: float
    """Of four streams together, the time of their short prompts included, as in the next."""
    sixteen_tok_per_s: float
    """Of sixteen streams together."""
    prefill_tok_per_s: float
    """Prompt tokens per second, one prompt of 512 (or of what the context allows)."""
    ttft_ms: float
    """From the order to its first token, prompt of 32 tokens, nothing else running."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that ran, with every measured round."""

    candidate: Candidate
    engine: str
    """Library and version, as the engine says."""
    start_s: float
    """From the start of its host process until it greeted, the last time."""
    rounds: tuple[Round, ...]

    @property
    def typical(self) -> Round:
        """Median of each figure over the rounds."""
        return median_round(self.rounds)


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate without measurements, and the reason."""

    label: str
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The facts besides the model that a measurement depends on. A record from a different machine is not used."""

    cpu: str
    """Model name as the kernel tells it."""
    cores: int
    """Cores that this process may use."""
    versions: dict[str, str] = {}
    """Version of ashore and of every engine library that is installed."""


class TunedChoice(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one model on one machine for one goal, with the figures as evidence. `up` reads this."""

    model: str
    """Store name without variant."""
    model_digest: str
    """Digest of the model as pulled; for names such as `fake:echo` the name itself."""
    goal: Goal
    kind: EngineKind
    variant: str
    options: EngineOptions
    """`context_tokens`, `kv_tokens` and the like are what was measured with; a spec may set its own."""
    measured: Round
    num_rounds: int
    reason: str
    """In a sentence for people: why this one."""
    machine: Machine
    measured_at_s: int
    complete: bool
    """False where the tuning was interrupted or ran out of time before every candidate had its turn."""


class TuneReport(msgspec.Struct, frozen=True, kw_only=True):
    """Observations and decisions of one tuning: the evidence behind its choices."""

    model: str
    model_digest: str
    machine: Machine
    goal: Goal
    """What the tuning was asked for: the choice that `up` uses."""
    measured_at_s: int
    budget_s: float
    took_s: float
    interrupted: bool
    measured: tuple[Measured, ...]
    """Best first, in the order of `rules.by_promise`."""
    rejected: tuple[Rejected, ...]
    frontier: tuple[str, ...]
    """Labels of the candidates that no other beats in both one-stream and sixteen-stream speed."""
    choices: tuple[TunedChoice, ...]
    """One for each goal; empty where nothing could be measured."""
    notes: tuple[str, ...] = ()
    """What a reader must know before trusting the figures."""

    def choice_for(self, goal: Goal) -> TunedChoice | None:
        """Return the choice for `goal`, or None without measurements."""
        return next((c for c in self.choices if c.goal == goal), None)


def median_round(rounds: tuple[Round, ...]) -> Round:
    """Return the median of each figure; `rounds` must not be empty."""
    from statistics import median

    return Round(**{name: median(getattr(r, name) for r in rounds) for name in Round.__struct_fields__})
