"""Attacks on adapters that were trained here: an honest private run withstands them, and three broken ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.private_attack import Verdict, judge, scores_by_answers, scores_by_weights
from training_bench import tiny_model

from ashore.control.ledger import training_epsilon
from ashore.lab.training import LoraOptions, PrivateOptions, add_lora, make_corpus
from ashore.lab.training import private as private_module
from ashore.lab.training.private import Book, train_private

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")

CANARIES, LENGTH, STEPS = 300, 12, 5
CLIP, NOISE, DELTA = 0.05, 9.0, 1e-5
CLAIMED = 1.0
"""Epsilon of full batches under that noise is a little below it."""
OPTIONS = PrivateOptions(
    steps=STEPS, num_units=CANARIES // 2, expected_batch=CANARIES // 2, noise=NOISE, clip=CLIP, learning_rate=1e-3
)


@dataclass
class Trial:
    """Canaries of which a coin decided who is trained on, and an adapter."""

    folder: Path
    seed: int = 5

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        made = [
            ([int(one) for one in rng.integers(3, 250, LENGTH)], [at >= LENGTH // 3 for at in range(LENGTH)])
            for _ in range(CANARIES)
        ]
        coins = rng.random(CANARIES) < 0.5
        self.members = make_corpus([one for one, coin in zip(made, coins, strict=True) if coin])
        self.others = make_corpus([one for one, coin in zip(made, coins, strict=True) if not coin])

    def trained(self, data: Any, options: PrivateOptions = OPTIONS) -> Any:
        peft = add_lora(tiny_model(self.folder / "model"), LoraOptions(rank=4, alpha=8), seed=11)
        train_private(peft.get_base_model(), data, options)
        return peft

    def attacked(self, peft: Any, by: Callable[..., Any] = scores_by_weights) -> Verdict:
        return judge(list(by(peft, self.members)), list(by(peft, self.others)), DELTA)


class Nothing:
    """The data without any canary."""

    lengths = np.zeros(0, np.int64)

    def batch(self, row: Any) -> Any:
        raise AssertionError("there is none")


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_an_honest_run_shows_less_than_it_claims(trial: Trial) -> None:
    assert 0.9 < training_epsilon(NOISE, 1.0, STEPS, DELTA) < CLAIMED
    peft = trial.trained(trial.members)
    for by in (scores_by_weights, scores_by_answers):
        verdict = trial.attacked(peft, by)
        assert verdict.least_epsilon < CLAIMED, verdict
        assert verdict.most_provable > 4, "and had it been broken, this attack could have shown it"


def test_a_run_that_does_not_clip_is_found(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    clipped = Book.clipped
    monkeypatch.setattr(Book, "clipped", lambda book, batch, _, tokens: clipped(book, batch, 1e9, tokens))
    assert trial.attacked(trial.trained(trial.members)).least_epsilon > CLAIMED


def test_a_run_whose_noise_is_divided_by_the_size_of_the_sample_is_found(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: randn(*a, **k) / OPTIONS.expected_batch)
    assert trial.attacked(trial.trained(trial.members)).least_epsilon > CLAIMED


def test_a_run_whose_noise_has_a_seed_is_found_by_who_repeats_it(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the seed and everything but the canaries takes the noise away."""

    def without_noise(peft: Any) -> Any:
        again = dict(trial.trained(Nothing()).get_base_model().named_parameters())
        with torch.no_grad():
            for name, one in peft.get_base_model().named_parameters():
                if "lora_B" in name:
                    one -= again[name]
        return peft

    honest = trial.attacked(without_noise(trial.trained(trial.members)))
    assert honest.least_epsilon < CLAIMED
    monkeypatch.setattr(private_module.os, "urandom", lambda size: b"\x07" * size)
    assert trial.attacked(without_noise(trial.trained(trial.members))).least_epsilon > CLAIMED
