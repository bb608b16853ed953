"""Numbers of shards and tolerated losses: arithmetic of k+m and of quorums. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ashore.core.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    """Fragments of one stripe, all of one length."""

MAX_DATA: Final = 10
MAX_PARITY: Final = 4
_CODE: Final = re.compile(r"(\d{1,2})\+(\d)")


@dataclass(frozen=True, slots=True)
class Code:
    """`k` data shards and `m` parity shards: any `m` of the `k + m` may be lost."""

    k: int
    m: int

    @property
    def n(self) -> int:
        """Shards, and nodes."""
        return self.k + self.m

    @property
    def quorum(self) -> int:
        """Nodes that must have a backup on disk before it counts.

        At least `m + 1`, so that one node with the newest backup survives any loss of `m`; more than half, so that two
        backups cannot both count; and with several parities, half of them.
        """
        return min(self.n, max(self.k + self.m // 2, self.m + 1))

    def __str__(self) -> str:
        return f"{self.k}+{self.m}"


def parse_code(text: str) -> Code:
    """Return the code of `2+1`.

    Raises:
        InvalidRequest: malformed, or beyond 10+4.
    """
    found = _CODE.fullmatch(text.strip())
    if not found or not 1 <= int(found[1]) <= MAX_DATA or not 1 <= int(found[2]) <= MAX_PARITY:
        raise InvalidRequest(
            f"the code {text!r} is not K+M with K of 1 to {MAX_DATA} and M of 1 to {MAX_PARITY}",
            hint="2+1 needs three nodes and survives the loss of one; 4+2 needs six and survives two",
        )
    return Code(int(found[1]), int(found[2]))


def bearable(code: Code, good: int) -> int:
    """Return how many more shards of an object may be lost with `good` ones left; negative: it is lost already."""
    return good - code.k


def could_be_lost(code: Code, worst: int) -> str:
    """Return, in words, what could be lost now; `worst` is the fewest good shards of any object."""
    left = bearable(code, worst)
    if left < 0:
        return f"data IS LOST: an object has {worst} good shards, but {code.k} are needed"
    if left == 0:
        return "the loss of one more node would lose the backup"
    nodes = "one node" if left == 1 else f"any {left} nodes"
    return f"the loss of {nodes} would lose nothing"
