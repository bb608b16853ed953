"""Memory of a model under test, estimated before it is opened."""

from __future__ import annotations

from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import MemoryFull
from ashore.core.kinds import EngineKind
from ashore.data.engines import card_of

FIXED_BYTES: Final = 700 << 20
"""Libraries, working memory of a step and some cache; measured 0.5 to 0.65 GiB beyond the weights with SmolLM2."""


def memory_needed(*, kind: EngineKind, weight_bytes: int, num_parameters: int) -> int:
    """Return about how many bytes the host of a model will hold. A remote engine holds them elsewhere: 0."""
    memory = card_of(kind).memory
    if not memory.ours:
        return 0
    return FIXED_BYTES + (memory.parameter_bytes * num_parameters or weight_bytes)


def check_memory(needed: int, *, free_bytes: int, name: str) -> None:
    """Check that a model fits into memory.

    Raises:
        MemoryFull: it would not fit; the message has both numbers.
    """
    if needed > free_bytes:
        raise MemoryFull(
            f"{name} needs about {human_bytes(needed)} of memory to evaluate; {human_bytes(free_bytes)} are free",
            hint="stop what else runs here, or evaluate a smaller variant; with --against, each model alone, and then "
            "`ashore optimize compare` puts them side by side",
        )
