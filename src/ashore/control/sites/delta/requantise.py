"""Codes of four bits predicted from codes of eight, of the same weights.

Only additions, products, divisions and roundings of single numbers, whose results IEEE 754 fixes: every machine
predicts the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ashore.control.sites.delta.forms import Bytes

LOW, HIGH = -8, 7


def predict(codes: Bytes, base_scales: Bytes, base_group: int, scales: Bytes, group: int) -> Bytes:
    """Return the four-bit codes, one a byte, that rounding to the nearest gives.

    Args:
        codes: Of eight bits, signed.
        base_scales: Their scales, half precision, one for each `base_group` codes.
        base_group: Codes that share a scale.
        scales: The new scales, one for each `group` codes.
        group: New codes that share a scale.

    Raises:
        ValueError: sizes do not fit.
    """
    weights = codes.view(np.int8).reshape(-1, base_group).astype(np.float32) * _column(base_scales)
    with np.errstate(all="ignore"):  # scales of a stranger may be anything; the digest of the file decides
        rounded = np.rint(weights.reshape(-1, group) / _column(scales))
        whole = np.clip(np.nan_to_num(rounded, nan=0.0), LOW, HIGH).astype(np.int8)
    found: Bytes = whole.reshape(-1).view(np.uint8) & 15
    return found


def _column(scales: Bytes) -> NDArray[np.float32]:
    return scales.view("<f2").astype(np.float32).reshape(-1, 1)
