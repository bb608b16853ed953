"""Beginnings that examples share are computed once, adapters in one step with projections: nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_bench import small_corpus, tiny_model

from ashore.lab.learning.objectives import FeedbackLoss, log_likelihoods
from ashore.lab.training import LoopOptions, LoraOptions, PackedBatches, add_lora, answer_loss, make_corpus, train
from ashore.lab.training.attention import packed_attention, row_layout
from ashore.lab.training.batches import Batch
from ashore.lab.training.fusing import fused_adapters

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

torch = pytest.importorskip("torch")


def row_of(*examples: list[int]) -> Batch:
    """Return a row of examples of which all but the first two tokens are targets."""
    corpus = make_corpus([(ids, [n > 1 for n in range(len(ids))]) for ids in examples])
    return corpus.batch(tuple(range(len(examples))))


BEGINNING = list(range(10, 30))
ROWS = {
    "all begin alike, none ends so": row_of(*([*BEGINNING, 100 + n, *range(40, 40 + n)] for n in range(6))),
    "two of four begin alike": row_of([*BEGINNING, 1, 2], [7, 8, 9], [*BEGINNING, 3], [8, 8, 9, 5]),
    "a beginning in a beginning": row_of([*BEGINNING, 1], [*BEGINNING, 1, 2, 3], BEGINNING[:8], [*BEGINNING, 1, 2, 4]),
    "one and the same": row_of(BEGINNING, BEGINNING, BEGINNING),
    "of all lengths": row_of(*([*BEGINNING[: n % 30], *range(31 + n, 31 + 2 * n)] for n in (1, 64, 40, 2, 65, 130))),
    "no common beginning": row_of([1, 2, 3, 4, 5], [6, 2, 3, 4, 5], [7, 2, 3, 4, 5, 6]),
    "one example": row_of(BEGINNING),
}


def with_adapter(folder: Path, kind: str = "llama") -> Any:
    """Return peft's model around a tiny one, both halves of its adapter with gradients."""
    found = add_lora(tiny_model(folder / "model", kind), LoraOptions(rank=4, alpha=8), seed=0)
    torch.manual_seed(1)
    for name, parameter in found.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    return found


def learned(model: Any, loss: Callable[[], Any]) -> tuple[float, dict[str, Any]]:
    """Return a loss and its gradients."""
    model.zero_grad()
    found = loss()
    found.backward()
    return float(found.detach()), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def require_same(one: tuple[float, dict[str, Any]], two: tuple[float, dict[str, Any]], *, share: float = 1e-4) -> None:
    """Require equal losses and gradients; `share` of the largest value of a gradient is rounding."""
    assert one[0] == pytest.approx(two[0], rel=share)
    assert one[1].keys() == two[1].keys()
    for name, gradient in one[1].items():
        size = float(two[1][name].abs().max())
        assert size > 0, name
        assert float((gradient - two[1][name]).abs().max()) <= share * size, name


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_whose_examples_begin_alike_has_the_loss_and_gradient_of_each_token_on_its_own(
    tmp_path: Path, name: str, kind: str
) -> None:
    model, batch = tiny_model(tmp_path / "model", kind), ROWS[name]
    with packed_attention(model):
        require_same(*(learned(model, lambda on=on: answer_loss(model, batch, shared=on)) for on in (True, False)))


def test_it_is_the_loss_of_transformers_one_example_at_a_time(tmp_path: Path) -> None:
    model, corpus = tiny_model(tmp_path / "model"), small_corpus(6, common=8)

    def plainly() -> Any:
        total = torch.zeros(())
        for n in range(corpus.num_examples):
            one = corpus.batch((n,))
            ids, wanted = torch.from_numpy(one.ids_T), torch.from_numpy(one.targets_T[1:])
            logits = model(input_ids=ids[None]).logits[0]
            total += torch.nn.functional.cross_entropy(logits[:-1][wanted], ids[1:][wanted], reduction="sum")
        return total

    expected = learned(model, plainly)
    batch = corpus.batch(tuple(range(corpus.num_examples)))
    with packed_attention(model):
        require_same(learned(model, lambda: answer_loss(model, batch)), expected)


def test_each_token_is_computed_once_behind_the_same_tokens_and_a_row_with_few_is_left_alone() -> None:
    layout = row_layout(ROWS["a beginning in a beginning"], shared=True)
    assert len(layout.firsts_U) == len(BEGINNING) + 1 + 2 + 1, "the longest, and what the last one has else"
    batch = ROWS["two of four begin alike"]
    layout = row_layout(batch, shared=True)
    assert len(layout.firsts_U) == batch.num_tokens - len(BEGINNING)
    assert np.array_equal(batch.ids_T[layout.firsts_U][layout.places_T], batch.ids_T)
    assert np.array_equal(batch.positions_T[layout.firsts_U][layout.places_T], batch.positions_T)
    for name in ("no common beginning", "one example"):
        assert not row_layout(ROWS[name], shared=True).is_shared


@pytest.mark.parametrize(("precision", "share"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_adapters_in_one_step_have_the_loss_and_gradient_of_pefts(tmp_path: Path, precision: str, share: float) -> None:
    peft_model, batch = with_adapter(tmp_path, "qwen2"), ROWS["two of four begin alike"]
    model, dtype = peft_model.get_base_model(), getattr(torch, precision)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)

    def loss() -> Any:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
            return log_likelihoods(model, batch).sum()

    with packed_attention(model):
        theirs = learned(model, loss)
        with peft_model.disable_adapter(), torch.no_grad():
            without = float(loss())
        with fused_adapters(model):
            ours = learned(model, loss)
            with peft_model.disable_adapter(), torch.no_grad():
                assert float(loss()) == without != pytest.approx(ours[0], rel=1e-3)
        assert not any("forward" in vars(module) for module in model.modules()), "the model is as it was"
    require_same(ours, theirs, share=share)


def test_votes_learned_with_all_of_it_and_two_threads_give_equal_bits_each_time(tmp_path: Path) -> None:
    found = []
    source = PackedBatches(small_corpus(common=8), row_tokens=64, batch_tokens=128, seed=0)
    for _ in range(2):
        peft_model = with_adapter(tmp_path)
        torch.set_num_threads(2)
        loss = FeedbackLoss(peft_model, dict.fromkeys(range(40), "learn"))
        train(peft_model.get_base_model(), source, loss, LoopOptions(learning_rate=1e-3, precision="bfloat16"))
        found.append({name: p.clone() for name, p in peft_model.named_parameters() if p.requires_grad})
    torch.set_num_threads(1)
    assert all(torch.equal(one, found[1][name]) for name, one in found[0].items())
