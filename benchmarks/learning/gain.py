"""How much of the gain of true answers the demo model keeps when it learns from votes instead.

    python -m benchmarks.learning.gain HOME OUT [--votes 1200] [--runs votes:2.5,direct:2.5] [--seed 0]

Simulated users (`votes.py`) vote on answers to definitions of WordNet. A run `votes:EPOCHS` learns from them as `ashore
learn run` does, filters, objectives and replay included; `direct:EPOCHS` learns the right answers to the questions of
the same examples. Of 400 votes the product makes 2.5 passes. Judged is by 400 other definitions: is the right kind the
likeliest of sixteen, by its first token; and by an old skill, `stdlib-en`.
One line of JSON a run goes to OUT; what is there already is not run again. The model's own answers are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.learning.votes import honest_votes, question
from benchmarks.optimise.task import definitions, kinds

from ashore.cli.bootstrap import build_store, open_subject
from ashore.core.chat import Message
from ashore.data.engines import DEFAULT
from ashore.data.feedback.dataset import Dataset, Example, make_dataset
from ashore.data.text import TextModel
from ashore.kit.settings import Home
from ashore.lab.evaluation import open_task
from ashore.lab.evaluation.tasks.prompts import answer_ids, prompt_ids
from ashore.lab.learning.batches import Learned
from ashore.lab.learning.objectives import FeedbackLoss, log_likelihoods
from ashore.lab.learning.replay import builtin_prompts, how_many, own_answers
from ashore.lab.learning.teaching import SMALLEST_ROW, Teaching, adapted, batches_of, learned_of, replay_of
from ashore.lab.training import LoopOptions, Precision, faster_precision, make_corpus, mlp_size, packed_attention, train
from ashore.lab.training.batches import pack_rows
from ashore.lab.training.fusing import fused_adapters
from ashore.lab.training.losses import hidden_states

MODEL: Final = "smollm2"
ITEMS: Final = 400
OLD_SKILL: Final = "stdlib-en"
SHARE: Final = 0.2


SAME: Final = 1e-3
"""Difference of two scores that is none: products round."""
SCORED_ROW: Final = 1024
"""Tokens of a row of which nothing is learned."""


def num_ahead(model: Any, prompts: Sequence[Sequence[int]], said: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Return, for each prompt, how many labels a model finds likelier than the given answer, by first token."""
    import torch

    if not prompts:
        return []
    corpus = make_corpus([(list(one), [False] * len(one)) for one in prompts])
    weight = model.get_output_embeddings().weight
    found = np.zeros(len(prompts), np.int64)
    model.eval()
    with torch.inference_mode(), packed_attention(model), fused_adapters(model):
        for row in pack_rows(corpus.lengths, range(len(prompts)), max(SCORED_ROW, int(corpus.lengths.max()))):
            batch = corpus.batch(row)
            last_EH = hidden_states(model, batch)[np.cumsum(batch.lengths) - 1].float()
            labels_EL = last_EH @ weight[sorted(set(labels))].float().T
            said_E = (last_EH * weight[[said[at] for at in row]].float()).sum(dim=1)
            found[list(row)] = (labels_EL > said_E[:, None] + SAME).sum(dim=1).numpy()
    return [int(one) for one in found]


