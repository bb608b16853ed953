"""What releases need from others: how a model would be served, what memory there is, how an evaluation ended, and that
workers go by a move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ashore.planning import ModelPlan
from ashore.releases.policy import ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWish:
    """What a release is to be made of. Empty and zero mean: as what is live has it."""

    model: str
    """Store name, `smollm2@int4`, or `fake:echo?…`."""
    alias: str
    engine: str = ""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    """Go to the engine unchanged."""
    adapters: tuple[tuple[str, str], ...] = ()
    """LoRA adapters beside those of what is live: name and folder of each."""
    drop_adapters: tuple[str, ...] = ()
    """Names of those of what is live that it is to lack."""
    replicas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """How a model would be served, and what it is made of."""

    plan: ModelPlan
    parts: dict[str, str]
    """Digests, as `Release.parts` says."""
    origins: tuple[str, ...] = ()
    """As `Release.origins` says."""
    needed_bytes: int = 0


class Workshop(Protocol):
    """Knows models and this machine. Calls may read the store; not for an event loop."""

    def describe(self, wish: ReleaseWish, *, live: ModelPlan | None) -> Described:
        """Return how the model would be served, with the figures of what is live where the wish leaves them open.

        Raises:
            UnknownModel, UnknownVariant: it is not in the store.
            UnsupportedModel: no engine here takes it.
        """
        ...

    def describe_plan(self, plan: ModelPlan) -> Described:
        """Return what a model that was planned already is made of."""
        ...

    def free_bytes(self) -> int:
        """Return the memory that can be used now without swapping, after limits of the container."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """How the evaluation of a model ended."""

    outcome: str
    """`passed`, `failed`, or empty: it was never evaluated."""
    why: str = ""


class EvaluationGate(Protocol):
    """Knows whether a model is good enough. Not for an event loop."""

    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        """Return how the evaluation of a stored model ended; with a digest, only of exactly those bytes."""
        ...


class NoGate:
    """Where nothing was ever evaluated."""

    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        return GateVerdict(outcome="")


class Workers(Protocol):
    """The API workers, as the calls of releases see them."""

    def policy(self) -> ReleasePolicy:
        """Return what the operator says of trying releases, as it is now."""
        ...

    async def settle(self) -> None:
        """Return when every worker of this machine goes by what the state says. May be called twice."""
        ...


class NoWorkers:
    """Where no server runs: the next start goes by the state."""

    def policy(self) -> ReleasePolicy:
        return ReleasePolicy()

    async def settle(self) -> None:
        return
