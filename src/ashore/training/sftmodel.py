"""What a supervised fine-tuning is asked for, what is planned, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from ashore.core import Digest
from ashore.store import StoredModel
from ashore.text import TextModel
from ashore.training.batches import PackedBatches
from ashore.training.loop import Precision
from ashore.training.memory import MemoryNeed, Method
from ashore.training.runstate import KEPT
from ashore.training.shards.cache import CACHE_BYTES
from ashore.training.shards.trainingset import TrainingSet

LEARNING_RATES: Final[dict[Method, float]] = {"lora": 5e-4, "full": 5e-5}
"""Adapters want about ten times the rate. Source: "LoRA Without Regret" (Thinking Machines, 2025)."""
AUTO_WORKERS: Final = -1
"""As many processes load data as the data and the machine ask for."""
Kept = Literal["adapter", "model"]
"""What comes out of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftRequest:
    """What the user asks for. Zero and empty mean: let the plan choose."""

    model: str
    """Name in the store, without variant."""
    data: str
    """A file, a folder, or `s3://BUCKET/PATH`; see `shards/naming.py`."""
    validation: str = ""
    method: Method = "lora"
    epochs: float = 0.0
    """Zero: one, or, with `max_tokens`, as many as it takes."""
    max_tokens: int = 0
    learning_rate: float = 0.0
    batch_tokens: int = 2048
    max_length: int = 1024
    row_tokens: int = 0
    """Most tokens of one forward pass; zero: those of the longest example."""
    rank: int = 16
    seed: int = 0
    name: str = ""
    merge: bool = False
    """Add the adapter to the weights, and keep a model instead of an adapter."""
    precision: Literal["auto"] | Precision = "auto"
    gradient_checkpointing: bool | None = None
    max_seconds: float = 0.0
    stop_at_step: int = 0
    """Ends the run there, as a time limit did before; zero: nowhere."""
    threads: int = 0
    checkpoint_s: float = 0.0
    """Time between two checkpoints; zero: see `LoopOptions`."""
    kept: int = KEPT
    """Checkpoints that stay."""
    mirror: str = ""
    """`s3://BUCKET/PATH`, where copies of checkpoints go; empty: nowhere."""
    workers: int = AUTO_WORKERS
    """Processes that load data; 0: the training process does."""
    skip_broken: bool = False
    """Leave out shards and samples that are broken, and name them."""
    data_cache_bytes: int = CACHE_BYTES
    """Of shards that were fetched or unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftPlan:
    """A request with every choice made, and its data read. Nothing has been changed by it."""

    request: SftRequest
    parent: StoredModel
    text: TextModel = field(repr=False)
    name: str
    kind: Kept
    data: TrainingSet = field(repr=False)
    validation: TrainingSet | None = field(repr=False)
    workers: int
    """Processes that load data."""
    batches: PackedBatches = field(repr=False)
    row_tokens: int
    learning_rate: float
    gradient_checkpointing: bool
    trained_parameters: int
    memory: MemoryNeed
    available_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SftReport:
    """What came out of a run."""

    name: str
    kind: Kept
    parent: str
    digest: Digest
    """Of the model's manifest; of an adapter, of its weights file."""
    folder: str
    """Of the adapter; empty for a model, which is in the store."""
    method: Method
    precision: Precision
    steps: int
    planned_steps: int
    tokens: int
    target_tokens: int
    loss_first: float
    """Mean over the first tenth of the steps, nats per target."""
    loss_last: float
    validation_loss_before: float | None
    validation_loss_after: float | None
    seconds: float
    """In steps; loading and saving apart."""
    tok_per_s: float
    peak_memory_bytes: int
    """Most that this process had resident, loading and saving included."""
    estimated_memory_bytes: int
    trained_parameters: int
    parameters: int
    resumed_at_step: int
    data_wait_s: float
    """Time that this process waited for data."""
    checkpoint_stall_s: float
    """Time that checkpoints held this process up."""
    checkpoints: int
    """Written by this process."""
    examples: int
    examples_cut: int
    lines_left_out: tuple[str, ...]
    """The first of them, such as `line 7`."""
    recipe: dict[str, str]
