"""Reading adapters as peft saves them, and the matrices that a step of several adapters needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ashore.core.errors import AshoreError, CorruptBlob, UnsupportedModel
from ashore.data.engines.openvino.lora import AdapterBank, Slot
from ashore.data.engines.openvino.peft import LowRank, read_adapter

Q, K, DOWN = "layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj", "layers.0.mlp.down_proj"
SLOTS = (Slot(0, (Q, K), (6, 2), 4), Slot(1, (DOWN,), (4,), 8))


def saved(folder: Path, *, tensors: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    folder.mkdir()
    if tensors is None:
        stem = f"base_model.model.model.{Q}"
        tensors = {f"{stem}.lora_A.weight": np.ones((2, 4), "f"), f"{stem}.lora_B.weight": np.ones((6, 2), "f")}
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rank_pattern": {"(?:[a-z_.0-9]+)+X": 4}}, ""),
        ({"alpha_pattern": {"(?<=q)x": 4}}, "RE2"),
        ({"alpha_pattern": {f"layers.{n}.x": 4 for n in range(2_000)}}, "2,000 patterns"),
        ({"lora_alpha": 1e300}, "not finite"),
    ],
)
def test_patterns_and_scales_that_would_hang_or_overflow(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    """Python's expressions would take the first for longer than anybody lives."""
    folder = saved(tmp_path / "a", **config)
    if not words:
        assert set(read_adapter(folder)) == {Q}
        return
    with pytest.raises(CorruptBlob) as refused:
        read_adapter(folder)
    assert words in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_an_adapter_whose_training_failed_is_refused(tmp_path: Path, value: float) -> None:
    """All tokens of a batch are multiplied with its matrices, other requests' too; a mask makes nothing of infinity."""
    stem = f"base_model.model.model.{Q}"
    tensors = {f"{stem}.lora_A.weight": np.ones((2, 4), "f"), f"{stem}.lora_B.weight": np.ones((6, 2), "f")}
    tensors[f"{stem}.lora_A.weight"][1, 2] = value
    with pytest.raises(CorruptBlob, match="not finite"):
        read_adapter(saved(tmp_path / "a", tensors=tensors))


def adapter(seed: int, rank: int, *modules: str) -> dict[str, LowRank]:
    rng = np.random.default_rng(seed)
    sizes = {m: (o, s.inputs) for s in SLOTS for m, o in zip(s.modules, s.outputs, strict=True)}
    return {
        m: LowRank(
            rng.standard_normal((rank, sizes[m][1])).astype(np.float32),
            rng.standard_normal((sizes[m][0], rank)).astype(np.float32),
        )
        for m in modules
    }


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 4.0),
        ({"use_rslora": True}, 8 / np.sqrt(2)),
        ({"alpha_pattern": {"q_proj": 2}}, 1.0),
        ({"alpha_pattern": {"k_proj": 2}}, 4.0),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 6}}, 3.0),
        ({"r": 5, "rank_pattern": {".*q_proj": 2}}, 4.0),
    ],
)
def test_the_scale_is_that_of_peft(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    found = read_adapter(saved(tmp_path / "a", **config))
    assert set(found) == {Q}
    assert found[Q].up_OR == pytest.approx(np.full((6, 2), scale))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias 'all'"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        read_adapter(saved(tmp_path / "a", **config))


@pytest.mark.parametrize(
    ("tensors", "error", "words"),
    [
        ({"base_model.model.lm_head.lora_A.weight": np.ones((2, 4), "f")}, UnsupportedModel, "lm_head"),
        ({f"base_model.model.model.{Q}.lora_A.weight": np.ones((2, 4), "f")}, CorruptBlob, "expected A"),
    ],
)
def test_other_tensors_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, np.ndarray], error: type[AshoreError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_adapter(saved(tmp_path / "a", tensors=tensors))


def test_a_rank_that_the_configuration_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptBlob, match=r"rank 2; adapter_config\.json says 3"):
        read_adapter(saved(tmp_path / "a", r=3))
    with pytest.raises(CorruptBlob, match="pattern"):
        read_adapter(saved(tmp_path / "b", rank_pattern={"(": 2}))


def test_a_step_of_two_adapters_gives_each_token_its_own_term() -> None:
    bank = AdapterBank(SLOTS)
    adapters = {"a": adapter(1, 2, Q, DOWN), "b": adapter(2, 3, Q, K)}
    for key, one in adapters.items():
        bank.add(key, one)
    keys, mask_T1M = bank.mask([("b", 2), ("", 1), ("a", 1)])
    assert (keys, mask_T1M.shape) == (("a", "b"), (4, 1, 5))
    matrices = bank.matrices(keys)
    x_TI = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    mask_TR = np.tile(mask_T1M[:, 0], 2)
    term_TO = (x_TI @ matrices["lora_a.0"].T * mask_TR) @ matrices["lora_b.0"].T
    wanted = np.zeros((4, 8), np.float32)
    for token, key in ((0, "b"), (1, "b"), (3, "a")):
        for module, columns in ((Q, slice(0, 6)), (K, slice(6, 8))):
            if module in adapters[key]:
                low = adapters[key][module]
                wanted[token, columns] = x_TI[token] @ low.down_RI.T @ low.up_OR.T
    assert term_TO == pytest.approx(wanted, abs=1e-5)


def test_the_matrices_of_a_set_are_kept_until_one_of_its_adapters_goes() -> None:
    bank = AdapterBank(SLOTS)
    bank.add("a", adapter(1, 2, Q))
    assert bank.matrices(("a",)) is bank.matrices(("a",))
    keys, mask_T1M = bank.mask([("", 3)])
    assert keys == () and not mask_T1M.any() and not bank.matrices(())["lora_b.1"].any()
    kept = bank.matrices(("a",))
    bank.drop("a")
    bank.add("a", adapter(5, 2, Q))
    assert bank.matrices(("a",)) is not kept


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layers.7.mlp.down_proj": adapter(1, 2, DOWN)[DOWN]}, "does not have"),
        ({Q: adapter(1, 2, DOWN)[DOWN]}, r"4 x 8; this model has 6 x 4"),
    ],
)
def test_an_adapter_of_another_model_is_refused(wrong: dict[str, LowRank], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        AdapterBank(SLOTS).add("x", wrong)
