"""The losses of votes and pairs, beside trl's own trainers on the same batch; and what votes alone teach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import make_tiny_model

from ashore.lab.learning.batches import FeedbackBatches, Learned
from ashore.lab.learning.objectives import BETA, FeedbackLoss, log_likelihoods
from ashore.lab.training import LoopOptions, LoraOptions, add_lora, train
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.batches import Batch
from ashore.lab.training.data import Tokens

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

torch = pytest.importorskip("torch")

PAIRS = (
    ([10, 11, 12], [40, 41], [50]),
    ([13, 14], [42], [51, 52, 53]),
    ([15, 16, 17, 18], [43, 44, 45], [54, 55]),
)
"""Prompt, better answer, worse answer."""


def tokens(prompt: list[int], answer: list[int]) -> Tokens:
    return [*prompt, *answer], [False] * len(prompt) + [True] * len(answer)


def model_with_adapter(folder: Path) -> Any:
    """Return a tiny model with an adapter that is no longer fresh, so that it differs from the model without it."""
    from ashore.data.engines import torch_libraries

    _, transformers = torch_libraries()
    base = transformers.AutoModelForCausalLM.from_pretrained(make_tiny_model(folder, "llama"), dtype=torch.float32)
    found = add_lora(base, LoraOptions(rank=4, alpha=8), seed=0)
    torch.manual_seed(1)
    for name, parameter in found.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    return found


def trainer_of(kind: str, model: Any, folder: Path) -> Any:
    """Return a trainer of trl's around a model; its data are words that are not looked at."""
    import datasets
    import transformers
    import trl

    words = transformers.AutoTokenizer.from_pretrained(folder)
    words.pad_token = words.eos_token
    if kind == "dpo":
        rows: dict[str, Any] = {"prompt": ["a"] * 2, "chosen": ["b"] * 2, "rejected": ["c"] * 2}
        options: Any = trl.DPOConfig(
            output_dir=str(folder / "out"), beta=BETA, use_cpu=True, report_to="none", bf16=False
        )
        make: Any = trl.DPOTrainer
    else:
        rows = {"prompt": ["a"] * 2, "completion": ["b"] * 2, "label": [True, False]}
        options = trl.KTOConfig(
            output_dir=str(folder / "out"), beta=BETA, loss_type="apo_zero_unpaired", use_cpu=True, report_to="none",
            bf16=False,
        )  # fmt: skip
        make = trl.KTOTrainer
    found = make(model=model, args=options, processing_class=words, train_dataset=datasets.Dataset.from_dict(rows))
    found.model.delete_adapter("ref")  # of an adapter that is no longer fresh, it would take a copy as the reference
    return found


def gradients(model: Any) -> dict[str, Any]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return found


def rows_of(*learned: Learned) -> FeedbackBatches:
    found = FeedbackBatches(learned, (), row_tokens=64, batch_tokens=10**6, seed=0, epochs=1)
    assert found.num_steps == 1
    return found


def summed(model: Any, batches: FeedbackBatches, weigh: Callable[[Batch], float] = lambda batch: 1.0) -> float:
    """Return our loss of everything as one step, and leave its gradient."""
    loss, total = FeedbackLoss(model, batches.roles), 0.0
    with packed_attention(model.get_base_model()):
        for batch in batches.batches(0):
            found = loss(model.get_base_model(), batch) / weigh(batch)
            found.backward()
            total += float(found.detach())
    return total


def of_votes(model: Any, *learned: Learned) -> float:
    """Return the mean over votes: without the weight that a row has in the loop."""
    judged = sum(len(one.examples) for one in learned)
    return summed(model, rows_of(*learned), lambda batch: batch.num_targets / len(batch.lengths) * judged)


def alone(pairs: list[Tokens]) -> list[FeedbackBatches]:
    """Return each pair in a row of its own."""
    return [rows_of(Learned("pair", pairs[at : at + 2])) for at in range(0, len(pairs), 2)]


