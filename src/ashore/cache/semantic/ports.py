"""What the semantic tier needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Embedder(Protocol):
    """Turns a short text into a unit vector; texts of like meaning lie close, over languages."""

    @property
    def size(self) -> int:
        """Numbers per vector."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, in the order given. Callable from several threads; blocks meanwhile."""
        ...
