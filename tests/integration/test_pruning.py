"""A tiny model pruned in every way: what the smaller checkpoint is, what every engine says of it, and bad days."""

from __future__ import annotations

import json
import random
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memory_keeper import MemoryKeeper
from store_making import make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, BrokenData, Conflict, DiskFull, InvalidRequest, MemoryFull, UnknownModel
from ashore.data.engines import EngineKind, EngineOptions, ModelFiles, RoundOrder, ScoreText, scored
from ashore.data.engines.cards import make_engine
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.kit.store import ModelStore, convert_safetensors_to_gguf, read_tensors
from ashore.lab.optimize.pruning import Kind, Pruner, PruneWish, Sizes, anatomy_of
from ashore.lab.training import StepReport

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),  # peft asks transformers for it
]

pytest.importorskip("torch")

LAYERS = 6
WORDS = ("the", "in", "12", "model", "runs", "on", "machines", "of", "its", "own")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    choice = random.Random(0).choice
    path.write_text(" ".join(choice(WORDS) for _ in range(1500)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, layers=LAYERS)
    return store


def _pruner(store: ModelStore, *, free_memory: int = 8 << 30) -> Pruner:
    return Pruner(store, store.root.parent / "work", free_memory=lambda: free_memory)


def _sizes(store: ModelStore, name: str) -> Sizes:
    model = store.resolve(name)
    with store.reading(name) as files:
        return anatomy_of(files, model.shape.num_parameters).sizes


@pytest.mark.parametrize("kind", ["depth", "width", "mixed"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_what_was_planned_is_what_the_checkpoint_has(tmp_path: Path, text: Path, family: str, kind: Kind) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path, kind=family, layers=LAYERS)
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", kind=kind, calibration=text))
    report = pruner.make(order)
    assert report.model.reference == "tiny-pruned30"
    assert report.model.parent == parent.digest
    assert _sizes(store, "tiny-pruned30") == order.plan.after
    assert report.model.shape.num_parameters == order.plan.parameters_after
    assert order.plan.parameters_after <= 0.7 * parent.shape.num_parameters
    assert len(report.layers) == order.plan.after.layers
    assert {0, LAYERS - 1} <= set(report.layers)


def test_matrices_fitted_anew_predict_better_than_cut_ones_and_healed_ones_better_still(
    store: ModelStore, text: Path
) -> None:
    pruner = _pruner(store)
    losses = pruner.make(
        pruner.plan(PruneWish(model="tiny", remove="0.3", heal=text, heal_tokens=40_000, learning_rate=3e-3))
    ).losses
    assert losses.parent is not None
    assert losses.cut is not None
    assert losses.refitted is not None
    assert losses.healed is not None
    assert abs(losses.healed - losses.parent) < abs(losses.cut - losses.parent)


def test_layers_that_do_nothing_are_those_that_go(tmp_path: Path, text: Path) -> None:
    """A layer whose ways out are nearly 0 hands on what it gets."""
    folder = tmp_path / "made"
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, layers=LAYERS)
    shutil.copytree(tmp_path / "tiny", folder)
    _change(folder, lambda name, t: t * 1e-3 if name.startswith(("model.layers.2.", "model.layers.4.")) and
            name.endswith(("o_proj.weight", "down_proj.weight")) else t)  # fmt: skip
    store.pull(str(folder), name="idle")
    pruner = _pruner(store)
    report = pruner.make(pruner.plan(PruneWish(model="idle", remove="0.2", kind="depth", calibration=text)))
    assert report.layers == (0, 1, 3, 5)
    assert report.losses.cut == pytest.approx(report.losses.parent, abs=0.01)


def test_channels_that_do_nothing_are_those_that_go(tmp_path: Path, text: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, layers=LAYERS)
    folder = tmp_path / "made"
    shutil.copytree(tmp_path / "tiny", folder)

    def quiet(name: str, tensor: Any) -> Any:
        if name.endswith("down_proj.weight"):
            tensor = tensor.copy()
            tensor[:, ::2] *= 1e-4
        return tensor

    _change(folder, quiet)
    store.pull(str(folder), name="idle")
    pruner = _pruner(store)
    report = pruner.make(pruner.plan(PruneWish(model="idle", remove="0.22", kind="width", calibration=text)))
    assert _sizes(store, report.model.name) == Sizes(layers=LAYERS, groups=2, channels=64)
    assert report.losses.cut == pytest.approx(report.losses.parent, abs=0.01)


def test_zeros_are_the_smallest_weights_and_the_size_stays(store: ModelStore) -> None:
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", kind="unstructured"))
    report = pruner.make(order)
    before, after = _weights(store, "tiny"), _weights(store, report.model.name)
    name = "model.layers.1.mlp.up_proj.weight"
    gone = after[name] == 0
    assert abs(before[name][gone]).max() <= abs(before[name][~gone]).min()
    zeros = sum(int((t == 0).sum()) for t in after.values()) - sum(int((t == 0).sum()) for t in before.values())
    assert zeros == pytest.approx(order.plan.zeroed, rel=1e-3)
    assert report.model.shape == store.resolve("tiny").shape


@pytest.mark.parametrize(("family", "share", "groups"), [("llama", 0.5, 1), ("qwen2", 0.3, 2), ("qwen3", 0.5, 1)])
def test_every_engine_says_the_same_of_it(family: str, share: float, groups: int, text: Path, tmp_path: Path) -> None:
    """With fewer heads too, where the family may: these are then no longer the hidden size divided by the head's."""
    store = make_store(tmp_path)
    _pull_unscaled(store, tmp_path, family)
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove=str(share), kind="width", calibration=text, name="small"))
    pruner.make(order)
    assert order.plan.after.groups == groups
    ids = [5, 60, 70, 80, 90, 100, 110, 120]
    with store.reading("small") as files:
        (tmp_path / "gguf").mkdir()
        convert_safetensors_to_gguf(files.directory, tmp_path / "gguf" / "model.gguf")
        (tmp_path / "ov").mkdir()
        prepare_openvino(
            files.directory, files.weights, RoundOrder(precision="fp16"), tmp_path / "ov", told=lambda step, share: None
        )
        scores = {
            "torch": _score("torch", files.directory, "safetensors", files.weights, ids),
            "llamacpp": _score("llamacpp", tmp_path / "gguf", "gguf", "model.gguf", ids),
            "openvino": _score("openvino", tmp_path / "ov", "openvino", "openvino_model.xml", ids),
        }
    for kind in ("llamacpp", "openvino"):
        assert scores[kind] == pytest.approx(scores["torch"], abs=0.05), kind


