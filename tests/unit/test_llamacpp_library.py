"""Which layout of llama.cpp's parameters a library has, and where a library of one's own is looked for."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ashore.core.errors import MissingExtra
from ashore.data.engines.llamacpp.library import (
    ContextParams,
    PlainContextParams,
    built_library,
    load_library,
    misfit_of,
)

VALUES = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1,
    "rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1, "flash_attn_type": -1,
    "yarn_ext_factor": -1.0, "yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0, "type_k": 1, "type_v": 1, "offload_kqv": True, "no_perf": True, "op_offload": True,
    "swa_full": True,
}  # fmt: skip
LAYOUTS = (ContextParams, PlainContextParams)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_defaults_fit_the_layout_that_they_were_written_in_and_no_other(layout: type[ctypes.Structure]) -> None:
    defaults = layout(**VALUES)
    other = next(one for one in LAYOUTS if one is not layout)
    assert misfit_of(defaults) == ""
    assert misfit_of(other.from_buffer_copy(bytes(defaults) + bytes(16)))


def test_a_default_that_has_changed_is_named() -> None:
    assert misfit_of(ContextParams(**{**VALUES, "n_batch": 4096})).startswith("the default of n_batch is 4096")


def test_what_llama_cpp_python_built_is_found_without_loading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it was imported')")
    assert built_library() == ""
    (package / "lib" / "libllama.so").touch()
    assert built_library() == str(package / "lib" / "libllama.so")


@pytest.mark.skipif(bool(built_library()), reason="llama-cpp-python is installed here")
def test_without_it_the_error_says_how_it_is_built() -> None:
    with pytest.raises(MissingExtra) as caught:
        load_library("llama_cpp")
    assert "GGML_NATIVE" in caught.value.hint
