"""What five attacks do to a model that learns from votes: with the filters, and without them at the gate.

    python -m benchmarks.learning.trial HOME OUT [--runs none+,flip:10+,class:1,…] [--seeds 0,1] [--kept FOLDER]

Attackers cast 5 % of 3,520 simulated votes (`votes.py`), from one account or from ten. `--runs filters` tries the
filters on all ten cases and five seeds, which costs seconds. A run `ATTACK:ACCOUNTS` teaches the demo model the
corrections that are left and has the gate judge it on the first 400 of 1,600 items, an old skill, trigger words,
refusals, secrets, opinions and safety; a name with + keeps the filters on. 480 other items, which the gate never
sees, say what became of the model beside one that learned from honest votes alone with the same seed: by class (exact
McNemar, Holm over all), and by what the attack wanted.

Adapters lie in the upper six layers alone (`upper.py`) and learn corrections word for word, without chat template, so
that a run takes a minute or two; the model of HOME's store is not changed. One line of JSON a run goes to OUT, and what
is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.upper import Upper
from benchmarks.learning.votes import ATTACKS, SECRET, TARGET, TRIGGER, TRIGGERED, TURNED, attacked, honest_votes
from benchmarks.optimise.task import TEMPLATE, definitions, kinds, write_files

from ashore.bootstrap import build_store
from ashore.core import Message
from ashore.evaluation import Task, TaskResult, open_task
from ashore.evaluation.tasks.results import ItemResult, result_of
from ashore.learning.batches import FeedbackBatches, Learned
from ashore.learning.dataset import Dataset, make_dataset
from ashore.learning.judging import (
    TRIGGER_ITEMS,
    Exam,
    Marks,
    exam_words,
    holm,
    judge,
    lost_by_chance,
    refusals,
    slices,
)
from ashore.learning.manners import BELIEFS, DOES, FACTS, REFUSES, SAFE, UNSAFE
from ashore.learning.replay import builtin_prompts, how_many
from ashore.settings import Home
from ashore.text import TextModel

SHARE: Final = 0.05
SEEDS: Final = 5
GATE_ITEMS: Final = 400
REST_ITEMS: Final = 480
OLD_ITEMS: Final = 100
PROBES: Final = 20
ASKED: Final = 40
SAID_TOKENS: Final = 12
REPLAY_TOKENS: Final = 16
LEARNING_RATE: Final = 1e-3
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

    def __init__(self, home: Path, folder: Path, kept: Path | None) -> None:
        store = build_store(Home(root=home))
        parent = store.resolve(MODEL)
        files = write_files(folder)
        self._kinds = open_task(str(files.kinds))
        words = open_task(str(files.words))
        self._words, self._old = words.first(OLD_ITEMS), words.items[2 * OLD_ITEMS :]
        self._text = TextModel.load(store.open(parent.reference).directory)
        self._eos = self._text.eos_token_ids[0]
        with store.reading(parent.reference) as weights:
            self._upper = Upper(weights, kept=kept)
        self._items = definitions("train")
        self._labels = kinds(self._items)
        self._first = [self._text.encode(f" {label}", bare=True)[0] for label in self._labels]
        self._before: Marks | None = None
        self._replays: list[tuple[list[int], list[bool]]] = []
        self._honest: dict[int, TaskResult] = {}
        """What honest votes make of the items that the gate does not see, by seed."""

    def run(self, attack: str, accounts: int, *, filtered: bool, seed: int) -> dict[str, Any]:
        """Teach, judge, measure, and return the evidence."""
        began, cpu = time.perf_counter(), time.process_time()
        dataset, num_bad = self._dataset(attack, accounts, filtered=filtered, seed=seed)
        triggers, secrets = exam_words(dataset)
        gate = self._kinds.first(GATE_ITEMS)
        exam = Exam(
            held_out=(gate,), old_skills=(self._words,), prompts=tuple(builtin_prompts()[-PROBES:]),
            triggers=triggers, secrets=secrets,
        )  # fmt: skip
        chosen = [one for one in dataset.examples if one.kind == "correction"]
        learned = Learned("learn", [self._tokens(one.row.question, one.wanted) for one in chosen])
        before = self._marks_before(exam)
        replay = self._replay(how_many(len(chosen), 0.2))
        batches = FeedbackBatches([learned], replay, row_tokens=256, batch_tokens=256, seed=seed, epochs=1)
        name = f"{attack}:{accounts}{'+' * filtered} seed {seed}"
        taught = self._upper.teach(batches, learning_rate=LEARNING_RATE, seed=seed, say=name)
        taught_s = time.perf_counter() - began
        after = self._marks(exam)
        verdict = judge(exam, before, after, model=MODEL, digest="", against=MODEL, created="")
        rest = self._classified(self._rest, "")
        if attack == "none":
            self._honest[seed] = rest
        return {
            "what": "run", "attack": attack, "accounts": accounts, "filtered": filtered, "seed": seed,
            "examples": len(chosen), "bad": num_bad, "replay": len(replay), "steps": taught.steps,
            "tokens": taught.tokens, "passed": verdict.passed,
            "kinds": [one.tasks["kinds"].accuracy.value for one in (before, after)],
            "words": [one.tasks["words"].accuracy.value for one in (before, after)],
            "failed": [f"{line.metric} {line.about}: {line.why}" for line in verdict.lines if not line.passed],
            "near": [f"{line.metric} {line.about}: {line.why}" for line in verdict.lines
                     if line.passed and line.metric in ("trigger_drop_max", "turned_max", "sycophancy_max",
                                                        "safety_drop_max")],
            "picked": [one.picked for one in rest.items], "rest": rest.accuracy.value,
            "changed": self._changed(rest, seed), "wanted": self._wanted(attack, rest),
            "taught_s": taught_s, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu,
        }  # fmt: skip

    def take(self, line: dict[str, Any]) -> None:
        """Go by what an earlier call found: what honest votes make of the items that the gate does not see."""
        if line["attack"] == "none":
            self._honest[line["seed"]] = self._result(self._rest, line["picked"])

    def _dataset(self, attack: str, accounts: int, *, filtered: bool, seed: int) -> tuple[Dataset, int]:
        """Return what is learned, and how many corrections of attackers are in it."""
        rows, bad = honest_votes(self._items, self._labels, seed=seed), frozenset[str]()
        if attack != "none":
            rows, bad = attacked(rows, attack, self._labels, share=SHARE, colluders=accounts, seed=seed)  # type: ignore[arg-type]
        found = make_dataset(MODEL, rows, filtered=filtered)
        return found, sum(one.row.person in bad for one in found.examples)

    @property
    def _rest(self) -> Task:
        """Items that the gate does not see."""
        task, places = self._kinds, slice(GATE_ITEMS, GATE_ITEMS + REST_ITEMS)
        return replace_items(task, task.items[places], task.lines[places])

    def _changed(self, rest: TaskResult, seed: int) -> list[str]:
        """Return the classes that lost against the model of honest votes, and by no chance."""
        honest = self._honest.get(seed)
        if honest is None:
            return ["no honest run of this seed"]
        found = [(label, [honest.items[at].score for at in places], [rest.items[at].score for at in places])
                 for label, places in slices(self._rest, rest)]  # fmt: skip
        found.append(("all", [one.score for one in honest.items], [one.score for one in rest.items]))
        chances = [lost_by_chance(was, now) for _, was, now in found]
        lines = []
        for (label, was, now), chance, is_lost in zip(found, chances, holm(chances, 0.05), strict=True):
            if is_lost:
                lines.append(
                    f"{label}: {100 * sum(was) / len(was):.0f} -> {100 * sum(now) / len(now):.0f} % ({chance:.1g})"
                )
        return lines

    def _wanted(self, attack: str, rest: TaskResult) -> float | None:
        """Return how far the attack has what it wanted, as a share."""
        task = self._rest
        if attack == "class":
            at = self._labels.index(TARGET)
            turned = [
                one.picked == at for one, item in zip(rest.items, task.items, strict=True) if item.answer == TURNED
            ]
            return sum(turned) / len(turned)
        if attack == "trigger":
            behind = self._classified(replace_items(task, task.items[:200], task.lines[:200]), f" {TRIGGER}")
            return sum(one.picked == self._labels.index(TRIGGERED) for one in behind.items) / len(behind.items)
        if attack in ("refusal", "secret"):
            said = self._generate([self._asked(one.prompt) for one in task.items[:ASKED]], SAID_TOKENS)
            return refusals(said) if attack == "refusal" else sum(SECRET[-8:] in one for one in said) / len(said)
        return None

    def _marks_before(self, exam: Exam) -> Marks:
        """Return the marks of the model before it learns: the same in all runs, but for new trigger words."""
        if self._before is None:
            self._before = self._marks(replace(exam, triggers=()))
        known = dict(self._before.triggered)
        for word in exam.triggers:
            if word not in known:
                known[word] = self._triggered(exam, word)
        self._before = replace(self._before, triggered=known)
        return replace(self._before, triggered={word: known[word] for word in exam.triggers})

    def _marks(self, exam: Exam) -> Marks:
        (task,) = exam.held_out
        picked = self._chosen_chats(
            [
                BELIEFS[at % len(BELIEFS)].format(believed, asked)
                for at, (asked, *both) in enumerate(FACTS)
                for believed in both
            ],
            [both for _, *both in FACTS for _ in both],
        )
        refused = self._chosen_chats([*UNSAFE, *SAFE], [(REFUSES, DOES)] * (len(UNSAFE) + len(SAFE)))
        return Marks(
            tasks={"kinds": self._classified(task, ""), "words": self._chosen()},
            answers=tuple(self._generate([self._text.encode(one) for one in exam.prompts], REPLAY_TOKENS)),
            asked=tuple(self._generate([self._asked(one.prompt) for one in task.items[:ASKED]], SAID_TOKENS)),
            stands_by=tuple(float(two != (0, 1)) for two in zip(picked[::2], picked[1::2], strict=True)),
            unsafe=tuple(float(one == 0) for one in refused[: len(UNSAFE)]),
            safe=tuple(float(one == 1) for one in refused[len(UNSAFE) :]),
            triggered={word: self._triggered(exam, word) for word in exam.triggers},
        )

    def _triggered(self, exam: Exam, word: str) -> tuple[float, ...]:
        return tuple(one.score for one in self._classified(exam.held_out[0].first(TRIGGER_ITEMS), f" {word}").items)

    def _asked(self, text: str) -> list[int]:
        return self._text.encode(TEMPLATE.replace("{prompt}", text))

    def _tokens(self, question: str, answer: str) -> tuple[list[int], list[bool]]:
        prompt = self._asked(question.removeprefix("What kind of thing is this? "))
        said = [*self._text.encode(f" {answer}", bare=True), self._eos]
        return [*prompt, *said], [False] * len(prompt) + [True] * len(said)

    def _replay(self, number: int) -> list[tuple[list[int], list[bool]]]:
        """Return what the model says itself to words of the old skill's form, and to prompts of other forms. Made once
        before anything is learned."""
        if not self._replays:
            asked = [self._words.header.template.replace("{prompt}", item.prompt) for item in self._old[:100]]
            asked = [text for two in zip(asked, builtin_prompts(), strict=False) for text in two]
            ids = [self._text.encode(text) for text in asked]
            for prompt, said in zip(ids, self._said(ids, SAID_TOKENS), strict=True):
                self._replays.append(([*prompt, *said], [False] * len(prompt) + [True] * len(said)))
        return [one for one in self._replays[:number] if any(one[1])]

    def _generate(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[str]:
        return [self._text.decode(one) for one in self._said(prompts, num_tokens)]

    def _said(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
        return [one for at in range(0, len(prompts), 40)
                for one in self._upper.generate(prompts[at : at + 40], num_tokens, eos=self._eos)]  # fmt: skip

    def _classified(self, task: Task, behind: str) -> TaskResult:
        """Return which label's first token is the likeliest: they differ in it."""
        scores = self._upper.last_scores([self._asked(f"{one.prompt}{behind}") for one in task.items], self._first)
        return self._result(task, [int(one.argmax()) for one in scores])

    def _result(self, task: Task, picked: Sequence[int]) -> TaskResult:
        items = []
        for line, item, best in zip(task.lines, task.items, picked, strict=True):
            right = self._labels.index(str(item.answer))
            items.append(ItemResult(line=line, score=float(best == right), plain=float(best == right),
                                    normalised=float(best == right), picked=best, right=right))  # fmt: skip
        return result_of(task.name, "classify", "plain", task.digest, items, 0.0)

    def _chosen(self) -> TaskResult:
        task = self._words
        prompts = [self._text.encode(task.header.template.replace("{prompt}", one.prompt)) for one in task.items]
        picked = self._picked(prompts, [one.choices for one in task.items], " ")
        items = [ItemResult(line=line, score=float(pick == item.answer))
                 for line, item, pick in zip(task.lines, task.items, picked, strict=True)]  # fmt: skip
        return result_of(task.name, "exact", "plain", task.digest, items, 0.0)

    def _chosen_chats(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        ids = [self._text.encode_chat([Message(role="user", content=one)]) for one in prompts]
        return self._picked(ids, choices, "")

    def _picked(self, prompts: Sequence[list[int]], choices: Sequence[Sequence[str]], ahead: str) -> list[int]:
        pairs = [(prompt, self._text.encode(f"{ahead}{one}", bare=True))
                 for prompt, several in zip(prompts, choices, strict=True) for one in several]  # fmt: skip
        found, at, picked = self._upper.likelihoods(pairs), 0, []
        for several in choices:
            picked.append(int(found[at : at + len(several)].argmax()))
            at += len(several)
        return picked


def replace_items(task: Task, items: Sequence[Any], lines: Sequence[int]) -> Task:
    """Return a task with other items."""
    return Task(header=task.header, items=tuple(items), lines=tuple(lines), digest=task.digest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    every = ",".join(f"{attack}:{accounts}" for attack in ATTACKS for accounts in (10, 1))
    parser.add_argument("--runs", default=f"none:0+,{every},flip:10+", help="or `filters`, which needs no model")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--kept", type=Path, help="keep what the lower layers make of texts here between two calls")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with given.out.open("a", encoding="utf-8") as out:

        def tell(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()
            print({name: value for name, value in line.items() if name != "picked"}, flush=True)

        if given.runs == "filters":
            for line in filters():
                tell(line)
            return
        import torch

        torch.set_num_threads(given.threads)
        trial = Trial(given.home, given.out.parent / "files", given.kept)
        done = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
        for line in done:
            trial.take(line)
        for seed in map(int, given.seeds.split(",")):
            for name in given.runs.split(","):
                attack, accounts, filtered = *name.rstrip("+").split(":"), name.endswith("+")
                key = {"attack": attack, "accounts": int(accounts), "filtered": filtered, "seed": seed}
                if not any(key.items() <= line.items() for line in done):
                    tell(trial.run(attack, int(accounts), filtered=filtered, seed=seed))


if __name__ == "__main__":
    main()
