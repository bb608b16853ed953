"""Which precision a word means, and what it will take."""

from __future__ import annotations

import dataclasses

import pytest

from ashore.core.errors import DiskFull, InvalidRequest, MemoryFull
from ashore.core.shapes import ModelShape
from ashore.lab.optimize import PRECISIONS
from ashore.lab.optimize.quantise import check_needs, choose_group_size, choose_precision, estimate_needs

DEMO = ModelShape(
    architecture="llama",
    num_layers=30,
    hidden_size=576,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    vocab_size=49152,
    context_tokens=8192,
    num_parameters=134_515_008,
)


def test_a_mistyped_precision_gets_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="'int9'") as caught:
        choose_precision("int9", None)
    assert "'int8'" in str(caught.value.hint)


def test_the_search_that_was_taken_back_names_what_to_use() -> None:
    with pytest.raises(InvalidRequest, match="no longer searches") as caught:
        choose_precision("auto", None)
    assert "int8" in caught.value.hint and "int4 with --calibration" in caught.value.hint


def test_case_does_not_matter() -> None:
    assert choose_precision("Q4_K_M", "llamacpp").name == "q4_k_m"


def test_another_engines_precision_is_refused_with_what_that_engine_runs() -> None:
    with pytest.raises(InvalidRequest, match="run by the openvino engine, not by llamacpp") as caught:
        choose_precision("int4", "llamacpp")
    assert "q4_k_m" in str(caught.value.hint)


def test_the_yardstick_is_no_variant() -> None:
    with pytest.raises(InvalidRequest, match="baseline"):
        choose_precision("int8", "torch")


def test_group_sizes_are_those_of_the_format() -> None:
    int4, q4 = choose_precision("int4", None), choose_precision("q4_0", None)
    assert (
        choose_group_size(int4, None) == 64 and choose_group_size(int4, 32) == 32 and choose_group_size(q4, None) == 0
    )
    with pytest.raises(InvalidRequest, match="groups of 50"):
        choose_group_size(int4, 50)
    with pytest.raises(InvalidRequest, match="groups of 32"):
        choose_group_size(q4, 32)


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda p: p.name)
def test_needs_grow_with_the_model(precision: object) -> None:
    large = dataclasses.replace(DEMO, num_parameters=10 * DEMO.num_parameters)
    a, b = (estimate_needs(s, precision, weight_bytes=0, reads_text=True) for s in (DEMO, large))  # type: ignore[arg-type]
    assert a.memory_bytes < b.memory_bytes and a.disk_bytes < b.disk_bytes and a.variant_bytes < b.variant_bytes


def test_the_size_of_the_demo_model_is_told_within_two_per_cent() -> None:
    int8 = estimate_needs(DEMO, choose_precision("int8", None), weight_bytes=0, reads_text=False)
    assert int8.variant_bytes == pytest.approx(134_959_878, rel=0.02)  # what was written


def test_too_little_memory_or_disk_is_told_before_anything_starts() -> None:
    needs = estimate_needs(DEMO, choose_precision("int4", None), weight_bytes=0, reads_text=True)
    plenty = 1 << 60
    with pytest.raises(MemoryFull, match=r"x@int4 needs about .* of memory; 1 MiB are free"):
        check_needs(needs, free_memory_bytes=1 << 20, free_disk_bytes=plenty, what="x@int4", smaller="less")
    with pytest.raises(DiskFull, match=r"disk of the store; 1 MiB are free"):
        check_needs(needs, free_memory_bytes=plenty, free_disk_bytes=1 << 20, what="x@int4", smaller="less")


def test_seven_billion_parameters_are_rounded_in_the_memory_of_a_desktop() -> None:
    seven = dataclasses.replace(DEMO, num_parameters=7_615_616_512, hidden_size=3584, vocab_size=152_064)
    for precision in ("int8", "q8_0", "q4_0"):
        needs = estimate_needs(seven, choose_precision(precision, None), weight_bytes=0, reads_text=False)
        assert needs.memory_bytes < 16 << 30