def test_the_loss_of_pairs_is_that_of_trl(tmp_path: Path) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    model = model_with_adapter(tmp_path)
    rows = alone([one for p, good, bad in PAIRS for one in (tokens(p, good), tokens(p, bad))])
    found = sum(summed(model, one, lambda batch: batch.num_targets * len(PAIRS)) for one in rows)
    mine = gradients(model)
    trainer = trainer_of("dpo", model, tmp_path)
    batch = DataCollatorForPreference(pad_token_id=0)(
        [{"prompt_ids": p, "chosen_ids": good, "rejected_ids": bad} for p, good, bad in PAIRS]
    )
    theirs = trainer._compute_loss(trainer.model, batch, False)
    theirs.backward()
    compare(found, mine, float(theirs.detach()), gradients(model))


def test_pairs_in_one_row_count_as_each_in_a_row_of_its_own(tmp_path: Path) -> None:
    model = model_with_adapter(tmp_path)
    pairs = [one for p, good, bad in PAIRS for one in (tokens(p, good), tokens(p, bad))]
    packed = rows_of(Learned("pair", pairs))
    assert len(list(packed.batches(0))) < len(PAIRS)
    found, mine = summed(model, packed), gradients(model)
    compare(found, mine, sum(summed(model, one) for one in alone(pairs)), gradients(model))


def test_the_loss_of_votes_down_is_that_of_trl(tmp_path: Path) -> None:
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    model = model_with_adapter(tmp_path)
    found = of_votes(model, Learned("down", [tokens(p, bad) for p, _, bad in PAIRS]))
    mine = gradients(model)
    trainer = trainer_of("kto", model, tmp_path)
    batch = DataCollatorForUnpairedPreference(pad_token_id=0)(
        [{"prompt_ids": p, "completion_ids": bad, "label": False} for p, _, bad in PAIRS]
    )
    theirs = trainer._compute_loss(trainer.model, batch, False)
    theirs.backward()
    compare(found, mine, float(theirs.detach()), gradients(model))


def compare(found: float, mine: dict[str, Any], theirs: float, their_gradients: dict[str, Any]) -> None:
    assert found == pytest.approx(theirs, rel=1e-5)
    assert mine.keys() == their_gradients.keys()
    for name, gradient in mine.items():
        assert torch.allclose(gradient, their_gradients[name], rtol=1e-3, atol=1e-6), name
    assert max(float(one.abs().max()) for one in mine.values()) > 1e-4, "there is a gradient to compare"


def test_votes_alone_make_the_wanted_answer_likelier_on_questions_that_nobody_voted_on(tmp_path: Path) -> None:
    """A clean task: after a prompt that begins with 10, 40 is right and 50 wrong; with 11 it is the other way round."""
    rng = np.random.default_rng(0)

    def question(kind: int) -> list[int]:
        return [10 + kind, *rng.integers(100, 200, 3).tolist()]

    asked = [(question(n % 2), n % 2) for n in range(96)]
    learned = [
        Learned("learn", [tokens(q, [40 if kind == 0 else 50]) for q, kind in asked[:48]]),
        Learned("down", [tokens(q, [50 if kind == 0 else 40]) for q, kind in asked[48:]]),
    ]
    model = model_with_adapter(tmp_path)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()  # a fresh adapter, which changes nothing
    held_out = [(question(n % 2), n % 2) for n in range(40)]
    before = right(model, held_out)
    batches = FeedbackBatches(learned, (), row_tokens=64, batch_tokens=64, seed=0, epochs=6)
    train(model.get_base_model(), batches, FeedbackLoss(model, batches.roles), LoopOptions(learning_rate=5e-3, seed=0))
    after = right(model, held_out)
    assert before <= 0.7 and after >= 0.9, (before, after)


def right(model: Any, asked: list[tuple[list[int], int]]) -> float:
    """Return the share of questions after which the right one of two answers is likelier."""
    from ashore.lab.training.batches import make_corpus

    corpus = make_corpus([tokens(q, [answer]) for q, _ in asked for answer in (40, 50)])
    model.eval()
    with torch.no_grad(), packed_attention(model.get_base_model()):
        told = log_likelihoods(model.get_base_model(), corpus.batch(tuple(range(2 * len(asked))))).tolist()
    picked = [float(told[2 * n] < told[2 * n + 1]) for n in range(len(asked))]
    return sum(one == kind for one, (_, kind) in zip(picked, asked, strict=True)) / len(asked)
