"""The golden files are what PyTorch says today: made again and compared. Needs torch (`make test-full`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from demo_files import demo_files
from engine_bench import GOLDEN, compare_with_golden, golden_cases

from ashore.data.engines import EngineOptions, ModelFiles, make_engine

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_tiny_deepseek_models_are_what_their_script_makes(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs ashore[train]")
    script = _script("make_tiny_deepseek")
    model = script.make_model(kind)
    again = tmp_path / f"deepseek_{kind}_tiny.gguf"
    script.write_gguf(model, kind, again)
    assert again.read_bytes() == (GOLDEN / again.name).read_bytes()
    for case in golden_cases("tiny_deepseek.json", kind):
        tokens, margins = script.greedy(model, case["prompt_ids"])
        assert tokens == case["tokens"]
        assert margins == pytest.approx(case["margins"], abs=1e-3)


def test_llamacpp_agrees_with_torch_on_weights_never_seen_before(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs ashore[train]")
    script = _script("make_tiny_deepseek")
    for kind in ("v2", "v3"):
        model = script.make_model(kind, seed=4321)
        script.write_gguf(model, kind, tmp_path / f"{kind}.gguf")
        cases = []
        for ids in script.prompts():
            tokens, margins = script.greedy(model, ids)
            cases.append({"prompt_ids": ids, "tokens": tokens, "margins": margins})
        engine = make_engine("llamacpp")
        files = ModelFiles(name=kind, digest="", directory=str(tmp_path), format="gguf", weights=f"{kind}.gguf")
        engine.load(files, EngineOptions(kind="llamacpp", kv_tokens=2048, extra={"kv_cache": "f32"}))
        try:
            assert compare_with_golden(engine, cases, near_tie=0.01) == []
        finally:
            engine.close()


@pytest.mark.model
def test_demo_tokens_are_what_the_torch_engine_says(demo_home: Path) -> None:
    pytest.importorskip("torch", reason="needs ashore[train]")
    engine = make_engine("torch")
    engine.load(demo_files(demo_home), EngineOptions(kind="torch", context_tokens=2048))
    try:
        assert compare_with_golden(engine, golden_cases("greedy.json")[::5], near_tie=0.001) == []
    finally:
        engine.close()


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
