"""Page size of a list: a limit of rows and of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

PAGE_BYTES: Final = 1 << 20
"""Of one page. A row that is longer is a page by itself."""


def page_length(lengths: Sequence[int]) -> int:
    """Return how many of the first rows fit into `PAGE_BYTES`; at least one, if there are any."""
    return max(min(1, len(lengths)), sum(num_bytes <= PAGE_BYTES for num_bytes in accumulate(lengths)))
