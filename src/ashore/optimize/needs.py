"""What quantising will take, told before it starts."""

from __future__ import annotations

from typing import Final

from ashore.core import ModelShape, human_bytes
from ashore.engines import Precision, card_of
from ashore.errors import DiskFull, MemoryFull
from ashore.optimize.model import Needs

HALF_BYTES: Final = 2
SINGLE_BYTES: Final = 4
FIXED_BYTES: Final = 512 << 20
"""The libraries themselves."""
_DEFAULT_WIDTH_FACTOR: Final = 4
"""Inputs of the second matrix of an MLP, as a multiple of the hidden size, where the shape does not tell."""


def estimate_needs(shape: ModelShape, precision: Precision, *, weight_bytes: int, reads_text: bool) -> Needs:
    """Return memory, disk and size, from the shape alone.

    GPTQ holds one square matrix for each input of a product: three of the hidden size and one of the MLP's width in
    each block. Where layers are compared, the weights are held in single precision, twice.
    """
    params = shape.num_parameters or weight_bytes // HALF_BYTES
    half = params * HALF_BYTES
    variant = int(params * precision.bits / 8)
    memory = FIXED_BYTES
    disk = variant + half  # the variant, and a file in half precision that it is read from
    rounding = card_of(precision.engine).rounding
    assert rounding is not None
    memory += rounding.half_copies * half
    disk += rounding.scratch_halves * half
    if rounding.squares and reads_text:
        width = _DEFAULT_WIDTH_FACTOR * shape.hidden_size
        memory += shape.num_layers * (3 * shape.hidden_size**2 + width**2) * SINGLE_BYTES
        memory += params  # codes of eight bits
    if precision.ranking and reads_text:
        memory += 2 * params * SINGLE_BYTES
    return Needs(memory_bytes=memory, disk_bytes=disk, variant_bytes=variant)


def check_needs(needs: Needs, *, free_memory_bytes: int, free_disk_bytes: int, what: str, smaller: str) -> None:
    """Raise if the machine does not have it.

    Args:
        needs: From `estimate_needs`.
        free_memory_bytes: What this process may still take.
        free_disk_bytes: Of the store's disk.
        what: `smollm2@int4`.
        smaller: Hint: the setting that needs less.

    Raises:
        MemoryFull, DiskFull: it does not; both numbers are told.
    """
    if needs.memory_bytes > free_memory_bytes:
        raise MemoryFull(
            f"making {what} needs about {human_bytes(needs.memory_bytes)} of memory; "
            f"{human_bytes(free_memory_bytes)} are free",
            hint=smaller,
        )
    if needs.disk_bytes > free_disk_bytes:
        raise DiskFull(
            f"making {what} needs about {human_bytes(needs.disk_bytes)} on the disk of the store; "
            f"{human_bytes(free_disk_bytes)} are free",
            hint="`ashore model gc` frees what nothing needs; or move the home to a larger disk (ASHORE_HOME)",
        )
