"""Request, plan and result of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from ashore.core.ids import Digest
from ashore.data.jobs.operations.asks import Sft
from ashore.data.text import TextModel
from ashore.kit.store import StoredModel
from ashore.lab.training.batches import PackedBatches
from ashore.lab.training.loop import Precision
from ashore.lab.training.memory import MemoryNeed, Method
from ashore.lab.training.shards.trainingset import TrainingSet

LEARNING_RATES: Final[dict[Method, float]] = {"lora": 5e-4, "full": 5e-5}
"""Adapters want about ten times the rate. Source: "LoRA Without Regret" (Thinking Machines, 2025)."""
Kept = Literal["adapter", "model"]
"""What comes out of a run."""


class SftRequest(Sft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request, with fields that only a recipe or a test sets."""

    person: str = ""
    """Field of each document that names a person; see `run_private`."""

    @classmethod
    def of(cls, asked: Sft) -> SftRequest:
        """Return what a command or a job asks for."""
        return cls(**msgspec.structs.asdict(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class SftPlan:
    """A request with every choice made, and its data read. Nothing has been changed yet."""

    request: SftRequest
    parent: StoredModel
    text: TextModel = field(repr=False)
    name: str
    kind: Kept
    data: TrainingSet = field(repr=False)
    validation: TrainingSet | None = field(repr=False)
    batches: PackedBatches = field(repr=False)
    row_tokens: int
    learning_rate: float
    gradient_checkpointing: bool
    trained_parameters: int
    memory: MemoryNeed
    available_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SftReport:
    """Result of a run."""

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
