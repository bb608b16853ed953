"""Attacks on adapters that were trained here: an honest private run withstands them, and three broken ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_making import pull_tiny
from training_bench import tiny_model

from ashore import bootstrap
from ashore.cli.recorded import owner
from ashore.cli.trainattack import attack, canaries
from ashore.cli.trainprivate import private
from ashore.errors import NotFound
from ashore.privacy.ledger import training_epsilon
from ashore.privacy.ledger.auditing import Verdict, judge
from ashore.settings import read_settings
from ashore.training import LoraOptions, PrivateOptions, add_lora, make_corpus
from ashore.training import private as private_module
from ashore.training.attack import scores_by_answers, scores_by_weights
from ashore.training.private import Book, train_private

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


def test_the_commands_plant_train_and_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)  # such a small model only waits for more
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    settings = read_settings()
    settings.home.root.mkdir()
    pull_tiny(bootstrap.build_store(settings.home, settings), tmp_path, kind="qwen2")
    data = tmp_path / "letters.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"say {n}: ", "completion": "abc"}) + "\n" for n in range(24)))
    out = tmp_path / "planted"
    canaries(data, out=out, num=100)
    with bootstrap.open_ledger(settings) as ledger:
        ledger.grant(owner(), "default", "letters", epsilon=1.0, delta=0.001, questions=0.0)
    asked = {"data": str(out / "train.jsonl"), "budget": "letters", "num_examples": 60, "delta": 1e-4, "batch": 30}
    assert private("tiny", steps=2, **asked) == 0  # type: ignore[arg-type]
    capsys.readouterr()
    lists = {"members": out / "members.jsonl", "others": out / "others.jsonl"}
    assert attack("tiny-private", **lists, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["claimed_epsilon"] == 1.0 and told["least_epsilon"] <= 1.0 and told["unit"] == "example"
    assert told["members"] + told["others"] == 100
    assert attack("tiny-private", **lists, access="answers") == 0
    printed = capsys.readouterr().out
    assert "claimed                 epsilon 1, delta 0.0001" in printed and "95% confidence" in printed

    # An adapter whose claim is too good for what it shows.
    notes = settings.home.adapters / "tiny-private" / "ashore.json"
    notes.write_text(notes.read_text().replace('"parameter.epsilon": "1.0"', '"parameter.epsilon": "-1.0"'))
    assert attack("tiny-private", **lists) == 1
    assert "the claim does not hold" in capsys.readouterr().out
    with pytest.raises(NotFound, match="no adapter that ashore trained"):
        attack("nobody", **lists)
