"""Weights that lie on a grid of sixteen values already: what a checkpoint in four bits becomes when it is unpacked.

A GGUF of Q4_0, Q4_1 or Q4_K, or a checkpoint of AWQ, is half precision in the store, and every group of its numbers is
`scale * (code - zero)` with codes from 0 to 15. Finding these again gives back its four bits and loses nothing. To
round such numbers to another grid of four bits loses as much as to round them for the first time.

Shapes: N outputs, K inputs, M groups of g inputs each.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.engines.openvino.gptq import Floats, FourBits

GROUPS: Final = (128, 64, 32)
"""Weights of a row that share a grid, the cheapest first; 32 is that of GGUF, 128 that of AWQ and GPTQ."""
_STEPS: Final = 15
_HALF: Final = 2.0**-11
"""Share of a number by which half precision may move it. A place on the grid is made of four that were moved."""
_FARTHEST: Final = 0.05
"""Steps that a number may lie beside its grid, whatever moved it: of 32 on none, all are so close once in 10^30."""
_PROBED: Final = 64
"""Groups that are looked at before all are."""


def find_grid(weights_NK: Floats) -> FourBits | None:
    """Return the codes, scales and zeros that these weights are made of, or None if they lie on no such grid."""
    for group_size in GROUPS:
        if weights_NK.shape[1] % group_size:
            continue
        groups_Mg = weights_NK.reshape(-1, group_size)
        stride = max(1, len(groups_Mg) // _PROBED)
        if _on_grid(groups_Mg[::stride]) is None:
            continue
        found = _on_grid(groups_Mg)
        if found is not None:
            codes, scales, zeros = found
            n, k = weights_NK.shape
            return FourBits(
                codes_NK=codes.reshape(n, k), scales_NG=scales.reshape(n, -1), zeros_NG=zeros.reshape(n, -1)
            )
    return None


def _on_grid(groups_Mg: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16], NDArray[np.float16]] | None:
    """Return codes [M, g], scales [M] and zeros [M] of these groups, or None if one of them lies on no grid."""
    low_M, high_M = groups_Mg.min(axis=1), groups_Mg.max(axis=1)
    flat_M = low_M == high_M
    step_M = np.where(flat_M, np.where(low_M == 0, np.float32(1e-4), np.abs(low_M)), np.float32(0))
    left = np.flatnonzero(~flat_M)
    for num_steps in range(_STEPS, 0, -1):  # a group need not use the first and the last of its sixteen values
        tried = (high_M[left] - low_M[left]) / num_steps
        fits = _distance(groups_Mg[left], tried, low_M[left]) <= _tolerance(low_M[left], high_M[left], tried)
        step_M[left[fits]] = tried[fits]
        left = left[~fits]
        if not len(left):
            break
    if len(left):
        return None
    codes_Mg = np.rint((groups_Mg - low_M[:, None]) / step_M[:, None])
    unused_M = np.maximum(np.gcd.reduce(codes_Mg.astype(np.int8), axis=1), 1)  # only every third value is used, say
    codes_Mg /= unused_M[:, None]
    step_M *= unused_M
    scales_M, zeros_M = _fitted(groups_Mg, codes_Mg, step_M)
    again_Mg = (codes_Mg - zeros_M.astype(np.float32)[:, None]) * scales_M.astype(np.float32)[:, None]
    if (np.abs(again_Mg - groups_Mg).max(axis=1) > 2 * _tolerance(low_M, high_M, step_M) * step_M).any():
        return None  # so far from 0 that a zero in half precision does not hold it
    return codes_Mg.astype(np.int8), scales_M, zeros_M


def _tolerance(low_M: Floats, high_M: Floats, step_M: Floats) -> Floats:
    """Return how far beside its grid half precision may have moved a number of each group, in steps."""
    reach_M = np.maximum(np.abs(low_M), np.abs(high_M)) / step_M
    tolerance_M: Floats = np.minimum(4 * _HALF * reach_M + 1e-3, _FARTHEST)
    return tolerance_M


def _distance(groups_Mg: Floats, step_M: Floats, low_M: Floats) -> Floats:
    """Return how far the farthest number of each group lies beside its grid, in steps."""
    place_Mg = (groups_Mg - low_M[:, None]) / step_M[:, None]
    far_M: Floats = np.abs(place_Mg - np.rint(place_Mg)).max(axis=1)
    return far_M


def _fitted(groups_Mg: Floats, codes_Mg: Floats, step_M: Floats) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Return scales and zeros in half precision that leave the least squares: each number was rounded on its own."""
    codes_mean_M, mean_M = codes_Mg.mean(axis=1), groups_Mg.mean(axis=1)
    centred_Mg = codes_Mg - codes_mean_M[:, None]
    spread_M = np.square(centred_Mg).sum(axis=1)
    slope_M = (centred_Mg * (groups_Mg - mean_M[:, None])).sum(axis=1) / np.where(spread_M == 0, 1, spread_M)
    scales_M = np.where(spread_M == 0, step_M, slope_M).astype(np.float16)
    scales_M = np.where(scales_M == 0, np.float16(1e-7), scales_M)
    zeros_M = (codes_mean_M - mean_M / scales_M.astype(np.float32)).astype(np.float16)
    return scales_M, zeros_M
