"""Which instruction sets are used, and a processor that stands for an older one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.data.engines import EngineOptions
from ashore.data.engines.openvino.config import run_config
from ashore.data.engines.processor import MASK, cpu_flags, is_masked
from ashore.data.engines.tuning import built_here, computes_in_bf16, multiplies_bytes

ZEN4 = "processor\t: 0\nmodel name\t: AMD\nflags\t\t: fpu avx avx2 fma avx512f avx512_vnni avx512_bf16 amx_int8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 i8mm\n"


@pytest.mark.parametrize("text", [ZEN4, ARM])
def test_flags_are_read_on_x86_and_arm(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert computes_in_bf16(path) and multiplies_bytes(path)
    assert cpu_flags(path, {}) == set(text.splitlines()[-1].partition(":")[2].split())
    assert cpu_flags(tmp_path / "absent", {}) == frozenset()


def test_a_masked_processor_has_nothing_newer_than_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(ZEN4)
    assert "INFERENCE_PRECISION_HINT" not in run_config(EngineOptions(kind="openvino")).properties
    monkeypatch.setenv(MASK, "AVX2")
    assert is_masked()
    assert cpu_flags(path) == {"fpu", "avx", "avx2", "fma"}
    assert not computes_in_bf16(path) and not multiplies_bytes(path)
    assert built_here() == frozenset(), "a library that was built for the newer processor is none of the older one"
    assert run_config(EngineOptions(kind="openvino")).properties["INFERENCE_PRECISION_HINT"] == "f32"
