"""How much of a list is read at once: so many rows, and so many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

PAGE_BYTES: Final = 1 << 20
"""Of one page. A row that is longer is a page by itself."""


def page_length(lengths: Sequence[int], most_bytes: int = PAGE_BYTES) -> int:
    """Return how many of the first rows have at most `most_bytes` together: one at least, where there are any."""
    return max(min(1, len(lengths)), sum(num_bytes <= most_bytes for num_bytes in accumulate(lengths)))
