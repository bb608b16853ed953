"""Rounding to four and eight bits: products stay closer with it than without, and codes are stored as they are read."""

from __future__ import annotations

import numpy as np
import pytest

from ashore.data.engines.openvino.gptq import EIGHT_HIGH, EIGHT_LOW, HIGH, LOW, round_gptq, round_nearest
from ashore.data.engines.openvino.products import pack_four_bits


def made() -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix [48, 128] and inputs [2000, 128] that are correlated, some of them strong."""
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(128, 128)) * np.exp(rng.normal(size=128))
    return rng.normal(size=(48, 128)).astype(np.float32), (rng.normal(size=(2000, 128)) @ mixing).astype(np.float32)


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_products_change_less_than_by_rounding_to_the_nearest(group_size: int) -> None:
    weights, inputs = made()
    moments = inputs.T @ inputs / len(inputs)
    exact = inputs @ weights.T
    errors = [
        float(np.square(inputs @ rounded.values().T - exact).mean())
        for rounded in (round_gptq(weights, moments, group_size), round_nearest(weights, group_size))
    ]
    assert errors[0] < 0.6 * errors[1]
    assert errors[1] < 0.02 * float(np.square(exact).mean())


def test_products_in_eight_bits_with_a_scale_for_each_row_change_less_too() -> None:
    weights, inputs = made()
    moments = inputs.T @ inputs / len(inputs)
    eight = {"low": EIGHT_LOW, "high": EIGHT_HIGH}
    exact = inputs @ weights.T
    errors = [
        float(np.square(inputs @ rounded.values().T - exact).mean())
        for rounded in (round_gptq(weights, moments, 128, **eight), round_nearest(weights, 128, **eight))
    ]
    assert errors[0] < 0.6 * errors[1]
    assert errors[1] < 0.0002 * float(np.square(exact).mean())


def test_each_row_is_rounded_as_if_it_were_alone() -> None:
    rng = np.random.default_rng(5)
    weights, inputs = rng.normal(size=(4100, 32)).astype(np.float32), rng.normal(size=(200, 32)).astype(np.float32)
    moments = inputs.T @ inputs / len(inputs)
    whole, last = round_gptq(weights, moments, 32), round_gptq(weights[4090:], moments, 32)
    assert np.array_equal(whole.codes_NK[4090:], last.codes_NK)
    assert np.array_equal(whole.scales_NG[4090:], last.scales_NG)


def test_codes_fit_four_bits_and_scales_are_one_for_each_group() -> None:
    weights, inputs = made()
    rounded = round_gptq(weights, inputs.T @ inputs / len(inputs), 32)
    assert rounded.codes_NK.min() >= LOW and rounded.codes_NK.max() <= HIGH
    assert rounded.scales_NG.shape == (48, 4)


def test_inputs_that_are_always_zero_and_rows_of_zeros_do_no_harm() -> None:
    weights, inputs = made()
    inputs[:, 5] = 0
    weights[7] = 0
    rounded = round_gptq(weights, inputs.T @ inputs / len(inputs), 64)
    assert np.isfinite(rounded.values()).all() and not rounded.values()[7].any()


def test_equal_input_gives_equal_codes() -> None:
    weights, inputs = made()
    moments = inputs.T @ inputs / len(inputs)
    a, b = round_gptq(weights, moments, 64), round_gptq(weights, moments, 64)
    assert np.array_equal(a.codes_NK, b.codes_NK) and np.array_equal(a.scales_NG, b.scales_NG)


def test_two_codes_share_a_byte_the_first_in_its_lower_half() -> None:
    assert pack_four_bits(np.array([[-8, 7], [1, -1]], np.int8)).tolist() == [0x78, 0xF1]
