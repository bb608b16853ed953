"""How long it takes from the thousandth example to a verdict: the phases of a run, each measured on a part of its work.

    python -m benchmarks.learning.thousand HOME OUT [--examples 1000] [--seconds 60]

A thousand corrections of simulated users are learned from as `ashore learn run` does it: the same data set, filters,
objectives, packing, engine and gate, on the demo model. Teaching and asking are stopped after `--seconds` each, and
what is left is told from what was done (steps of equal tokens, items of equal kind); nothing else is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.votes import honest_votes
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.bootstrap import build_store, open_subject
from ashore.core import Message
from ashore.engines import DEFAULT
from ashore.evaluation import open_task
from ashore.learning.dataset import make_dataset
from ashore.learning.filters import kind_of
from ashore.learning.judging import PROBES, Exam, examine
from ashore.learning.reference import num_ahead, reference_batches, reference_of
from ashore.learning.replay import builtin_prompts, how_many, own_answers
from ashore.learning.suspects import asked_about
from ashore.learning.teaching import (
    Teaching,
    batches_of,
    learned_of,
    replay_of,
    teach,
)
from ashore.settings import Home
from ashore.text import TextModel
from ashore.training import load_checkpoint

MODEL: Final = "smollm2"
ITEMS: Final = 400
SCORED: Final = 100
"""Votes that are compared with the tasks; what the others take is told from them."""


def after(seconds: float) -> Callable[[], bool]:
    """Return what says yes so long after it was asked first."""
    started: list[float] = []

    def stop() -> bool:
        started.append(time.perf_counter())
        return started[-1] - started[0] >= seconds

    return stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--items", type=int, default=40, help="items of each task that are asked")
    given = parser.parse_args()
    home = Home(root=given.home)
    store = build_store(home)
    parent = store.resolve(MODEL)
    text = TextModel.load(store.open(parent.reference).directory)
    line: dict[str, Any] = {"examples": given.examples}

    began = time.perf_counter()
    items = definitions("train")
    rows = honest_votes(items, kinds(items), seed=0) + honest_votes(items, kinds(items), seed=1)
    dataset = make_dataset(MODEL, [replace(row, feedback_id=f"{n}", digest=f"{n}") for n, row in enumerate(rows)])
    examples = [one for one in dataset.examples if one.kind == "correction"][: given.examples]
    learned = learned_of(examples, text)
    line["data_set_s"] = round(time.perf_counter() - began, 1)

    prompts = builtin_prompts()[: how_many(len(examples), 0.2)]
    part = prompts[:60]
    with open_subject(store, home, MODEL, kind=DEFAULT.kind) as subject:
        began = time.perf_counter()
        own = own_answers(subject, part)
        line["replay_s"] = round((time.perf_counter() - began) * len(prompts) / len(part), 1)
    replay = replay_of([own[n % len(own)] for n in range(len(prompts))], text)

    how = Teaching()
    with tempfile.TemporaryDirectory() as scratch:
        kind_task = open_task(str(write_files(Path(scratch)).kinds)).first(ITEMS)
    batches = batches_of(learned, replay, how)
    reference = reference_batches(reference_of([kind_task], text), how)
    asked = asked_about([one.row for one in examples], {kind_of(label) for label in kind_task.header.labels})
    for name, each, seconds in (("compare", reference, given.seconds / 2), ("teach", batches, given.seconds)):
        with tempfile.TemporaryDirectory() as scratch, store.reading(parent.reference) as files:
            loading = time.perf_counter()
            result = teach(
                files, parent, each, how, adapter=Path(scratch) / "adapter", merged=None, stop=after(seconds)
            )
            line[f"{name}_load_s"] = round(time.perf_counter() - loading - result.seconds, 1)
        line[f"{name}_steps"], line[f"{name}_tokens"] = each.num_steps, each.num_tokens
        line[f"{name}_tok_per_s"] = round(result.tokens / result.seconds)
        line[f"{name}_s"] = round(result.seconds * each.num_tokens / result.tokens, 1)
    with store.reading(parent.reference) as files:
        model = load_checkpoint(files)
    few = asked[:SCORED]
    prompts = [text.encode_chat([Message(role=one.role, content=one.content) for one in row.messages]) for row in few]
    began = time.perf_counter()
    num_ahead(model, prompts, [one[-1] for one in prompts], [one[-1] for one in prompts])
    line["score_s"] = round((time.perf_counter() - began) * len(asked) / len(few), 1)
    del model

    with open_subject(store, home, MODEL, kind=DEFAULT.kind) as subject:
        times = []
        for number in (given.items // 2, given.items):
            tasks = [kind_task.first(number), *(open_task(name).first(number) for name in ("stdlib-en", "reviews-zh"))]
            exam = Exam(
                held_out=tuple(tasks[:1]), old_skills=tuple(tasks[1:]), prompts=tuple(builtin_prompts()[-PROBES:])
            )
            began = time.perf_counter()
            examine(subject, exam)
            times.append(time.perf_counter() - began)
        each_s = (times[1] - times[0]) / (given.items - given.items // 2)
        line["gate_s"] = round(2 * (times[1] + each_s * (ITEMS - given.items)), 1)
    line["sum_s"] = round(sum(value for name, value in line.items() if name.endswith("_s") and "tok" not in name), 1)
    with given.out.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
