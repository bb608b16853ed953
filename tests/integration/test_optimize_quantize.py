"""Quantising a tiny model: each form is written, served by its engine, kept with a recipe, and made again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from statistics import mean

import gguf
import numpy as np
import pytest
from benchmarks.optimise.judging import judge_as_served
from store_making import alter, blob_of, make_store, pull_tiny

from ashore.cli.bootstrap import make_ready, prepare_variant, quantiser
from ashore.core.errors import Conflict, CorruptBlob, InvalidRequest, MemoryFull
from ashore.data.engines import Rounded, RoundOrder
from ashore.data.engines.llamacpp.importance import read_importance
from ashore.data.engines.openvino.gptq import round_nearest
from ashore.data.engines.openvino.graph import read_facts
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.openvino.products import put_codes
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.jobs.operations.asks import QuantizeIn
from ashore.kit.store import ModelStore, StoredModel, convert_safetensors_to_gguf

TEXT = "".join(
    f"{number} bottles of {number * 7 % 31} kinds, passed around by {number % 13} people.\n" for number in range(110)
)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = make_store(tmp_path / "home")
    pull_tiny(store, tmp_path)
    return store


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text(TEXT)
    return path


def make(store: ModelStore, to: str, **wish: object) -> StoredModel:
    maker = quantiser(store)
    return maker.make(maker.plan(QuantizeIn(model="tiny", to=to, **wish))).variant  # type: ignore[arg-type]


def nll(store: ModelStore, reference: str) -> float:
    files = store.open(reference)
    made = Rounded(format=files.format, weights=files.weights)
    ids = tuple(TEXT.encode()[:200])
    return mean(judge_as_served(Path(files.directory), made, (ids,), exact=True)[0])


def test_int8_and_int4_are_served_and_each_is_what_it_says(store: ModelStore, text: Path) -> None:
    make(store, "fp16")
    for to, size, loss in (("int8", 0.55, 0.01), ("int4", 0.45, 0.2)):
        variant = make(store, to, **({"calibration": text} if to == "int4" else {}))
        assert variant.num_bytes < store.resolve("tiny@fp16").num_bytes
        assert variant.files and variant.parent == store.resolve("tiny").digest
        weights = next(f for f in variant.files if f.path.endswith(".bin"))
        half = next(f for f in store.resolve("tiny@fp16").files if f.path.endswith(".bin"))
        assert weights.num_bytes < size * half.num_bytes
        assert abs(nll(store, f"tiny@{to}") - nll(store, "tiny@fp16")) < loss


def test_the_recipe_tells_how_four_bits_were_found_and_with_which_text(store: ModelStore, text: Path) -> None:
    make(store, "int4", name="plain")
    make(store, "int4", name="tuned", calibration=text)
    kept = {name: store.resolve(f"tiny@{name}").recipe for name in ("plain", "tuned")}
    assert "nearest" in kept["plain"]["rounding"] and "GPTQ" in kept["tuned"]["rounding"]
    layers = "parameter.four_bit_layers"
    assert layers not in kept["plain"] and kept["tuned"][layers].split()
    assert kept["tuned"]["data.1"].endswith(" calibration.txt") and "data.2" not in kept["tuned"]


def test_eight_bits_of_a_mixture_are_rounded_by_the_text(store: ModelStore, tmp_path: Path) -> None:
    files = store.open("tiny")
    made, sizes = {}, {}
    for name, samples in (("plain", ()), ("tuned", (tuple(TEXT.encode()[:2000]),))):
        order = RoundOrder(precision="int4", group_size=32, samples=samples, small=frozenset())
        rounded = prepare_openvino(Path(files.directory), files.weights, order, tmp_path / name)
        made[name] = mean(judge_as_served(tmp_path / name, rounded, (tuple(TEXT.encode()[:200]),), exact=True)[0])
        sizes[name] = (tmp_path / name / "openvino_model.bin").stat().st_size
        assert ("GPTQ" in rounded.facts["rounding"]) == (name == "tuned")
    make(store, "fp16")
    exact = nll(store, "tiny@fp16")
    assert sizes["plain"] == sizes["tuned"] and made["plain"] != made["tuned"]
    assert abs(made["tuned"] - exact) < abs(made["plain"] - exact) + 0.002


def test_up_and_quantize_make_the_same_variant(store: ModelStore) -> None:
    by_up = prepare_variant(store, store.resolve("tiny"), "int8")
    assert make(store, "int8").digest == by_up.digest


def test_a_variant_of_an_earlier_model_is_not_served_as_one_of_the_new(store: ModelStore, tmp_path: Path) -> None:
    old = prepare_variant(store, store.resolve("tiny"), "int8")
    four = make(store, "int4")
    assert not store.is_outdated(old) and not store.is_outdated(four)
    new = pull_tiny(store, tmp_path, seed=1)
    assert store.is_outdated(store.resolve("tiny@int8"))
    made = prepare_variant(store, new, "int8")
    assert made.parent == new.digest and made.digest != old.digest
    assert make_ready(store, "tiny@int8").digest == made.digest
    with pytest.raises(Conflict, match="tiny@int4 was made from an earlier tiny"):
        prepare_variant(store, new, "int4")


def test_eight_bits_in_groups_are_larger_and_closer(store: ModelStore) -> None:
    make(store, "fp16")
    whole, groups = make(store, "int8"), make(store, "int8", group_size=32, name="int8-g32")
    assert groups.num_bytes > whole.num_bytes and "groups of 32" in groups.recipe["rounding"]
    exact = nll(store, "tiny@fp16")
    assert abs(nll(store, "tiny@int8-g32") - exact) < 0.005


@pytest.mark.parametrize(("to", "kinds"), [("q8_0", {"F32", "Q8_0"}), ("q4_k_m", {"F32", "Q5_0", "Q8_0"})])
def test_gguf_forms_have_the_formats_of_their_name(store: ModelStore, text: Path, to: str, kinds: set[str]) -> None:
    variant = make(store, to, **({"calibration": text} if to != "q8_0" else {}))
    files = store.open(variant.reference)
    reader = gguf.GGUFReader(Path(files.directory) / files.weights)
    assert {t.tensor_type.name for t in reader.tensors} == kinds


def test_importance_is_the_mean_square_of_what_a_matrix_reads(store: ModelStore, tmp_path: Path) -> None:
    convert_safetensors_to_gguf(Path(store.open("tiny").directory), tmp_path / "m.gguf")
    tensors = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors
    }
    samples = (tuple(range(1, 100)), (5, 6, 7))
    seen = read_importance(tmp_path / "m.gguf", samples, told=lambda stage, share: None)
    x_TK = tensors["token_embd.weight"][[i for ids in samples for i in ids]]
    normed = x_TK / np.sqrt(np.square(x_TK).mean(axis=1, keepdims=True) + 1e-5) * tensors["blk.0.attn_norm.weight"]
    assert seen["blk.0.attn_q.weight"] == pytest.approx(np.square(normed).mean(axis=0), rel=1e-4)
    assert {"blk.1.ffn_down.weight", "output.weight"} <= set(seen)


@pytest.mark.parametrize("data", [b"", b"short", b"\xff\xfe" * 5000])
def test_a_text_that_cannot_be_used_makes_nothing(store: ModelStore, tmp_path: Path, data: bytes) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(data)
    with pytest.raises(InvalidRequest, match="calibration text"):
        make(store, "int4", calibration=bad)
    assert [m.reference for m in store.list()] == ["tiny"]
    assert not list(store.root.glob(".preparing-*"))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"to": "auto"}, "no longer searches"),
        ({"to": "w8a8"}, "there is no precision"),
        ({"to": "int4", "group_size": 7}, "groups of 7"),
        ({"to": "int8", "name": "Not A Name"}, "not a model reference"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(store: ModelStore, wish: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        quantiser(store).plan(QuantizeIn(model="tiny", **wish))  # type: ignore[arg-type]


def test_a_variant_is_not_rounded_again(store: ModelStore) -> None:
    make(store, "int8")
    with pytest.raises(InvalidRequest, match="already quantized"):
        quantiser(store).plan(QuantizeIn(model="tiny@int8", to="int4"))


def test_rows_that_do_not_fall_into_groups_are_told(store: ModelStore) -> None:
    with pytest.raises(InvalidRequest, match="not a multiple of the group size 96"):
        make(store, "int4", group_size=96)
    assert [m.reference for m in store.list()] == ["tiny"]


def test_memory_is_asked_first(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = quantiser(store)
    monkeypatch.setattr(maker, "_free_memory", lambda: 1000)
    with pytest.raises(MemoryFull, match="tiny@int8 needs about"):
        maker.make(maker.plan(QuantizeIn(model="tiny", to="int8")))


def test_a_damaged_parent_is_found_before_it_is_rounded(store: ModelStore) -> None:
    alter(blob_of(store, store.resolve("tiny"), "model.safetensors"), 5000)
    with pytest.raises(CorruptBlob):
        make(store, "int8")


def test_what_was_killed_leaves_nothing_and_can_be_given_again(store: ModelStore, text: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from ashore.cli.bootstrap import quantiser
from ashore.core.clock import SystemClock
from ashore.data.jobs.operations.asks import QuantizeIn
from ashore.kit.store import ModelStore

root, text = map(Path, sys.argv[1:])
maker = quantiser(ModelStore(root / "store", root / "run" / "models", SystemClock()))
def die(stage, share):
    if share > 0.6:
        os.kill(os.getpid(), signal.SIGKILL)
maker.make(maker.plan(QuantizeIn(model="tiny", to="int4", calibration=text)), told=die)
"""
    home = store.root.parent
    ended = subprocess.run([sys.executable, "-c", script, str(home), str(text)], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert [m.reference for m in store.list()] == ["tiny"]
    assert list(store.root.glob(".preparing-*"))
    make(store, "int4", calibration=text)
    assert not list(store.root.glob(".preparing-*"))
    assert store.verify().ok


@pytest.mark.parametrize(("four", "eight", "told"), [(0, 0, "fp16"), (0, 4, "int8"), (3, 1, "int4"), (1, 3, "mixed")])
def test_an_engine_tells_the_precision_by_where_most_weights_are(
    tmp_path: Path, four: int, eight: int, told: str
) -> None:
    ov, op = import_openvino(), import_openvino("openvino.opset13")
    ids = op.parameter([-1, 512], np.float32, name="x")
    value = ids.output(0)
    for kind in ["i4"] * four + ["i8"] * eight:
        weights = op.constant(ov.Tensor(getattr(ov.Type, kind), ov.Shape([512, 512])))
        value = op.matmul(value, op.convert(weights, "f32"), False, True).output(0)
    result = op.result(value)
    result.get_output_tensor(0).set_names({"logits"})
    ov.save_model(ov.Model([result], [ids], "m"), str(tmp_path / "m.xml"))
    assert read_facts(tmp_path / "m.xml").precision == told


@pytest.mark.parametrize(("zeros", "told"), [(False, 32), (True, 0)])
def test_an_engine_tells_the_smallest_group_of_weights_whose_activations_are_rounded(
    tmp_path: Path, zeros: bool, told: int
) -> None:
    ov, op = import_openvino(), import_openvino("openvino.opset13")
    weights = np.random.default_rng(2).normal(size=(512, 512)).astype(np.float32)
    ids = op.parameter([-1, 512], np.float32, name="x")
    product = op.matmul(ids, op.constant(weights), False, True)
    put_codes(product, round_nearest(weights, 32), bits=4)
    if zeros:  # as variants of earlier versions have them
        wide = product.input_value(1).get_node().input_value(0).get_node().input_value(0).get_node().input_value(0)
        codes = op.constant(ov.Tensor(ov.Type.u4, ov.Shape([512, 16, 32])))
        shifted = op.subtract(op.convert(codes, "f16"), op.constant(np.full([512, 16, 1], 8, np.float16)))
        for target in wide.get_target_inputs():
            target.replace_source_output(shifted.output(0))
    result = op.result(product)
    result.get_output_tensor(0).set_names({"logits"})
    ov.save_model(ov.Model([result], [ids], "m"), str(tmp_path / "m.xml"))
    assert read_facts(tmp_path / "m.xml").weight_group == told
