"""Private training: gradients of each example to the last digit, samples and noise that nobody can repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_making import pull_tiny
from training_bench import small_corpus, tiny_model

from ashore.cli import bootstrap
from ashore.cli.recorded import owner
from ashore.cli.trainprivate import private
from ashore.core.errors import InvalidRequest, NotFound, PrivacyBudgetSpent, UnsupportedModel
from ashore.kit.settings import read_settings
from ashore.lab.training import LoraOptions, PrivateOptions, add_lora, answer_loss
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.private import Book, Units, people, sample, train_private

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


def with_adapter(folder: Path) -> Any:
    """Return a tiny model with an adapter whose both halves carry gradients."""
    model = add_lora(tiny_model(folder / "model"), LoraOptions(rank=4, alpha=8), seed=1).get_base_model()
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_the_clipped_sum_of_a_packed_row_is_that_of_its_examples_one_by_one(tmp_path: Path) -> None:
    model, corpus = with_adapter(tmp_path), small_corpus(6, common=5)
    book = Book(model)
    singles = []
    with packed_attention(model):
        for n in range(corpus.num_examples):
            model.zero_grad()
            one = corpus.batch((n,))
            (answer_loss(model, one) / one.num_targets).backward()
            singles.append({name: p.grad.clone() for name, p in book.parameters.items()})
        norms = [float(torch.stack([g.square().sum() for g in one.values()]).sum().sqrt()) for one in singles]
        clip = sorted(norms)[len(norms) // 2]
        expected = {
            name: sum(one[name] * min(1.0, clip / norm) for one, norm in zip(singles, norms, strict=True))
            for name in book.parameters
        }
        model.zero_grad()
        batch = corpus.batch(tuple(range(corpus.num_examples)))
        with book.open():
            answer_loss(model, batch, shared=False).backward()
            sums, found = book.clipped(batch, clip)
    assert np.allclose(found.numpy(), norms, rtol=1e-4)
    for name, part in sums.items():
        assert torch.allclose(part, expected[name], rtol=1e-3, atol=1e-6), name
    assert sum(norm > clip for norm in norms) >= 2, "some were clipped"


def test_the_gradient_of_a_person_is_that_of_all_their_examples_clipped_once(tmp_path: Path) -> None:
    model, corpus = with_adapter(tmp_path), small_corpus(7, common=5)
    book = Book(model)
    members = people(["a", "b", "a", "c", "a", "b", ""], corpus.lengths, 10_000)
    assert members == ((0, 2, 4), (1, 5), (3,)), "who is nobody is left out"
    units = Units(corpus, members)
    together, norms = [], []
    with packed_attention(model):
        for one in members:
            model.zero_grad()
            batch = corpus.batch(one)
            (answer_loss(model, batch) / batch.num_targets).backward()
            together.append({name: p.grad.clone() for name, p in book.parameters.items()})
            norms.append(float(torch.stack([g.square().sum() for g in together[-1].values()]).sum().sqrt()))
        clip = sorted(norms)[1] * 0.9
        model.zero_grad()
        row, tokens = units.batch((2, 0, 1))
        with book.open():
            answer_loss(model, row, shared=False).backward()
            sums, found = book.clipped(row, clip, tokens)
    assert np.allclose(found.numpy(), [norms[2], norms[0], norms[1]], rtol=1e-4)
    for name, part in sums.items():
        expected = sum(one[name] * min(1.0, clip / norm) for one, norm in zip(together, norms, strict=True))
        assert torch.allclose(part, expected, rtol=1e-3, atol=1e-6), name
    assert sum(norm > clip for norm in norms) >= 2


def test_a_person_has_so_many_tokens_and_which_are_left_out_depends_on_nobody_else() -> None:
    lengths = np.array([30, 50, 40, 10, 70], np.int64)
    alone = people(["a", "a", "a", "a", "a"], lengths, 90)
    assert alone == ((0, 1, 3),)
    among = people(["a", "a", "a", "a", "b"], lengths, 90)
    assert among == ((0, 1, 3), (4,))
    assert people(["a", "b"], np.array([500, 1], np.int64), 90) == ((0,), (1,)), "one is always taken"


def test_each_example_is_taken_with_the_same_probability_whatever_the_others_do() -> None:
    corpus = small_corpus(40)
    options = PrivateOptions(steps=1, num_units=40, expected_batch=8, noise=1.0)
    draw = np.random.Generator(np.random.Philox(1))
    taken = np.zeros(40)
    sizes = []
    for _ in range(400):
        rows = sample(Units(corpus), options, draw)
        members = [n for row in rows for n in row]
        assert len(members) == len(set(members))
        sizes.append(len(members))
        taken[members] += 1
    assert abs(np.mean(sizes) - 8) < 0.5 and np.std(sizes) > 1.5, "a sample of fixed size is no Poisson sample"
    assert taken.min() > 40 and taken.max() < 130


def test_with_hardly_any_noise_it_learns_and_no_two_runs_are_equal(tmp_path: Path) -> None:
    corpus = small_corpus(30)
    options = PrivateOptions(steps=25, num_units=30, expected_batch=15, noise=1e-3, learning_rate=5e-3)
    ends = []
    for _ in range(2):
        model = with_adapter(tmp_path)
        batch = corpus.batch(tuple(range(30)))
        with packed_attention(model), torch.no_grad():
            before = float(answer_loss(model, batch))
        told: list[int] = []
        assert train_private(model, corpus, options, watch=told.append) == 25 and told == list(range(1, 26))
        with packed_attention(model), torch.no_grad():
            after = float(answer_loss(model, batch))
        assert after < 0.9 * before
        ends.append(after)
    assert ends[0] != ends[1], "noise and samples have no seed"


def test_much_noise_hides_whether_an_example_was_there(tmp_path: Path) -> None:
    """The distance between runs with and without one example is that between runs over the same examples."""
    corpus, options = small_corpus(8), PrivateOptions(steps=1, num_units=8, expected_batch=8, noise=20.0)

    def moved(num: int) -> Any:
        model = with_adapter(tmp_path)
        begin = torch.cat([p.detach().flatten().clone() for p in Book(model).parameters.values()])

        class Some:
            lengths = corpus.lengths[:num]
            batch = staticmethod(corpus.batch)

        train_private(model, Some(), options)
        return torch.cat([p.detach().flatten() for p in Book(model).parameters.values()]) - begin

    same, other = (moved(8) - moved(8)).norm(), (moved(8) - moved(7)).norm()
    assert 0.8 < float(same / other) < 1.25


def test_an_empty_sample_still_adds_noise(tmp_path: Path) -> None:
    model = with_adapter(tmp_path)

    class None_:
        lengths = small_corpus(4).lengths[:0]
        batch = staticmethod(small_corpus(4).batch)

    before = [p.detach().clone() for p in Book(model).parameters.values()]
    train_private(model, None_(), PrivateOptions(steps=1, num_units=4, expected_batch=2, noise=1.0))
    assert any(not torch.equal(a, b) for a, b in zip(before, Book(model).parameters.values(), strict=True))


def test_all_weights_cannot_be_trained_privately_and_odd_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="linear layers of an adapter alone"):
        Book(tiny_model(tmp_path / "model"))
    with pytest.raises(InvalidRequest, match="50 units a step, of 40"):
        PrivateOptions(steps=1, num_units=40, expected_batch=50, noise=1.0).checked()


def test_a_run_is_paid_keeps_an_adapter_and_what_no_longer_fits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    settings = read_settings()
    settings.home.root.mkdir()
    pull_tiny(bootstrap.build_store(settings.home, settings), tmp_path, kind="qwen2")
    lines = [{"prompt": f"say {n}: ", "completion": "abc" * (2 + n % 3), "user": f"u{n % 8}"} for n in range(24)]
    data = tmp_path / "letters.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with bootstrap.open_ledger(settings) as ledger:
        ledger.grant(owner(), "default", "letters", epsilon=3.0, delta=0.001, questions=0.0)

    def run(**changes: Any) -> int:
        asked: dict[str, Any] = {"budget": "letters", "num_examples": 24, "epsilon": 2.0, "delta": 4e-4, "steps": 2}
        return private("tiny", data=str(data), **({"batch": 8} | asked | changes))

    assert run(dry_run=True) == 0
    told = capsys.readouterr()
    assert "epsilon 2" in told.out and "noise is likely to outweigh" in told.err
    with pytest.raises(NotFound, match="no privacy budget"):
        run(budget="other")
    assert run() == 0
    notes = json.loads((settings.home.adapters / "tiny-private" / "ashore.json").read_text())["recipe"]
    assert notes["parameter.private"] == "yes" and "loss" not in json.dumps(notes)
    with bootstrap.open_ledger(settings) as ledger:
        assert ledger.standing("default", "letters").training_epsilon == 2_000_000
    with pytest.raises(PrivacyBudgetSpent, match=r"epsilon 1, delta 0\.0006 left for training"):
        run()
    capsys.readouterr()
    person = {"unit": "person", "num_examples": 8, "batch": 4, "epsilon": 0.5, "delta": 1e-4, "name": "kind"}
    with pytest.raises(InvalidRequest, match=r"no example of letters\.jsonl has the field 'customer'"):
        run(**person, person="customer")
    assert run(**person) == 0
    assert "with 8 people the noise is likely to outweigh" in capsys.readouterr().err
    notes = json.loads((settings.home.adapters / "kind" / "ashore.json").read_text())["recipe"]
    assert notes["parameter.unit"] == "person"
    with bootstrap.open_ledger(settings) as ledger:
        assert ledger.standing("default", "letters").training_epsilon == 2_500_000, "the refused one gave it back"
