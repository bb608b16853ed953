"""Which second form of the weights, if any, a processor gets, how activations are rounded, and who pins threads."""

from __future__ import annotations

import pytest

from ashore.data.engines import EngineOptions
from ashore.data.engines.openvino.config import run_config
from ashore.data.engines.openvino.paired import activation_group, choose_second_form

SMALL, FREE = 135 << 20, 16 << 30


@pytest.mark.parametrize(
    ("flags", "precision", "free_bytes", "given", "from_tokens"),
    [
        ("avx2", "int8", FREE, {}, 96),
        ("avx2 avx512f avx512_vnni", "int8", FREE, {}, None),
        ("avx2 avx_vnni", "int8", FREE, {}, None),
        ("sse4_2", "int8", FREE, {}, None),
        ("avx2", "fp16", FREE, {}, None),
        ("avx2", "int8", 1 << 30, {}, None),
        ("avx2", "int8", FREE, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}, None),
    ],
)
def test_only_processors_without_byte_products_get_a_second_form(
    flags: str, precision: str, free_bytes: int, given: dict[str, object], from_tokens: int | None
) -> None:
    form = choose_second_form(
        cpu_flags=frozenset(flags.split()),
        precision=precision,
        weight_bytes=SMALL,
        free_bytes=free_bytes,
        given=given,
    )
    assert (form.from_tokens if form else None) == from_tokens


@pytest.mark.parametrize(("weights", "activations"), [(0, 64), (16, 16), (32, 32), (64, 64), (96, 64), (128, 64)])
def test_activations_are_rounded_in_groups_that_small_groups_of_weights_allow(weights: int, activations: int) -> None:
    assert activation_group(weights) == activations


def test_threads_are_not_pinned_unless_the_operator_wants_it() -> None:
    plain = run_config(EngineOptions(kind="openvino")).properties
    asked = run_config(EngineOptions(kind="openvino", extra={"ENABLE_CPU_PINNING": True})).properties
    assert (plain["ENABLE_CPU_PINNING"], asked["ENABLE_CPU_PINNING"]) == (False, True)
