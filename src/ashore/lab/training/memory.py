"""Estimates the memory of a run before it starts, and finds a setting that fits.

Estimates of the CPU path: parameters as they lie in memory, one gradient and two moments in float32 for what is
trained, the activations of one row, and the logits of one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from ashore.core.bytesize import human_bytes
from ashore.core.errors import MemoryFull
from ashore.core.shapes import ModelShape
from ashore.lab.training.checkpointing.form import PIECE_BYTES, spare_bytes
from ashore.lab.training.loop import Precision
from ashore.lab.training.losses import CHUNK

Method = Literal["lora", "full"]

LIBRARIES_BYTES: Final = 450 << 20
"""Python with torch, transformers and peft loaded: 392 MiB seen, and the allocator's slack."""
ROW_WIDTH: Final = 14
"""Activations kept for each token and layer, in units of the hidden size, beside those of the MLP: inputs of two norms
(four), of the projections (two), queries, keys, values, before and after rotation (about four), attention (one), the
residual sums (two), the adapters' own."""
MLP_WIDTH: Final = 4
"""The same in units of the MLP's size: gate, up, its activation, their product."""
STATE_WIDTH: Final = 12
"""Bytes of a trained parameter and its two moments."""
MARGIN: Final = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunShape:
    """Properties that determine the memory of a run."""

    model: ModelShape
    method: Method
    rank: int = 16
    """Of the adapters, with `lora`."""
    row_tokens: int = 256
    precision: Precision = "float32"
    gradient_checkpointing: bool = False

    @property
    def trained_parameters(self) -> int:
        return self.model.num_parameters if self.method == "full" else lora_parameters(self.model, self.rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes by purpose."""

    weights_bytes: int
    gradients_bytes: int
    moments_bytes: int
    activations_bytes: int
    head_bytes: int
    checkpoint_bytes: int
    """Copies of the state while a checkpoint is written."""
    libraries_bytes: int = LIBRARIES_BYTES

    @property
    def total_bytes(self) -> int:
        parts = self.weights_bytes + self.gradients_bytes + self.moments_bytes + self.activations_bytes
        return int(MARGIN * (parts + self.head_bytes + self.checkpoint_bytes + self.libraries_bytes))


def estimate(run: RunShape) -> MemoryNeed:
    """Return the peak memory of a run."""
    frozen_half = run.method == "lora" and run.precision == "bfloat16"
    itemsize = 2 if run.precision == "bfloat16" else 4
    model = run.model
    width = ROW_WIDTH * model.hidden_size + MLP_WIDTH * mlp_size(model)
    layers = model.num_layers
    kept = layers * model.hidden_size + width if run.gradient_checkpointing else layers * width
    head = 3 * CHUNK * model.vocab_size * 4
    if run.method == "full":
        head += model.vocab_size * model.hidden_size * 4
    adapters = run.trained_parameters * 4 if run.method == "lora" else 0
    return MemoryNeed(
        weights_bytes=model.num_parameters * (2 if frozen_half else 4) + adapters,
        gradients_bytes=run.trained_parameters * 4,
        moments_bytes=run.trained_parameters * 8,
        activations_bytes=run.row_tokens * kept * itemsize,
        head_bytes=head,
        checkpoint_bytes=spare_bytes(run.trained_parameters * STATE_WIDTH) + PIECE_BYTES,
    )


def require_memory(run: RunShape, available_bytes: int, *, chosen: bool | None = None) -> RunShape:
    """Return the run, with gradient checkpointing if it only fits with it.

    Args:
        run: As asked for, without gradient checkpointing unless it was asked for.
        available_bytes: What this machine gives.
        chosen: What the user said about gradient checkpointing; None: nothing.

    Raises:
        MemoryFull: it does not fit; the message says what it needs, the hint what would fit.
    """
    if chosen is not None:
        run = replace(run, gradient_checkpointing=chosen)
    elif estimate(run).total_bytes > available_bytes:
        run = replace(run, gradient_checkpointing=True)
    need = estimate(run)
    if need.total_bytes <= available_bytes:
        return run
    raise MemoryFull(
        f"--method {run.method} with rows of {run.row_tokens} tokens needs about {human_bytes(need.total_bytes)} "
        f"(weights {human_bytes(need.weights_bytes)}, gradients {human_bytes(need.gradients_bytes)}, moments "
        f"{human_bytes(need.moments_bytes)}, activations {human_bytes(need.activations_bytes)}); "
        f"{human_bytes(available_bytes)} are free",
        hint=_what_fits(run, available_bytes),
    )


def mlp_size(model: ModelShape) -> int:
    """Return the width of the MLP of a layer, from the number of parameters; too large where the head is untied."""
    attention = 2 * model.hidden_size * model.head_dim * (model.num_heads + model.num_kv_heads)
    layers = (model.num_parameters - model.vocab_size * model.hidden_size) // model.num_layers
    return max(model.hidden_size, (layers - attention) // (3 * model.hidden_size))


def lora_parameters(model: ModelShape, rank: int) -> int:
    """Return about how many parameters adapters of `rank` on all projections have."""
    hidden, queries, keys = model.hidden_size, model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    sums = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + mlp_size(model))
    return model.num_layers * rank * sums


def _what_fits(run: RunShape, available_bytes: int) -> str:
    saving = replace(run, gradient_checkpointing=True)
    tries = {"--gradient-checkpointing": saving}
    tries |= {f"--gradient-checkpointing --max-length {n}": replace(saving, row_tokens=n) for n in (512, 256)}
    lora = replace(saving, method="lora", row_tokens=256)
    tries["--method lora --gradient-checkpointing --max-length 256"] = lora
    tries["--method lora --precision bfloat16 --gradient-checkpointing --max-length 256"] = replace(
        lora, precision="bfloat16"
    )
    for words, other in tries.items():
        if estimate(other).total_bytes <= available_bytes:
            return f"these options fit: {words}"
    least = human_bytes(estimate(replace(lora, precision="bfloat16")).total_bytes)
    return f"training this model needs at least {least}; use a smaller model or a machine with more memory"
