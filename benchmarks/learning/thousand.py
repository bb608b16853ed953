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
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.votes import honest_votes
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.bootstrap import build_store, open_subject
from ashore.engines import DEFAULT
from ashore.evaluation import open_task
from ashore.learning.dataset import make_dataset
from ashore.learning.judging import PROBES, Exam, examine
from ashore.learning.replay import builtin_prompts, how_many, own_answers
from ashore.learning.teaching import Teaching, batches_of, learned_of, replay_of, teach
from ashore.settings import Home
from ashore.text import TextModel

MODEL: Final = "smollm2"
ITEMS: Final = 400


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
    batches = batches_of(learned, replay, how)
    with tempfile.TemporaryDirectory() as scratch, store.reading(parent.reference) as files:
        loading = time.perf_counter()
        started: list[float] = []

        def stop() -> bool:
            started.append(time.perf_counter())
            return started[-1] - started[0] >= given.seconds

        result = teach(files, parent, batches, how, adapter=Path(scratch) / "adapter", merged=None, stop=stop)
        line["load_s"] = round(started[0] - loading - result.seconds / result.steps, 1)
    line |= {
        "steps": batches.num_steps,
        "tokens": batches.num_tokens,
        "tok_per_s": round(result.tokens / result.seconds),
    }
    line["teach_s"] = round(result.seconds * batches.num_tokens / result.tokens, 1)

    with tempfile.TemporaryDirectory() as scratch, open_subject(store, home, MODEL, kind=DEFAULT.kind) as subject:
        kind_task = open_task(str(write_files(Path(scratch)).kinds))
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
