"""Calibration text: read with care, cut into samples, and a part of it set aside that nothing is tuned on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core import human_bytes
from ashore.engines import Samples
from ashore.errors import InvalidRequest

SAMPLE_TOKENS: Final = 512
"""Tokens of a sample. Long enough that most positions have a context, short enough that every engine holds it."""
MOST_SAMPLES: Final = 28
"""Samples that are used: 14,336 tokens, nine for each input of the widest product of the demo model. Reading them is
most of the time that quantising takes."""
RANKING_TOKENS: Final = 256
"""Tokens of a ranking sample: it is read once for each layer, and at each token whole distributions are compared."""
FEWEST_TOKENS: Final = 4096
"""Below this the statistics of a product with 1,536 inputs have no full rank, and the text tells too little."""
HELD_OUT: Final = 4
"""One sample in so many is set aside where the choice must be checked on text that it was not made on."""
MORE_HELD_OUT: Final = 49
"""Samples that are set aside beside those, of what a long text has left: seven times as many. They are read by a few
trials and by nothing else, at a thousand tokens a second and more."""
MOST_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Token ids of the user's text."""

    tuning: Samples
    """What weights are rounded by."""
    ranking: Samples = ()
    """What layers are compared on; empty where none is compared."""
    held_out: Samples = ()
    """What the choice is judged on, and nothing else."""


def read_text(path: Path) -> str:
    """Return the text of a calibration file.

    Raises:
        InvalidRequest: it cannot be read, is empty, is no text in UTF-8, or is far too large.
    """
    hint = "give plain UTF-8 text of the kind that the model will see, 50 kB or more"
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InvalidRequest(
                f"the calibration text {path} has {human_bytes(size)}; at most {human_bytes(MOST_BYTES)} are read",
                hint="cut out a part of it: a few hundred kilobytes are plenty",
            )
        data = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidRequest(f"the calibration text {path} cannot be read: {why}", hint="check its path") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the calibration text {path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}", hint=hint
        ) from error
    if "\0" in text:
        raise InvalidRequest(f"the calibration text {path} is binary: it has a zero byte", hint=hint)
    if not text.strip():
        raise InvalidRequest(f"the calibration text {path} is empty", hint=hint)
    return text


def cut_samples(
    text: str,
    encode: Callable[[str], Sequence[int]],
    *,
    context_tokens: int,
    seed: int,
    ranking: int = 0,
    hold_out: bool = False,
) -> Calibration:
    """Return samples of a text, chosen over its whole length by the seed.

    Args:
        text: From `read_text`.
        encode: Gives token ids, without special tokens.
        context_tokens: What the model takes; samples are no longer.
        seed: Equal seeds give equal samples.
        ranking: Samples to set aside for comparing layers.
        hold_out: Set one sample in `HELD_OUT` aside for judging, and `MORE_HELD_OUT` of what is not used otherwise.

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
    held_out_too: list[tuple[int, ...]] = []
    if len(pieces) > MOST_SAMPLES:
        chance = random.Random(seed)
        chosen = sorted(chance.sample(range(len(pieces)), MOST_SAMPLES))
        left = sorted(set(range(len(pieces))) - set(chosen))
        if hold_out:
            held_out_too = [pieces[i] for i in sorted(chance.sample(left, min(MORE_HELD_OUT, len(left))))]
        pieces = [pieces[i] for i in chosen]
    aside = range(HELD_OUT - 1, len(pieces), HELD_OUT) if hold_out else range(0)
    rest = tuple(p for i, p in enumerate(pieces) if i not in aside)
    return Calibration(
        tuning=rest[ranking:],
        ranking=tuple(p[:RANKING_TOKENS] for p in rest[:ranking]),
        held_out=(*(pieces[i] for i in aside), *held_out_too),
    )
