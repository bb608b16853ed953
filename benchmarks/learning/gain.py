"""How much of the gain of true answers the demo model keeps when it learns from votes instead.

    python -m benchmarks.learning.gain HOME OUT [--votes 1200] [--runs votes:1,direct:1,votes:2] [--seed 0]

Simulated users (`votes.py`) vote on answers to definitions of WordNet. A run `votes:EPOCHS` learns from them as `ashore
learn run` does, filters, objectives and replay included; `direct:EPOCHS` learns the right answers to the questions of
the same examples. Judged is by 400 other definitions: is the right kind the likeliest of sixteen, by its first token.
One line of JSON a run goes to OUT; what is there already is not run again. The model's own answers are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.votes import honest_votes, question
from benchmarks.optimise.task import definitions, kinds

from ashore.bootstrap import build_store, open_subject
from ashore.core import Message
from ashore.engines import DEFAULT
from ashore.learning.batches import Learned
from ashore.learning.dataset import Dataset, Example, make_dataset
from ashore.learning.objectives import FeedbackLoss
from ashore.learning.reference import num_ahead
from ashore.learning.replay import builtin_prompts, how_many, own_answers
from ashore.learning.teaching import Teaching, batches_of, learned_of, replay_of
from ashore.settings import Home
from ashore.text import TextModel
from ashore.training import LoopOptions, LoraOptions, add_lora, load_checkpoint, train

MODEL: Final = "smollm2"
ITEMS: Final = 400
SHARE: Final = 0.2


class Bench:
    """The demo model, and the votes on its answers."""

    def __init__(self, home: Path, out: Path, votes: int, seed: int) -> None:
        self._home, self._own = Home(root=home), out.with_suffix(".own.json")
        self._store = build_store(self._home)
        self._parent = self._store.resolve(MODEL)
        self._text = TextModel.load(self._store.open(self._parent.reference).directory)
        self._train, self._test = definitions("train")[:votes], definitions("test")[:ITEMS]
        self._kinds, self._seed = kinds(self._train), seed
        self.dataset: Final[Dataset] = make_dataset(MODEL, honest_votes(self._train, self._kinds, seed=seed))

    def run(self, name: str, epochs: int) -> dict[str, Any]:
        """Teach and judge."""
        how = Teaching(epochs=max(1, epochs), seed=self._seed)
        with self._store.reading(self._parent.reference) as files:
            peft = add_lora(load_checkpoint(files), LoraOptions(rank=how.rank, alpha=2 * how.rank), seed=how.seed)
        model = peft.get_base_model()
        line: dict[str, Any] = {"run": name, "epochs": epochs, "seed": self._seed, "examples": self.dataset.counts}
        if epochs:
            learned = self._learned(self.dataset.examples, right=name == "direct")
            replay = replay_of(self._replay(how_many(len(self.dataset.examples), SHARE)), self._text)
            batches = batches_of(learned, replay, how)
            began = time.process_time()
            options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed)
            done = train(model, batches, FeedbackLoss(peft, batches.roles), options)
            line |= {"steps": done.steps, "tokens": done.tokens, "cpu_s": round(time.process_time() - began)}
        return line | {"accuracy": self._accuracy(model)}

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--votes", type=int, default=1200)
    parser.add_argument("--runs", default="none:0,votes:1,direct:1,votes:2,direct:2")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bench = Bench(given.home, given.out, given.votes, given.seed)
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for name in given.runs.split(","):
        what, _, epochs = name.partition(":")
        key = {"run": what, "epochs": int(epochs), "seed": given.seed}
        if not any(key.items() <= line.items() for line in done):
            line = bench.run(what, int(epochs))
            print(line, flush=True)
            with given.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
