"""Inputs of a plan, and the plan: immutable, every choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ashore.core.kinds import EngineKind, ServedFormat
from ashore.core.shapes import ModelShape
from ashore.data.engines.model import EngineOptions

RUNGS: Final = "rungs"
"""Option of an engine that has a ladder: the variants below the top, joined by dots."""
RESERVED_BYTES: Final = 1 << 30
"""Left to the API worker, the supervisor and the system."""
KV_SHARE: Final = 0.5
"""Share of the memory left after the weights that KV caches may take; compilation and activations need the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Resources of this machine."""

    cores: int
    """Cores this process may use, after affinity and cgroup limits."""
    memory_bytes: int
    """Memory that can be used now without swapping, after cgroup limits."""
    cpu: str = ""
    """Processor as the kernel names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A reserved part of this machine for a model."""

    alias: str
    cpus: float = 0.0
    """Processors for all its replicas together, whenever they want them; 0: none is promised."""
    memory_bytes: int = 0
    """Most memory of all its replicas together; 0: that is not bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand:
    """A model that is loaded on request."""

    alias: str
    keep_alive_s: int = 900
    """How long it stays loaded after its last request; 0: until another model needs the memory."""
    pin: bool = False
    """Load it in the background, and keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One model as the operator requests it. Zero and empty mean: let the planner choose."""

    name: str
    """`smollm2`, `smollm2@int8`, a source, `fake:echo?tok_per_s=20`."""
    alias: str = ""
    replicas: int = 1
    kind: Literal["auto"] | EngineKind = "auto"
    fleet: bool = False
    """Whether engine nodes run it."""
    key: str = ""
    """Where the key of the nodes is."""
    ca_file: str = ""
    context_tokens: int = 0
    kv_tokens: int = 0
    max_sequences: int = 0
    threads: int = 0
    prefix_cache: bool = True
    adapters: tuple[tuple[str, str], ...] = ()
    """LoRA adapters: name and folder of each."""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    taken_over: frozenset[str] = frozenset()
    """Of these options, those inherited from the live release and its engine, not requested by the caller."""
    demand: OnDemand | None = None
    """Set where it is loaded when somebody asks for it."""
    share: Promise | None = None
    """Set where it has a part of the machine for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts about a model before it is planned: from the store, or from the catalogue while it is not stored."""

    name: str
    """Store name without variant."""
    variant: str = ""
    """The variant that was asked for by name; empty: the plan chooses."""
    format: ServedFormat
    shape: ModelShape | None
    """None for the fake engine and remote servers, which need no memory here."""
    weight_bytes: int = 0
    in_store: bool = True
    precision: str = ""
    """Of the weights as they were pulled; empty: not known."""
    variant_bytes: Mapping[str, int] = field(default_factory=dict)
    """By variant that the store has, the bytes of its weights."""
    programs: Mapping[EngineKind, str] = field(default_factory=dict)
    """By engine that starts a server, the path of the executable that was found for this model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What `ashore engine tune` measured as best for this model on this machine."""

    kind: EngineKind
    variant: str
    threads: int
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision and its reason."""

    field: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """How one alias will be served."""

    alias: str
    release: str
    name: str
    """Store name without variant, or the whole name of a fake or remote model."""
    variant: str
    """Variant of the store that is run; empty: the model as pulled."""
    options: EngineOptions
    replicas: int
    embedder: bool
    in_store: bool
    adapters: tuple[tuple[str, str], ...] = ()
    """Name and folder of each; clients ask for `ALIAS:NAME`."""
    choices: tuple[Choice, ...] = field(default=(), compare=False)

    @property
    def chats(self) -> bool:
        """Whether it writes text; an encoder and a head do not."""
        return not self.embedder and self.options.kind != "tabular"

    @property
    def reference(self) -> str:
        """Store reference, `smollm2@int8`."""
        return f"{self.name}@{self.variant}" if self.variant else self.name

    @property
    def rungs(self) -> tuple[str, ...]:
        """Store references of the less exact variants that may compute in its place, best first."""
        return tuple(f"{self.name}@{one}" for one in str(self.options.extra.get(RUNGS, "")).split(".") if one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How this machine will serve: the input of the supervisor."""

    models: tuple[ModelPlan, ...]
    inventory: Inventory
    """What the choices rest on. A reload plans with the same figures, or free memory alone would move every cache."""
    demand: tuple[OnDemand, ...] = ()
    """The models that are loaded on demand; the others are loaded at the start, and stay."""
    shares: tuple[Promise, ...] = ()
    """Models with a part of the machine for themselves."""
    sizes: dict[str, int] = field(default_factory=dict)
    """By alias, bytes of weights and KV caches of all replicas, as far as they are in this machine's memory."""

    @property
    def memory_bytes(self) -> int:
        """Memory that all models together may take."""
        return max(0, self.inventory.memory_bytes - RESERVED_BYTES)

    @property
    def on_demand(self) -> frozenset[str]:
        """The aliases of models on demand."""
        return frozenset(rule.alias for rule in self.demand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two plans."""

    alias: str
    kind: Literal["add", "remove", "replace", "keep"]
    what: str
