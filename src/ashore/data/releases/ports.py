"""Ports of releases: how a model would be served, free memory, and evaluation results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ashore.data.engines import ModelPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWish:
    """Parts of a new release. Empty and zero mean: as the live release has it."""

    model: str
    """Store name, `smollm2@int4`, or `fake:echo?…`."""
    alias: str
    engine: str = ""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    """Go to the engine unchanged."""
    adapters: tuple[tuple[str, str], ...] = ()
    """LoRA adapters in addition to those of the live release: name and folder of each."""
    drop_adapters: tuple[str, ...] = ()
    """Names of adapters of the live release to drop."""
    replicas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """How a model would be served, and its parts."""

    plan: ModelPlan
    parts: dict[str, str]
    """Digests, as `Release.parts` says."""
    origins: tuple[str, ...] = ()
    """As `Release.origins` says."""
    needed_bytes: int = 0


class Workshop(Protocol):
    """Knows models and this machine. Calls may read the store; not for an event loop."""

    def describe(self, wish: ReleaseWish, *, live: ModelPlan | None) -> Described:
        """Return how the model would be served, taking open figures from the live release.

        Raises:
            UnknownModel, UnknownVariant: it is not in the store.
            UnsupportedModel: no engine here takes it.
        """
        ...

    def describe_plan(self, plan: ModelPlan) -> Described:
        """Return the parts of an already planned model."""
        ...

    def free_bytes(self) -> int:
        """Return the memory that can be used now without swapping, within the container's limits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """How the evaluation of a model ended."""

    outcome: str
    """`passed`, `failed`, or empty: it was never evaluated."""
    why: str = ""


class EvaluationGate(Protocol):
    """Returns evaluation results of models. Not for an event loop."""

    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        """Return how the evaluation of a stored model ended; with a digest, only of exactly those bytes."""
        ...


class NoGate:
    """Twin without any evaluations."""

    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        return GateVerdict(outcome="")
