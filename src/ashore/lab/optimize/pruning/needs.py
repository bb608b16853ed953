"""Estimated resources of pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import DiskFull, MemoryFull
from ashore.lab.optimize.pruning.model import Method
from ashore.lab.optimize.pruning.planning import PrunePlan
from ashore.lab.optimize.surgery import Anatomy
from ashore.lab.training import LoraOptions

FIXED_BYTES: Final = 700 << 20
"""torch and transformers themselves."""
SINGLE_BYTES, HALF_BYTES = 4, 2
ADAM_COPIES: Final = 3
"""Gradient and two moments of each parameter that is trained."""
ROW_TOKENS: Final = 1024
"""Tokens of one forward pass of healing."""
_KEPT_PER_HIDDEN, _KEPT_PER_CHANNEL = 14, 5
"""Numbers that a layer keeps for the way back, for each hidden number and channel of a token; counted in the graph."""
CHECKPOINTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneNeeds:
    """Estimated resources."""

    memory_bytes: int
    disk_bytes: int


def estimate_needs(anatomy: Anatomy, plan: PrunePlan, healing: Method | None) -> PruneNeeds:
    """Return memory and disk, from the counts only.

    Parent and pruned model are in memory together in single precision; healing adds gradients, moments and the
    activations of one row. On disk: the model, and two healing checkpoints. `healing` is None if there is none.
    """
    parent, child = plan.parameters_before * SINGLE_BYTES, plan.parameters_after * SINGLE_BYTES
    memory = FIXED_BYTES + parent + child + anatomy.sizes.channels**2 * 3 * 8
    disk = plan.parameters_after * HALF_BYTES
    if healing is not None:
        trained = SINGLE_BYTES * _trained_parameters(anatomy, plan, healing)
        kept = _KEPT_PER_HIDDEN * anatomy.hidden_size + _KEPT_PER_CHANNEL * plan.after.channels
        memory += ADAM_COPIES * trained + ROW_TOKENS * plan.after.layers * kept * SINGLE_BYTES
        disk += CHECKPOINTS * (ADAM_COPIES * trained)
    return PruneNeeds(memory_bytes=memory, disk_bytes=disk)


def _trained_parameters(anatomy: Anatomy, plan: PrunePlan, healing: Method) -> int:
    if healing == "distill":
        return plan.parameters_after - anatomy.vocabulary_parameters
    heads, keys = (n * plan.after.groups * anatomy.head_dim for n in (anatomy.heads_in_group, 1))
    inputs_and_outputs = 7 * anatomy.hidden_size + 2 * heads + 2 * keys + 3 * plan.after.channels
    return plan.after.layers * LoraOptions().rank * inputs_and_outputs


def check_needs(needs: PruneNeeds, *, free_memory_bytes: int, free_disk_bytes: int, what: str) -> None:
    """Raise `MemoryFull` or `DiskFull` if resources are insufficient; the message has both numbers."""
    if needs.memory_bytes > free_memory_bytes:
        raise MemoryFull(
            f"making {what} needs about {human_bytes(needs.memory_bytes)} of memory; "
            f"{human_bytes(free_memory_bytes)} are free",
            hint="omit --heal, or use --method lora, to need less memory",
        )
    if needs.disk_bytes > free_disk_bytes:
        raise DiskFull(
            f"making {what} needs about {human_bytes(needs.disk_bytes)} on the disk of the home; "
            f"{human_bytes(free_disk_bytes)} are free",
            hint="free unused files with `ashore model gc`",
        )
