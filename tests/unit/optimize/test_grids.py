"""Weights that were in four bits once: their codes are found again, and others are left alone."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.engines.openvino.grids import find_grid


def normal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) / 20).astype(np.float32)


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K"])
def test_what_a_gguf_held_in_four_bits_is_found_again(kind: str) -> None:
    form = gguf.GGMLQuantizationType[kind]
    if kind == "Q4_K":  # the package packs no K forms: six bits of scale and least value for each 32 numbers
        rng = np.random.default_rng(1)
        scales, least = rng.integers(1, 64, (2, 24, 8, 1)) * 0.0004
        weights = (scales * rng.integers(0, 16, (24, 8, 32)) - least).reshape(24, 256).astype(np.float32)
    else:
        weights = gguf.quants.dequantize(gguf.quants.quantize(normal(24, 256), form), form)
    found = find_grid(half(weights))
    assert found is not None and found.zeros_NG is not None
    assert found.scales_NG.shape == (24, 8) and found.codes_NK.min() >= 0 and found.codes_NK.max() <= 15
    steps = np.repeat(np.abs(found.scales_NG.astype(np.float32)), 32, axis=1)
    assert (np.abs(found.values() - weights) < 0.03 * steps).all()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([32, 64, 128]), st.integers(3, 16), st.floats(-4, 19), st.integers(0, 99))
def test_any_grid_is_found_with_its_group_or_a_smaller_one(group: int, values: int, zero: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = np.repeat(rng.uniform(0.001, 0.1, (8, 256 // group)), group, axis=1)
    weights = half((scales * (rng.integers(0, values, (8, 256)) - zero)).astype(np.float32))
    found = find_grid(weights)
    assert found is not None and found.zeros_NG is not None
    assert found.scales_NG.shape[1] <= 8
    assert (np.abs(found.values() - weights) < 0.05 * scales).all()


@pytest.mark.parametrize("columns", [256, 96, 33])
def test_weights_that_were_never_rounded_have_none(columns: int) -> None:
    assert find_grid(half(normal(40, columns))) is None


def test_eight_bits_and_a_single_foreign_number_are_no_grid() -> None:
    form = gguf.GGMLQuantizationType.Q4_1
    weights = half(gguf.quants.dequantize(gguf.quants.quantize(normal(64, 256), form), form))
    weights[13, 70] += 0.004
    assert find_grid(weights) is None
    eight = gguf.GGMLQuantizationType.Q8_0
    assert find_grid(half(gguf.quants.dequantize(gguf.quants.quantize(normal(64, 256), eight), eight))) is None


def test_rows_of_one_value_are_kept() -> None:
    weights = np.zeros((4, 64), np.float32)
    weights[1], weights[2] = 0.25, -3.0
    found = find_grid(weights)
    assert found is not None and np.array_equal(found.values(), weights)