class Bench:
    """The demo model, and the votes on its answers."""

    def __init__(
        self, home: Path, out: Path, votes: int, items: int, old: int, seed: int, precision: Precision | None
    ) -> None:
        self._home, self._own = Home(root=home), out.with_suffix(".own.json")
        self._store = build_store(self._home)
        self._parent = self._store.resolve(MODEL)
        self._text = TextModel.load(self._store.open(self._parent.reference).directory)
        self._train, self._test = definitions("train")[:votes], definitions("test")[:items]
        self._old = open_task(OLD_SKILL).first(old)
        self._kinds, self._seed, self._precision = kinds(self._train), seed, precision
        self.dataset: Final[Dataset] = make_dataset(MODEL, honest_votes(self._train, self._kinds, seed=seed))

    def run(self, name: str, epochs: float) -> dict[str, Any]:
        """Teach and judge."""
        shape = self._parent.shape
        precision = self._precision or faster_precision(shape.hidden_size, mlp_size(shape), SMALLEST_ROW)
        how = Teaching(epochs=max(1.0, epochs), seed=self._seed, precision=precision)
        with self._store.reading(self._parent.reference) as files:
            peft = adapted(files, how)
        model = peft.get_base_model()
        line: dict[str, Any] = {"run": name, "epochs": epochs, "seed": self._seed, "examples": self.dataset.counts}
        if epochs:
            learned = self._learned(self.dataset.examples, right=name == "direct")
            replay = replay_of(self._replay(how_many(len(self.dataset.examples), SHARE)), self._text)
            batches = batches_of(learned, replay, how)
            began = time.process_time()
            options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed, precision=precision)
            done = train(model, batches, FeedbackLoss(peft, batches.roles), options)
            line |= {"steps": done.steps, "tokens": done.tokens, "cpu_s": round(time.process_time() - began)}
        return line | {"precision": precision, "accuracy": self._accuracy(model), "old_skill": self._old_skill(model)}

    def _learned(self, examples: Sequence[Example], *, right: bool) -> list[Learned]:
        if right:
            truth = {question(one.text): one.kind for one in self._train}
            rows = [replace(one.row, rating="up", correction="", answer=truth[one.row.question]) for one in examples]
            examples = [Example(kind="up", row=row) for row in rows]
        return learned_of(examples, self._text)

    def _replay(self, number: int) -> list[tuple[str, str]]:
        if not self._own.exists():
            with open_subject(self._store, self._home, MODEL, kind=DEFAULT.kind) as subject:
                self._own.write_text(json.dumps(own_answers(subject, builtin_prompts()[:number])))
        own = json.loads(self._own.read_text())
        return [tuple(own[at % len(own)]) for at in range(number)]

    def _accuracy(self, model: Any) -> float:
        firsts = [self._text.encode(one, bare=True)[0] for one in self._kinds]
        assert len(set(firsts)) == len(firsts)
        asked = [self._text.encode_chat([Message(role="user", content=question(one.text))]) for one in self._test]
        right = [firsts[self._kinds.index(one.kind)] for one in self._test]
        return sum(ahead == 0 for ahead in num_ahead(model, asked, right, firsts)) / len(self._test)

    def _old_skill(self, model: Any) -> float:
        """Return the share of questions about something else of which the right choice is the likeliest."""
        import torch

        rows, right = [], []
        for item in self._old.items:
            given = prompt_ids(self._old, item, self._text)
            for choice in item.choices:
                ids = answer_ids(self._old, item, given, choice, self._text)
                rows.append((ids, [False] * len(given) + [True] * (len(ids) - len(given))))
            right.append((len(rows) - len(item.choices), len(item.choices), int(item.answer)))
        corpus, told = make_corpus(rows), np.zeros(len(rows))
        model.eval()
        with torch.inference_mode(), packed_attention(model):
            for row in pack_rows(corpus.lengths, range(len(rows)), max(SCORED_ROW, int(corpus.lengths.max()))):
                told[list(row)] = log_likelihoods(model, corpus.batch(row)).numpy()
        return sum(int(told[at : at + of].argmax()) == answer for at, of, answer in right) / len(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--votes", type=int, default=1200)
    parser.add_argument("--items", type=int, default=ITEMS, help="definitions that it is judged by")
    parser.add_argument("--old", type=int, default=ITEMS, help="questions of an old skill that it is judged by")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: what is faster here, as there")
    parser.add_argument("--runs", default="none:0,votes:1,direct:1,votes:2,direct:2")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as what is idle has it
    bench = Bench(given.home, given.out, given.votes, given.items, given.old, given.seed, given.precision)
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for name in given.runs.split(","):
        what, _, epochs = name.partition(":")
        key = {"run": what, "epochs": float(epochs), "seed": given.seed}
        if not any(key.items() <= line.items() for line in done):
            line = bench.run(what, float(epochs))
            print(line, flush=True)
            with given.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
