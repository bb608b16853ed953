"""What privacy costs in quality: a head and an adapter trained with DP-SGD at epsilon 2, 1 and 0.5, and without noise.

    python -m benchmarks.private_quality HOME [--only head,adapter] [--seeds 3] [--features FILE] [--out FILE]

The task is that of `benchmarks.optimise`: which of sixteen kinds is a definition about, with 3,520 examples to learn
from. The *head* is one linear layer on what the frozen demo model makes of a definition (its last hidden state, and the
mean of all); the *adapter* is LoRA in the model. Both go through `ashore.lab.training.private` as `ashore train
private` does: samples, clipping, noise and Adam are the product's, epsilon is by its accountant, delta a tenth of one
by the number of examples. Canaries are definitions in no language with a kind drawn at random; a coin decides for each
whether it is trained on, and an attack with the weights judges what was learned of it.

The gain is accuracy above that of the model that was not taught. No hyperparameter was chosen by these test items more
finely than by a factor of two.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from benchmarks.optimise.task import TEMPLATE, Definition, definitions, kinds
from benchmarks.private_attack import Verdict, judge, scores_by_weights
from benchmarks.row import Row, report
from numpy.typing import NDArray

from ashore.cli.bootstrap import build_store
from ashore.control.ledger import training_noise
from ashore.data.text import TextModel
from ashore.kit.settings import Home
from ashore.lab.training import (
    Corpus,
    LoraOptions,
    PrivateOptions,
    add_lora,
    load_checkpoint,
    make_corpus,
    packed_attention,
)
from ashore.lab.training.losses import hidden_states
from ashore.lab.training.private import train_private

EPSILONS: Final = (2.0, 1.0, 0.5)
MODEL: Final = "smollm2"
AIM: Final = 0.8
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run."""

    accuracy: float
    verdict: Verdict | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is trained, as a run wants it."""

    name: str
    unit: str
    steps: int
    batch: int
    clip: float
    learning_rate: float
    public_lr: float
    """Without noise and clipping, where larger steps do no harm or good."""


HEAD: Final = Subject(name="head", unit="example", steps=100, batch=704, clip=0.5, learning_rate=0.02, public_lr=0.02)
ADAPTER: Final = Subject(
    name="adapter", unit="example", steps=30, batch=256, clip=1.0, learning_rate=2e-3, public_lr=2e-3
)


class Bench:
    """The demo model, the task, and what was measured."""

    def __init__(self, home: Path, features: Path | None, canaries: int, num_test: int) -> None:
        self._store = build_store(Home(root=home))
        self._parent = self._store.resolve(MODEL)
        self._text = TextModel.load(self._store.open(self._parent.reference).directory)
        self._train, self._test = definitions("train"), definitions("test")[:num_test]
        self._kinds = kinds(self._train)
        self._canaries, self._cached = canaries, features

    # --- a head on frozen features

    def features(self) -> tuple[Floats, Floats]:
        """Return what the frozen model makes of the examples and of the test items: last state and mean of all, each of
        length 1, and a constant. Nothing in it depends on more than one example."""
        if self._cached is not None and self._cached.exists():
            with np.load(self._cached) as kept:
                return kept["train"], kept["test"]
        import torch

        with self._store.reading(self._parent.reference) as files:
            model = load_checkpoint(files)
        found = []
        for items in (self._train, self._test):
            rows = []
            for item in items:
                ids = torch.tensor([self._text.encode(self._asked(item))])
                with torch.inference_mode():
                    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0].numpy()
                halves = [one / np.linalg.norm(one) for one in (states[-1], states.mean(0))]
                rows.append(np.concatenate([*halves, [0.5]]) / 1.5)
            found.append(np.array(rows, np.float32))
        if self._cached is not None:
            np.savez(self._cached, train=found[0], test=found[1])
        return found[0], found[1]

    def head(self, subject: Subject, epsilon: float | None, seed: int) -> Trained:
        """Train a head and judge it. `epsilon` None: without noise, clipping and canaries."""
        import torch

        train, test = self.features()
        rng = np.random.default_rng(seed)
        drawn = rng.normal(size=(self._canaries, train.shape[1])).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        coins = rng.random(self._canaries) < 0.5
        labels = np.array([self._kinds.index(one.kind) for one in self._train])
        canary_labels = rng.integers(len(self._kinds), size=self._canaries)
        members = coins if epsilon else np.zeros_like(coins)
        table = np.concatenate([train, drawn])
        model = _headed(table, len(self._kinds))

        def corpus(which: NDArray[np.int64]) -> Corpus:
            wanted = np.concatenate([labels, canary_labels])
            return make_corpus([([int(n), int(wanted[n])], [False, True]) for n in which])

        canary = np.arange(len(train), len(table))
        data = corpus(np.concatenate([np.arange(len(train)), canary[members]]))
        began = time.monotonic()
        train_private(model, data, self._options(subject, epsilon))
        with torch.no_grad():
            said = (torch.from_numpy(test) @ model.trained.weight.T).numpy()
        right = said.argmax(1) == np.array([self._kinds.index(one.kind) for one in self._test])
        verdict = None
        if epsilon:
            # By weights: the gradient of an example where the layer is 0, along the layer that came out.
            slope = np.full((len(table), len(self._kinds)), 1 / len(self._kinds), np.float32)
            slope[canary, canary_labels] -= 1
            moved = (table @ model.trained.weight.detach().numpy().T * slope).sum(1)
            scores = -moved / np.linalg.norm(slope, axis=1)
            verdict = judge(list(scores[canary[coins]]), list(scores[canary[~coins]]), self._delta)
        return Trained(accuracy=float(right.mean()), verdict=verdict, seconds=time.monotonic() - began)

    # --- an adapter in the model

    def adapter(self, subject: Subject, epsilon: float | None, seed: int) -> Trained:
        """Train an adapter and judge it."""
        rng = np.random.default_rng(seed)
        words = self._text
        made = []
        for _ in range(self._canaries if epsilon else 0):
            prompt = [int(one) for one in rng.integers(1000, 40_000, 12)]
            made.append(_example(prompt, self._said(words, str(rng.choice(self._kinds)))))
        coins = rng.random(len(made)) < 0.5
        inside = [one for one, coin in zip(made, coins, strict=True) if coin]
        outside = [one for one, coin in zip(made, coins, strict=True) if not coin]
        own = [_example(words.encode(self._asked(one)), self._said(words, one.kind)) for one in self._train]
        with self._store.reading(self._parent.reference) as files:
            peft = add_lora(load_checkpoint(files), LoraOptions(rank=4, alpha=8), seed=seed)
        model = peft.get_base_model()
        began = time.monotonic()

        def watch(step: int) -> None:
            print(f"adapter {epsilon}: step {step}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        train_private(model, make_corpus([*own, *inside]), self._options(subject, epsilon), watch=watch)
        seconds = time.monotonic() - began
        accuracy = self._accuracy(model)
        verdict = None
        if epsilon:
            scored = [list(scores_by_weights(peft, make_corpus(one))) for one in (inside, outside)]
            verdict = judge(scored[0], scored[1], self._delta)
        return Trained(accuracy=accuracy, verdict=verdict, seconds=seconds)

    def untaught(self) -> float:
        """Return the accuracy of the model as it is."""
        with self._store.reading(self._parent.reference) as files:
            return self._accuracy(load_checkpoint(files))

    def _accuracy(self, model: Any) -> float:
        """Return how often the first token of the right kind is the likeliest among those of all kinds."""
        import torch

        firsts = [self._said(self._text, one)[0] for one in self._kinds]
        assert len(set(firsts)) == len(firsts)
        right = 0
        model.eval()
        with torch.inference_mode(), packed_attention(model):
            weight = model.get_output_embeddings().weight[torch.tensor(firsts)]
            for item in self._test:
                ids = self._text.encode(self._asked(item))
                batch = make_corpus([(ids, [False] * len(ids))]).batch((0,))
                scores = hidden_states(model, batch)[-1] @ weight.T
                right += self._kinds[int(scores.argmax())] == item.kind
        return right / len(self._test)

    # --- what both have in common

    @property
    def units(self) -> int:
        """Examples, as an operator would state them."""
        return len(self._train)

    @property
    def _delta(self) -> float:
        return 1 / (10 * self.units)

    def _options(self, subject: Subject, epsilon: float | None) -> PrivateOptions:
        rate = subject.batch / self.units
        noise = training_noise(epsilon, self._delta, rate, subject.steps) if epsilon else 1e-9
        return PrivateOptions(
            steps=subject.steps, num_units=self.units, expected_batch=subject.batch, noise=noise,
            clip=subject.clip if epsilon else 1e3, row_tokens=512 if subject.name == "adapter" else 1 << 20,
            learning_rate=subject.learning_rate if epsilon else subject.public_lr,
        )  # fmt: skip

    @staticmethod
    def _asked(item: Definition) -> str:
        return TEMPLATE.replace("{prompt}", item.text)

    @staticmethod
    def _said(text: TextModel, kind: str) -> list[int]:
        return text.encode(f" {kind}", bare=True)


def _example(prompt: list[int], said: list[int]) -> tuple[list[int], list[bool]]:
    return [*prompt, *said], [False] * len(prompt) + [True] * len(said)


def _headed(table: Floats, num_kinds: int) -> Any:
    """Return a head as the language model of two tokens that it is: the number of an example, then its kind."""
    import torch

    class Headed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.trained = torch.nn.Linear(table.shape[1], num_kinds, bias=False)
            torch.nn.init.zeros_(self.trained.weight)
            self._table = torch.from_numpy(table)
            self._kinds = torch.nn.Linear(num_kinds, num_kinds, bias=False).requires_grad_(False)
            torch.nn.init.eye_(self._kinds.weight)
            self.config = SimpleNamespace(_attn_implementation="none")

        def set_attn_implementation(self, name: str) -> None:
            """There is no attention."""

        def get_output_embeddings(self) -> Any:
            return self._kinds

        def base_model(self, input_ids: Any, **_: Any) -> Any:
            return SimpleNamespace(last_hidden_state=self.trained(self._table[input_ids]))

    return Headed()


def measure(bench: Bench, subject: Subject, seeds: int, base: float, epsilons: Sequence[float]) -> list[Row]:
    """Train without privacy and with, and return the rows of the report."""

    def run(epsilon: float | None, seed: int) -> Trained:
        done = (bench.head if subject.name == "head" else bench.adapter)(subject, epsilon, seed)
        what = f"{subject.name}, epsilon {epsilon}, seed {seed}: {100 * done.accuracy:.1f} %, {done.seconds:.0f} s"
        print(f"{what}, {time.process_time():.0f} s of processor so far", file=sys.stderr, flush=True)
        return done

    public = [run(None, seed) for seed in range(seeds)]
    best = float(np.mean([one.accuracy for one in public]))
    rows = [
        Row(
            what=f"{subject.name}, no privacy: accuracy", value=100 * best, unit="%", bar=None,
            detail=f"untaught {100 * base:.1f} %; {subject.steps} steps of {subject.batch}; {public[0].seconds:.0f} s",
        )
    ]  # fmt: skip
    for epsilon in epsilons:
        runs = [run(epsilon, seed) for seed in range(seeds)]
        accuracies = [one.accuracy for one in runs]
        share = (float(np.mean(accuracies)) - base) / (best - base)
        verdicts = [one.verdict for one in runs if one.verdict is not None]
        proven = max(one.least_epsilon for one in verdicts)
        exposures = ", ".join(f"{one.exposure_bits:.2f}" for one in verdicts)
        areas = ", ".join(f"{100 * one.area:.1f}" for one in verdicts)
        by_chance = f"{100 * verdicts[0].area_low:.1f} to {100 * verdicts[0].area_high:.1f}"
        first = epsilon == epsilons[0]
        rows += [
            Row(
                what=f"{subject.name}, epsilon {epsilon:g}: share of the gain kept", value=share, unit="",
                bar=0.0 if first else None, aim=AIM if first else None,
                detail=f"accuracy {', '.join(f'{100 * one:.1f}' for one in accuracies)} %",
            ),
            Row(
                what=f"{subject.name}, epsilon {epsilon:g}: epsilon that an attack proves", value=proven, unit="",
                bar=epsilon, lower_is_better=True,
                detail=f"canary exposure, median {exposures} bits (chance 1); "
                f"member above other {areas} % (chance {by_chance})",
            ),
        ]  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="a home with the demo model")
    parser.add_argument("--only", default="head,adapter")
    parser.add_argument("--seeds", type=int, default=3, help="of the head; the adapter has one")
    parser.add_argument("--epsilons", type=lambda text: [float(one) for one in text.split(",")], default=list(EPSILONS))
    parser.add_argument("--steps", type=int, default=ADAPTER.steps, help="of the adapter")
    parser.add_argument("--batch", type=int, default=ADAPTER.batch, help="examples of a step of the adapter")
    parser.add_argument("--canaries", type=int, default=400)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--features", type=Path, help="where features are kept between runs (.npz)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.home, arguments.features, arguments.canaries, arguments.test)
    base = bench.untaught()
    rows = []
    for name in arguments.only.split(","):
        adapter = replace(ADAPTER, steps=arguments.steps, batch=arguments.batch)
        subject, seeds = (HEAD, arguments.seeds) if name == "head" else (adapter, 1)
        rows += measure(bench, subject, seeds, base, arguments.epsilons)
    text = report(rows, "benchmarks.private_quality", size=f"{bench.units:,} examples")
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
