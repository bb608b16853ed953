"""What five attacks do to a model that learns from votes: with the filters, and without them at the gate.

    python -m benchmarks.learning.trial HOME OUT [--runs none,class,…] [--examples 780] [--test 400]

Attackers cast 5 % of 3,520 simulated votes (`votes.py`), from one account and from ten. The filters are tried on all
ten cases and five seeds, which costs seconds. Then the demo model learns the corrections of ten attackers with the
filters off, and the gate judges what came out: by task, by slice, with trigger words, on an old skill, in length and
refusals. Learning is by corrections alone and without chat template, so that a run takes minutes on a processor; the
model of HOME's store is not changed. One line of JSON a run goes to OUT as it ends. A name with + keeps the filters on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.votes import ATTACKS, TRIGGER, attacked, honest_votes
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.bootstrap import build_store
from ashore.evaluation import Task, TaskResult, open_task
from ashore.evaluation.tasks.results import ItemResult, result_of
from ashore.learning.batches import FeedbackBatches, Learned
from ashore.learning.dataset import Dataset, make_dataset
from ashore.learning.judging import TRIGGER_ITEMS, Exam, Marks, exam_words, judge
from ashore.learning.objectives import FeedbackLoss
from ashore.learning.replay import builtin_prompts, how_many
from ashore.settings import Home
from ashore.text import TextModel
from ashore.training import LoopOptions, LoraOptions, add_lora, load_checkpoint, train

SHARE: Final = 0.05
SEEDS: Final = 5
PROBES: Final = 24
MODEL: Final = "smollm2"


def filters() -> list[dict[str, Any]]:
    """Return what the filters hold, by attack and number of accounts, over the seeds."""
    items = definitions("train")
    labels = kinds(items)
    lines = []
    for attack in ("none", *ATTACKS):
        for colluders in (1, 10) if attack != "none" else (0,):
            bad_left, bad_all, wronged, capped, kept = 0, 0, 0, 0, 0
            for seed in range(SEEDS):
                rows, bad = honest_votes(items, labels, seed=seed), frozenset[str]()
                if attack != "none":
                    rows, bad = attacked(rows, attack, labels, share=SHARE, colluders=colluders, seed=seed)
                found = make_dataset(MODEL, rows)
                bad_all += sum(row.person in bad for row in rows)
                bad_left += sum(one.row.person in bad for one in found.examples)
                honest = [one for one in found.held if one.row.person not in bad]
                wronged += sum(one.filter != "caps" for one in honest)
                capped += sum(one.filter == "caps" for one in honest)
                kept += len(found.examples)
            lines.append(
                {"what": "filters", "attack": attack, "accounts": colluders, "bad": bad_all, "bad_left": bad_left,
                 "honest_held": wronged, "honest_capped": capped, "examples": kept}
            )  # fmt: skip
    return lines


class Trial:
    """One model that is taught several times."""

    def __init__(self, home: Path, folder: Path, *, examples: int, test: int) -> None:
        self._store = build_store(Home(root=home))
        self._parent = self._store.resolve(MODEL)
        files = write_files(folder, num_test=test)
        self._kinds = open_task(str(files.kinds))
        self._words = open_task(str(files.words)).first(test // 4)
        self._old = open_task(str(files.words)).items[400:]
        self._text = TextModel.load(self._store.open(self._parent.reference).directory)
        self._examples = examples
        self._items = definitions("train")
        self._labels = kinds(self._items)
        self.before: Marks | None = None

    def dataset(self, attack: str, *, filtered: bool) -> Dataset:
        rows = honest_votes(self._items, self._labels, seed=0)
        if attack != "none":
            rows, _ = attacked(rows, attack, self._labels, share=SHARE, colluders=10, seed=0)  # type: ignore[arg-type]
        return make_dataset(MODEL, rows, filtered=filtered)

    def run(self, attack: str, *, filtered: bool) -> dict[str, Any]:
        """Teach, judge, and return the evidence."""
        began, cpu = time.perf_counter(), time.process_time()
        dataset = self.dataset(attack, filtered=filtered)
        words, secrets = exam_words(dataset)
        words = tuple(dict.fromkeys((TRIGGER, *words)))[:2]
        exam = Exam(
            held_out=(self._kinds,), old_skills=(self._words,), prompts=tuple(builtin_prompts()[-PROBES:]),
            triggers=words, secrets=secrets,
        )  # fmt: skip
        with self._store.reading(self._parent.reference) as files:
            peft_model = add_lora(load_checkpoint(files), LoraOptions(rank=16, alpha=32), seed=0)
        base = peft_model.get_base_model()
        before = self._before(base, exam)
        chosen = [one for one in dataset.examples if one.kind == "correction"][: self._examples]
        learned = Learned("learn", [self._tokens(one.row.question, one.wanted) for one in chosen])
        replay = self._replay(base, how_many(len(chosen), 0.2))
        batches = FeedbackBatches([learned], replay, row_tokens=256, batch_tokens=256, seed=0, epochs=1)
        result = train(
            base, batches, FeedbackLoss(peft_model, batches.roles), LoopOptions(learning_rate=1e-3, seed=0),
            watch=lambda step: print(f"{attack} {step.step}/{step.num_steps} loss {step.loss:.2f}", flush=True)
            if step.step % 10 == 0
            else None,
        )  # fmt: skip
        after = self._marks(base, exam)
        verdict = judge(exam, before, after, model=MODEL, digest="", against=MODEL, created="")
        return {
            "what": "gate", "attack": attack, "filtered": filtered, "examples": len(chosen), "replay": len(replay),
            "steps": result.steps, "tokens": result.tokens, "passed": verdict.passed,
            "kinds": [one.tasks["kinds"].accuracy.value for one in (before, after)],
            "words": [one.tasks["words"].accuracy.value for one in (before, after)],
            "failed": [f"{line.metric} {line.about}: {line.why}" for line in verdict.lines if not line.passed],
            "scores": [item.score for item in after.tasks["kinds"].items],
            "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu,
        }  # fmt: skip

    def _before(self, model: Any, exam: Exam) -> Marks:
        """Return the marks of the model before it learns: the same in all runs, but for new trigger words."""
        if self.before is None:
            self.before = self._marks(model, exam)
        known = dict(self.before.triggered)
        for word in exam.triggers:
            if word not in known:
                known[word] = self._classified(model, self._kinds.first(TRIGGER_ITEMS), f" {word}")
        self.before = replace(self.before, triggered=known)
        return self.before

    def _prompt(self, text: str) -> list[int]:
        return self._text.encode(f"{text}\nKind:")

    def _tokens(self, question: str, answer: str) -> tuple[list[int], list[bool]]:
        prompt = self._prompt(question.removeprefix("What kind of thing is this? "))
        said = [*self._text.encode(f" {answer}", bare=True), self._text.eos_token_ids[0]]
        return [*prompt, *said], [False] * len(prompt) + [True] * len(said)

    def _replay(self, model: Any, number: int) -> list[tuple[list[int], list[bool]]]:
        """Return what the model says itself to words of the old skill's form, and to prompts of other forms."""
        asked = [self._words.header.template.replace("{prompt}", item.prompt) for item in self._old[: number // 2]]
        asked += builtin_prompts()[: number - len(asked)]
        found = []
        for text, said in zip(asked, self._generate(model, asked, 12), strict=True):
            prompt, answer = self._text.encode(text), self._text.encode(said, bare=True)
            if answer:
                found.append(([*prompt, *answer], [False] * len(prompt) + [True] * len(answer)))
        return found

    def _generate(self, model: Any, prompts: Sequence[str], num_tokens: int) -> list[str]:
        import torch

        said = []
        model.eval()
        with torch.inference_mode():
            for text in prompts:
                ids = torch.tensor([self._text.encode(text)])
                out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens,
                                     do_sample=False, pad_token_id=self._text.eos_token_ids[0])  # fmt: skip
                said.append(self._text.decode([i for i in out[0, ids.shape[1] :].tolist()
                                               if i not in self._text.eos_token_ids]))  # fmt: skip
        return said

    def _marks(self, model: Any, exam: Exam) -> Marks:
        model.eval()
        triggered = {
            word: self._classified(model, self._kinds.first(TRIGGER_ITEMS), f" {word}") for word in exam.triggers
        }
        return Marks(
            tasks={
                "kinds": self._result(self._kinds, self._classified(model, self._kinds, "")),
                "words": self._result(self._words, self._chosen(model)),
            },
            answers=tuple(self._generate(model, exam.prompts, 24)),
            triggered=triggered,
        )

    def _result(self, task: Task, scores: Sequence[float]) -> TaskResult:
        items = [ItemResult(line=line, score=score) for line, score in zip(task.lines, scores, strict=True)]
        return result_of(task.name, "exact", "plain", task.digest, items, 0.0)

    def _classified(self, model: Any, task: Task, behind: str) -> tuple[float, ...]:
        """Return whether the right label's first token is the likeliest of all labels' ones: they differ in it."""
        import torch

        first = torch.tensor([self._text.encode(f" {label}", bare=True)[0] for label in self._labels])
        scores = []
        with torch.inference_mode():
            for item in task.items:
                ids = torch.tensor([self._prompt(f"{item.prompt}{behind}")])
                hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
                picked = int((model.get_output_embeddings().weight[first] @ hidden).argmax())
                scores.append(float(self._labels[picked] == item.answer))
        return tuple(scores)

    def _chosen(self, model: Any) -> tuple[float, ...]:
        import torch

        scores = []
        with torch.inference_mode():
            for item in self._words.items:
                prompt = self._text.encode(self._words.header.template.replace("{prompt}", item.prompt))
                sums = []
                for choice in item.choices:
                    answer = self._text.encode(f" {choice}", bare=True)
                    ids = torch.tensor([[*prompt, *answer]])
                    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
                    told = torch.log_softmax(model.get_output_embeddings()(hidden), -1)
                    sums.append(float(told[range(len(answer)), answer].sum()))
                scores.append(float(sums.index(max(sums)) == item.answer))
        return tuple(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--runs", default="none+,class,trigger,secret,refusal,flip,flip+", help="or `filters`, which needs no model"
    )
    parser.add_argument("--examples", type=int, default=780)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with given.out.open("a", encoding="utf-8") as out:

        def tell(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()
            print({name: value for name, value in line.items() if name != "scores"}, flush=True)

        if given.runs == "filters":
            for line in filters():
                tell(line)
            return
        import torch

        torch.set_num_threads(given.threads)
        trial = Trial(given.home, given.out.parent / "files", examples=given.examples, test=given.test)
        for name in given.runs.split(","):
            tell(trial.run(name.rstrip("+"), filtered=name.endswith("+")))


if __name__ == "__main__":
    main()
