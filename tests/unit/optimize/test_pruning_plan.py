"""How much of which part goes, from counts alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_making import make_store, pull_tiny
from tiny_models import CONFIGS, make_tiny_model

from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.core.share import read_share
from ashore.kit.store import convert_safetensors_to_gguf
from ashore.lab.optimize.pruning import KINDS, Anatomy, Kind, Sizes, anatomy_of, anatomy_of_config, plan_pruning
from ashore.lab.optimize.pruning.planning import channel_step, matrix_parameters

DEMO = Anatomy(
    sizes=Sizes(layers=30, groups=3, channels=1536),
    hidden_size=576,
    heads_in_group=3,
    head_dim=64,
    vocab_size=49152,
    tied=True,
)
"""SmolLM2-135M, whose counts are known: 134,515,008 parameters, 28,311,552 of them in the tied embedding."""


def test_the_demo_model_is_counted_right() -> None:
    assert DEMO.parameters() == 134_515_008
    assert DEMO.vocabulary_parameters == 28_311_552


@pytest.mark.parametrize(
    ("kind", "after", "removed"),
    [
        ("depth", Sizes(layers=18, groups=3, channels=1536), 0.3158),
        ("width", Sizes(layers=30, groups=3, channels=704), 0.3206),
        ("unstructured", Sizes(layers=30, groups=3, channels=1536), 0.3),
    ],
)
def test_the_smallest_cut_that_is_enough(kind: Kind, after: Sizes, removed: float) -> None:
    plan = plan_pruning(DEMO, 0.3, kind)
    assert plan.after == after
    assert plan.removed == pytest.approx(removed, abs=1e-4)


def test_zeros_remove_nothing_and_promise_nothing() -> None:
    plan = plan_pruning(DEMO, 0.3, "unstructured")
    assert plan.zeroed == 40_354_503
    assert (plan.parameters_after, plan.ceiling) == (plan.parameters_before, 1.0)


def test_mixed_takes_layers_and_channels() -> None:
    plan = plan_pruning(DEMO, 0.3, "mixed")
    assert plan.after.layers < 30
    assert plan.after.channels < 1536
    assert 0.3 <= plan.removed < 0.32


def test_heads_go_only_where_channels_do_not_reach() -> None:
    assert plan_pruning(DEMO, 0.4, "width").after.groups == 3
    assert plan_pruning(DEMO, 0.55, "width").after.groups < 3


def test_the_counts_are_told_by_kind() -> None:
    counts = {c.part: (c.before, c.after) for c in plan_pruning(DEMO, 0.3, "depth").counts}
    assert counts == {
        "layers": (30, 18), "heads": (9, 9), "channels": (1536, 1536), "parameters": (134_515_008, 92_033_856)
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_can_go_is_refused_with_the_most_that_can(kind: Kind) -> None:
    with pytest.raises(InvalidRequest, match="28,311,552") as refused:
        plan_pruning(DEMO, 0.75, kind)
    most = refused.value.hint.partition("--remove ")[2].partition("%")[0]
    assert plan_pruning(DEMO, float(most) / 100, kind).removed >= float(most) / 100


@given(
    share=st.floats(0.01, 0.9),
    kind=st.sampled_from(KINDS),
    layers=st.integers(1, 80),
    groups=st.integers(1, 16),
    channels=st.integers(1, 500).map(lambda n: n * 16),
    tied=st.booleans(),
)
def test_a_plan_is_enough_or_refused(
    share: float, kind: Kind, layers: int, groups: int, channels: int, tied: bool
) -> None:
    anatomy = Anatomy(
        sizes=Sizes(layers=layers, groups=groups, channels=channels),
        hidden_size=groups * 128,
        heads_in_group=2,
        head_dim=64,
        vocab_size=1000,
        tied=tied,
    )
    try:
        plan = plan_pruning(anatomy, share, kind)
    except InvalidRequest:
        return
    assert plan.removed >= share - 1e-6
    assert 1 <= plan.after.layers <= layers
    assert 1 <= plan.after.groups <= groups
    assert plan.after.channels % channel_step(channels) == 0
    assert 0 < plan.after.channels <= channels
    assert plan.parameters_after == anatomy.parameters(plan.after)


@pytest.mark.parametrize("text", ["30%", "0.3", "30.0%"])
def test_a_share_is_read_in_both_forms(text: str) -> None:
    assert read_share(text) == pytest.approx(0.3)


@pytest.mark.parametrize("text", ["", "a third", "0", "-5%", "100%", "30", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--remove"):
        read_share(text)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_stored_model_is_counted_from_its_headers(tmp_path: Path, kind: str, form: str) -> None:
    store = make_store(tmp_path)
    if form == "safetensors":
        pull_tiny(store, tmp_path, kind=kind)
    else:
        convert_safetensors_to_gguf(make_tiny_model(tmp_path / "tiny", kind), tmp_path / "tiny.gguf")
        store.pull(str(tmp_path / "tiny.gguf"), name="tiny")
    stored = store.resolve("tiny")
    with store.reading("tiny") as files:
        anatomy = anatomy_of(files, stored.shape.num_parameters)
    assert anatomy.sizes == Sizes(layers=2, groups=2, channels=128)
    assert anatomy.parameters() == pytest.approx(stored.shape.num_parameters, rel=1e-3)
    assert 0 < matrix_parameters(anatomy) < anatomy.parameters()


def test_a_family_with_experts_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="deepseek_v3"):
        anatomy_of_config({"model_type": "deepseek_v3"}, name="r1")


def test_a_config_without_a_number_is_refused() -> None:
    config = {k: v for k, v in CONFIGS["llama"].items() if k != "intermediate_size"}
    with pytest.raises(UnsupportedModel, match="intermediate_size"):
        anatomy_of_config(config, name="tiny")


def test_a_model_with_parts_that_pruning_does_not_know_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    stored = store.pull(str(folder), name="tiny")
    with store.reading("tiny") as files, pytest.raises(UnsupportedModel, match="90,432 are in layers that"):
        anatomy_of(files, stored.shape.num_parameters)
