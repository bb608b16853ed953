"""Rounds a matrix to four or eight bits, minimising the error of its products, not of its numbers: GPTQ, in numpy.

Columns are rounded one after the other, strongest inputs first, and the error of each is compensated in the remaining
columns by the correlations of the inputs. Scales are searched for the least error, weighted by input strength.

Shapes: N outputs, K inputs, G groups of g = K / G inputs each.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022,
section 3; the order by the diagonal is the authors' later `act_order`, here with scales fixed before, so that a group
stays in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LOW: Final = -8
HIGH: Final = 7
"""Range of a signed four-bit number."""
EIGHT_LOW: Final = -128
EIGHT_HIGH: Final = 127
"""And one of eight."""
_BLOCK: Final = 64
"""Columns whose errors are collected before they are applied to the rest of the matrix; changes the speed, not the
result.
"""
_ROWS: Final = 4096
"""Rows rounded at once: bounds the memory for a head with a large vocabulary."""
_DAMPING: Final = 0.01
"""Share of the mean diagonal that is added to it, so that it can be inverted. The paper's value."""
_SHRINKS: Final = tuple(float(x) for x in np.linspace(1.0, 0.65, 15))
"""Scales that are tried, as parts of the one at which nothing is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FourBits:
    """A matrix in four bits: `codes * scales`, group by group."""

    codes_NK: NDArray[np.int8]
    scales_NG: NDArray[np.float16]

    def values(self) -> Floats:
        """Return the matrix [N, K] that it represents."""
        n, k = self.codes_NK.shape
        groups = self.codes_NK.reshape(n, self.scales_NG.shape[1], -1).astype(np.float32)
        result: Floats = (groups * self.scales_NG[:, :, None].astype(np.float32)).reshape(n, k)
        return result


def round_nearest(weights_NK: Floats, group_size: int, *, low: int = LOW, high: int = HIGH) -> FourBits:
    """Round each number to the nearest code between `low` and `high` (four bits by default). Used without calibration
    text.

    No number is clipped: without the inputs, the least error of the weights is not the least of the products (the demo
    model lost 33 % of perplexity with searched scales, and 21 % with these).
    """
    scales_NG = _full_scales(weights_NK, group_size, low).astype(np.float16)
    scales_NK = np.repeat(scales_NG.astype(np.float32), group_size, axis=1)
    codes_NK = np.clip(np.rint(weights_NK / scales_NK), low, high).astype(np.int8)
    return FourBits(codes_NK=codes_NK, scales_NG=scales_NG)


def round_gptq(
    weights_NK: Floats, moments_KK: Floats, group_size: int, *, low: int = LOW, high: int = HIGH
) -> FourBits:
    """Round so that the products with the inputs of the calibration text change least.

    Args:
        weights_NK: The matrix.
        moments_KK: Mean over the tokens of `x.T @ x`, of the inputs `x` [1, K].
        group_size: Inputs that share one scale; divides K.
        low: The smallest code; four bits by default.
        high: The largest.
    """
    n, k = weights_NK.shape
    moments = moments_KK.astype(np.float64)
    strength_K = np.diag(moments).copy()
    silent = strength_K == 0
    moments[silent, silent] = 1.0
    moments[np.diag_indices(k)] += _DAMPING * strength_K.mean() or 1.0
    strength = strength_K.astype(np.float32)
    blocks = [weights_NK[start : start + _ROWS] for start in range(0, n, _ROWS)]
    scales_NG = np.concatenate([_search_scales(block, strength, group_size, low, high) for block in blocks])
    order_K = np.argsort(-strength_K, kind="stable")
    # Upper Cholesky factor of the inverse: row i distributes the error of column i over those after it.
    share_KK = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order_K, order_K)])).T.astype(np.float32)
    codes_NK = np.empty((n, k), np.int8)
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        wide_GN = np.ascontiguousarray(scales_NG[rows].T, np.float32)[order_K // group_size]
        codes_NK[rows, order_K] = _share_errors(weights_NK[rows].T[order_K], wide_GN, share_KK, low, high).T
    return FourBits(codes_NK=codes_NK, scales_NG=scales_NG)


def _share_errors(weights_KN: Floats, scales_KN: Floats, share_KK: Floats, low: int, high: int) -> NDArray[np.int8]:
    """Return the codes [K, N] of columns in the order in which they are rounded."""
    k, n = weights_KN.shape
    left_KN = np.ascontiguousarray(weights_KN, np.float32)
    codes_KN = np.empty((k, n), np.int8)
    for start in range(0, k, _BLOCK):
        end = min(start + _BLOCK, k)
        errors_BN = np.empty((end - start, n), np.float32)
        for i in range(start, end):
            code_N = np.clip(np.rint(left_KN[i] / scales_KN[i]), low, high)
            codes_KN[i] = code_N
            error_N = (left_KN[i] - code_N * scales_KN[i]) / share_KK[i, i]
            left_KN[i + 1 : end] -= np.outer(share_KK[i, i + 1 : end], error_N)
            errors_BN[i - start] = error_N
        left_KN[end:] -= share_KK[start:end, end:].T @ errors_BN
    return codes_KN


def _search_scales(weights_NK: Floats, strength_K: Floats, group_size: int, low: int, high: int) -> NDArray[np.float16]:
    """Return the scale of each group with the least error, weighted by input strength."""
    n, k = weights_NK.shape
    groups_NGg = weights_NK.reshape(n, k // group_size, group_size).astype(np.float32)
    strength_Gg = strength_K.reshape(-1, group_size)
    full_NG = _full_scales(weights_NK, group_size, low)
    best_NG = full_NG.astype(np.float16)
    least_NG = np.full(full_NG.shape, np.inf, np.float32)
    for shrink in _SHRINKS:
        half_NG = (full_NG * shrink).astype(np.float16)
        half_NG = np.where(half_NG == 0, np.float16(1e-7), half_NG)
        scale = half_NG.astype(np.float32)[:, :, None]
        rounded = np.clip(np.rint(groups_NGg / scale), low, high) * scale
        error_NG = np.einsum("ngk,gk->ng", (rounded - groups_NGg) ** 2, strength_Gg)
        better = error_NG < least_NG
        best_NG = np.where(better, half_NG, best_NG)
        least_NG = np.where(better, error_NG, least_NG)
    result: NDArray[np.float16] = best_NG
    return result


def _full_scales(weights_NK: Floats, group_size: int, low: int) -> Floats:
    """Return the scale of each group at which nothing is clipped.

    Its sign maps the largest number of the group to `low`, the longer side of the codes.
    """
    n, k = weights_NK.shape
    groups_NGg = weights_NK.reshape(n, k // group_size, group_size).astype(np.float32)
    at = np.abs(groups_NGg).argmax(axis=2, keepdims=True)
    full_NG: Floats = np.take_along_axis(groups_NGg, at, axis=2)[:, :, 0] / np.float32(low)
    return np.where(full_NG == 0, np.float32(1e-4), full_NG)
