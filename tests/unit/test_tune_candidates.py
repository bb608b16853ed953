"""Which candidates are proposed, and which not, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.data.engines import EngineKind
from ashore.data.engines.llamacpp.candidates import gguf_precision
from ashore.data.engines.tuning import (
    Here,
    ModelSource,
    Proposal,
    computes_in_bf16,
    engines_here,
    multiplies_bytes,
    propose,
)
from ashore.data.engines.tuning.candidates import CHEAP_BYTES

HERE: dict[EngineKind, str] = {"openvino": "", "llamacpp": ""}


def source(**changes: object) -> ModelSource:
    facts: dict[str, object] = {
        "name": "m", "format": "gguf", "architecture": "llama", "weight_bytes": 270_000_000,
        "num_parameters": 134_515_008, "context_tokens": 8192,
    }  # fmt: skip
    return ModelSource(**{**facts, **changes})  # type: ignore[arg-type]


def labels(proposal: Proposal) -> list[str]:
    return [c.label for c in proposal.candidates]


def reasons(proposal: Proposal) -> dict[str, str]:
    return {r.label: r.reason for r in proposal.skipped}


def test_a_small_llama_gets_the_whole_grid_with_the_best_guesses_first() -> None:
    found = propose(source(), installed=HERE, here=Here(cores=2, bf16=True, byte_products=True))
    assert labels(found) == [
        "openvino int8 dq=128 kv=u8 threads=2",
        "openvino int8 dq=64 kv=u8 threads=2",
        "openvino int8 dq=0 kv=u8 threads=2",
        "llamacpp q8_0 threads=2",
        "openvino fp16 kv=u8 threads=2",
        "llamacpp f16 threads=2",
        "openvino int8 dq=128 kv=bf16 threads=2",
        "openvino int8 dq=64 kv=bf16 threads=2",
        "openvino int8 dq=0 kv=bf16 threads=2",
        "openvino fp16 kv=bf16 threads=2",
    ]
    assert set(reasons(found)) == {"torch", "vllm"}
    assert all(c.options.kind == c.kind for c in found.candidates)
    assert all(c.options.kv_tokens >= 16 * (512 + 64) for c in found.candidates)
    assert {c.variant for c in found.candidates} == {"int8", "q8_0", "fp16", ""}


def test_a_llamacpp_that_was_built_here_is_measured_before_that_of_the_wheel() -> None:
    found = propose(
        source(), installed=HERE, here=Here(cores=2, bf16=True, byte_products=True, built=frozenset({"llamacpp"}))
    )
    of_llamacpp = [label for label in labels(found) if label.startswith("llamacpp")]
    assert of_llamacpp == [
        "llamacpp q8_0 library=llama_cpp threads=2",
        "llamacpp q8_0 threads=2",
        "llamacpp f16 library=llama_cpp threads=2",
        "llamacpp f16 threads=2",
    ]


def test_without_bf16_the_other_cache_is_single_precision() -> None:
    found = labels(propose(source(), installed=HERE, here=Here(cores=2, bf16=False, byte_products=False)))
    assert "openvino int8 kv=f32 second_form=True threads=2" in found
    assert not any("bf16" in label for label in found)


def test_without_byte_products_no_activations_are_rounded() -> None:
    found = labels(propose(source(), installed=HERE, here=Here(cores=2, bf16=True, byte_products=False)))
    assert found[:2] == ["openvino int8 kv=u8 second_form=True threads=2", "openvino int8 dq=0 kv=u8 threads=2"]
    assert not any("dq=128" in label for label in found)


def test_what_is_not_installed_is_skipped_with_the_way_to_install_it() -> None:
    found = propose(
        source(),
        installed={**HERE, "llamacpp": "pip install xllamacpp"},
        here=Here(cores=2, bf16=True, byte_products=True),
    )
    assert reasons(found)["llamacpp"] == "pip install xllamacpp"
    assert {c.kind for c in found.candidates} == {"openvino"}


def test_latent_attention_goes_to_llamacpp_alone() -> None:
    found = propose(source(architecture="deepseek2"), installed=HERE, here=Here(cores=2, bf16=True, byte_products=True))
    assert {c.kind for c in found.candidates} == {"llamacpp"}
    assert "this model is deepseek2" in reasons(found)["openvino"]


def test_safetensors_are_measured_on_llamacpp_as_they_are_converted() -> None:
    here = Here(cores=2, bf16=True, byte_products=True)
    found = propose(source(format="safetensors"), installed=HERE, here=here)
    assert {c.variant for c in found.candidates if c.kind == "llamacpp"} == {"q8_0"}
    found = propose(source(format="safetensors", architecture="gemma3"), installed=HERE, here=here)
    assert not found.candidates
    assert "it reads gguf" in reasons(found)["llamacpp"]


@pytest.mark.parametrize(("variants", "made"), [(frozenset(), False), (frozenset({"fp16", "q8_0"}), True)])
def test_variants_of_a_large_model_are_measured_only_where_they_are_there(variants: frozenset[str], made: bool) -> None:
    large = source(weight_bytes=CHEAP_BYTES + 1, num_parameters=CHEAP_BYTES // 2, variants=variants)
    found = propose(large, installed=HERE, here=Here(cores=8, bf16=True, byte_products=True))
    assert ("openvino fp16" not in reasons(found)) == made
    assert ("llamacpp q8_0" not in reasons(found)) == made
    assert "openvino int8 dq=128 kv=u8 threads=8" in labels(found)


def test_a_model_that_is_small_already_is_not_rounded_again() -> None:
    found = propose(source(weight_bytes=144_000_000), installed=HERE, here=Here(cores=2, bf16=True, byte_products=True))
    assert [label for label in labels(found) if label.startswith("llamacpp")] == ["llamacpp q8_0 threads=2"]
    assert [c.variant for c in found.candidates if c.kind == "llamacpp"] == [""]


def test_labels_are_unique() -> None:
    found = labels(propose(source(), installed=HERE, here=Here(cores=2, bf16=True, byte_products=True)))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("bits", "name"),
    [(0, "gguf"), (3.5, "q3"), (4.9, "q4"), (5.6, "q5"), (6.6, "q6"), (8.5, "q8_0"), (16.1, "f16"), (32, "f32")],
)
def test_the_precision_of_a_gguf_by_its_bits(bits: float, name: str) -> None:
    assert gguf_precision(bits) == name


@pytest.mark.parametrize(
    ("flags", "there"), [("avx2 avx512_bf16", True), ("amx_bf16", True), ("avx avx2 avx512f", False)]
)
def test_bf16_is_read_from_the_processors_flags(tmp_path: Path, flags: str, there: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: fpu {flags} sse\n")
    assert computes_in_bf16(tmp_path / "cpuinfo") is there
    assert computes_in_bf16(tmp_path / "none") is False


def test_every_engine_kind_has_a_card() -> None:
    from ashore.data.engines.cards import engine_kinds

    cards = engines_here()
    assert sorted(c.kind for c in cards) == list(engine_kinds())
    assert cards[0].kind == "openvino"
    assert all(c.installed or c.missing for c in cards)
    assert all(c.what and c.takes for c in cards)


@pytest.mark.parametrize(
    ("flags", "there"), [("avx2 avx512_vnni", True), ("avx_vnni avx2", True), ("asimd asimddp", True), ("avx2", False)]
)
def test_byte_products_are_read_from_the_processors_flags(tmp_path: Path, flags: str, there: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    assert multiplies_bytes(tmp_path / "cpuinfo") is there
    assert multiplies_bytes(tmp_path / "none") is False
