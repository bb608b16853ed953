"""Calibration text: validated and cut into samples."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidRequest
from ashore.data.engines import Samples
from ashore.kit.textfile import read_text_file

SAMPLE_TOKENS: Final = 512
"""Tokens of a sample. Long enough that most positions have a context, short enough that every engine holds it."""
MOST_SAMPLES: Final = 28
"""Samples that are used: 14,336 tokens, nine for each input of the widest product of the demo model. Reading them is
most of the time that quantising takes."""
RANKING_TOKENS: Final = 256
"""Tokens of a ranking sample: it is read once for each layer, and at each token whole distributions are compared."""
FEWEST_TOKENS: Final = 4096
"""Below this the statistics of a product with 1,536 inputs have no full rank, and the text tells too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Token ids of the user's text."""

    tuning: Samples
    """What weights are rounded by."""
    ranking: Samples = ()
    """What layers are compared on; empty where none is compared."""


def read_text(path: Path) -> str:
    """Return the text of a calibration file.

    Raises:
        InvalidRequest: it cannot be read, is empty, is not UTF-8 text, or is far too large.
    """
    hint = "give plain UTF-8 text of the kind that the model will see; 50 kB to a few hundred kB is enough"
    return read_text_file(path, "the calibration text", hint=hint)


def cut_samples(
    text: str,
    encode: Callable[[str], Sequence[int]],
    *,
    context_tokens: int,
    seed: int,
    ranking: int = 0,
) -> Calibration:
    """Return samples of a text, chosen over its whole length by the seed.

    Args:
        text: From `read_text`.
        encode: Returns token ids, without special tokens.
        context_tokens: Context length of the model, the longest sample.
        seed: Equal seeds give equal samples.
        ranking: Samples to set aside for comparing layers.

    Raises:
        InvalidRequest: fewer than `FEWEST_TOKENS` tokens.
    """
    ids = list(encode(text))
    if len(ids) < FEWEST_TOKENS:
        raise InvalidRequest(
            f"the calibration text has {len(ids)} tokens; at least {FEWEST_TOKENS} are needed",
            hint="give more text of the kind that the model will see",
        )
    length = min(SAMPLE_TOKENS, context_tokens)
    pieces = [tuple(ids[at : at + length]) for at in range(0, len(ids) - length + 1, length)]
    if len(pieces) > MOST_SAMPLES:
        pieces = [pieces[i] for i in sorted(random.Random(seed).sample(range(len(pieces)), MOST_SAMPLES))]
    ranked = tuple(piece[:RANKING_TOKENS] for piece in pieces[:ranking])
    return Calibration(tuning=tuple(pieces[ranking:]), ranking=ranked)