def test_a_killed_healing_goes_on_and_ends_as_if_nothing_had_been(
    store: ModelStore, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = PruneWish(model="tiny", remove="0.3", heal=text, heal_tokens=20_000, name="cut-off")
    pruner = _pruner(store)
    whole = pruner.make(pruner.plan(msgspec.structs.replace(wish, name="whole")))
    steps: list[int] = []

    def watch(report: StepReport) -> None:
        steps.append(report.step)

    with pytest.raises(KeyboardInterrupt):
        pruner.make(pruner.plan(wish), watch=watch, stop=lambda: steps[-1] == 3)
    with pytest.raises(UnknownModel):
        store.resolve("cut-off")
    steps.clear()
    again = pruner.make(pruner.plan(wish), watch=watch)
    assert steps[0] == 4
    assert [f.digest for f in again.model.files] == [f.digest for f in whole.model.files]
    assert list((store.root.parent / "work").iterdir()) == []


def test_of_a_sealed_parent_nothing_clear_is_left_behind(tmp_path: Path, text: Path) -> None:
    keeper = MemoryKeeper()
    home = tmp_path / "home"
    store = ModelStore(home / "store", home / "run" / "models", ManualClock(), keeper=lambda: keeper)
    pull_tiny(store, tmp_path, layers=LAYERS)
    store.seal("tiny")
    pruner = _pruner(store)
    made = pruner.make(
        pruner.plan(PruneWish(model="tiny", remove="0.3", kind="depth", heal=text, heal_tokens=4_000, name="small"))
    ).model
    assert made.sealed is not None
    embedding = _weights(store, "small")["model.embed_tokens.weight"].astype("<f2").tobytes()
    on_disk = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    assert embedding[1000:1064] not in on_disk
    assert not (home / "work").exists()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Examples whose completion follows from the prompt."""
    choice = random.Random(1).choice
    rows = [{"prompt": " ".join(choice(WORDS) for _ in range(20)), "completion": " own"} for _ in range(300)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_examples_are_healed_on_at_their_answers(store: ModelStore, data: Path) -> None:
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", heal=data, heal_tokens=20_000, learning_rate=3e-3))
    losses = pruner.make(order).losses
    assert losses.parent is not None
    assert losses.refitted is not None
    assert losses.healed is not None
    assert abs(losses.healed - losses.parent) < abs(losses.refitted - losses.parent)


def test_a_broken_line_is_named(store: ModelStore, data: Path) -> None:
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines[:6], '{"prompt": "no end', *lines[6:]]))
    with pytest.raises(BrokenData, match="line 7"):
        _pruner(store).plan(PruneWish(model="tiny", remove="0.3", heal=data))


def test_adapters_heal_too_and_are_merged(store: ModelStore, text: Path) -> None:
    pruner = _pruner(store)
    wish = PruneWish(model="tiny", remove="0.3", heal=text, heal_tokens=20_000, method="lora", learning_rate=1e-2)
    report = pruner.make(pruner.plan(wish))
    plain = {n.removesuffix(".weight") for n in _weights(store, report.model.name)}
    assert not any("lora" in name for name in plain)
    assert report.losses.parent is not None
    assert report.losses.refitted is not None
    assert report.losses.healed is not None
    assert abs(report.losses.healed - report.losses.parent) < abs(report.losses.refitted - report.losses.parent)


def test_the_recipe_tells_what_was_done(store: ModelStore, text: Path) -> None:
    pruner = _pruner(store)
    made = pruner.make(
        pruner.plan(PruneWish(model="tiny", remove="0.3", kind="depth", heal=text, heal_tokens=4_000))
    ).model
    recipe = made.recipe
    assert (recipe["maker"], recipe["parameter.kind"], recipe["parameter.remove"]) == ("prune", "depth", "0.3")
    assert recipe["data.1"].startswith("heal ") and recipe["data.1"].endswith(" text.txt") and "data.2" not in recipe
    assert recipe["layers"].split()[0] == "0"
    assert int(recipe["healed_tokens"]) <= 4_000


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ({"model": "absent"}, UnknownModel, "absent"),
        ({"remove": "0.95"}, InvalidRequest, "cannot be removed"),
        ({"calibration": None}, InvalidRequest, "none is given"),
        ({"kind": "unstructured"}, InvalidRequest, "reads no text"),
        ({"name": "a@b"}, InvalidRequest, "not a valid model name"),
        ({"name": "tiny"}, Conflict, "taken"),
        ({"heal_tokens": 0}, InvalidRequest, "--heal-tokens is 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(
    store: ModelStore, text: Path, wish: dict[str, Any], error: type[AshoreError], words: str
) -> None:
    asked = PruneWish(**({"model": "tiny", "remove": "0.3", "calibration": text} | wish))
    with pytest.raises(error, match=words):
        _pruner(store).plan(asked)
    assert [m.name for m in store.list()] == ["tiny"]
    assert not (store.root.parent / "work").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"too short", "tokens"), (b"\xff\xfe\x00b", "UTF-8"), (None, "cannot be read")],
)
def test_a_text_that_is_none_is_refused(store: ModelStore, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=words):
        _pruner(store).plan(PruneWish(model="tiny", remove="0.3", heal=path))


def test_too_little_memory_is_told_before_anything_is_loaded(store: ModelStore, text: Path) -> None:
    pruner = _pruner(store, free_memory=1 << 20)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", heal=text))
    with pytest.raises(MemoryFull, match="1 MiB are free"):
        pruner.make(order)
    assert not (store.root.parent / "work").exists()


def test_a_full_disk_is_told_before_anything_is_loaded(
    store: ModelStore, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 1 << 10))
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", heal=text))
    with pytest.raises(DiskFull, match="1 KiB are free"):
        pruner.make(order)


def test_a_disk_that_fills_up_while_it_is_written_leaves_no_model(
    store: ModelStore, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    from transformers import PreTrainedModel

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    pruner = _pruner(store)
    order = pruner.plan(PruneWish(model="tiny", remove="0.3", calibration=text))
    with pytest.raises(DiskFull):
        pruner.make(order)
    assert [m.name for m in store.list()] == ["tiny"]
    assert not list(store.root.glob(".preparing-*"))


def _pull_unscaled(store: ModelStore, folder: Path, family: str) -> None:
    """Pull a tiny model without Llama 3's scaled frequencies, which OpenVINO's reader leaves out, pruned or not."""
    made = make_tiny_model(folder / "tiny", family, layers=LAYERS)
    config = json.loads((made / "config.json").read_text())
    config.pop("rope_scaling", None)
    (made / "config.json").write_text(json.dumps(config))
    store.pull(str(made), name="tiny")


def _weights(store: ModelStore, name: str) -> dict[str, Any]:
    with store.reading(name) as files:
        return read_tensors(files.directory / "model.safetensors")


def _change(folder: Path, change: Callable[[str, Any], Any]) -> None:
    from safetensors.numpy import save_file

    tensors = {name: change(name, tensor) for name, tensor in read_tensors(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")


def _score(kind: EngineKind, folder: Path, form: Any, weights: str, ids: list[int]) -> list[float]:
    engine: Any = make_engine(kind)
    files = ModelFiles(name="it", digest="", directory=str(folder), format=form, weights=weights)
    extra: dict[str, Any] = {"full_precision": True} if kind == "openvino" else {}
    engine.load(files, EngineOptions(kind=kind, context_tokens=256, max_sequences=1, threads=1, extra=extra))
    try:
        [rows] = scored(engine, [ScoreText(ids=ids)])
    finally:
        engine.close()
    return [row[0].logprob for row in rows]
