"""How long it takes from the thousandth example to a verdict: the phases of a run, each measured on a part of its work.

    python -m benchmarks.learning.thousand HOME OUT [--examples 1000] [--seconds 60]

A thousand corrections of simulated users are learned from as `ashore learn run` does it: the same data set, filters,
objectives, packing, engine and gate, on the demo model. Teaching and asking are stopped after `--seconds` each, and
what is left is told from what was done (steps of equal tokens, items of equal kind); nothing else is left out. Beside
each time by the clock (`_s`) stands that of all processors together (`_cpu_s`), which other work on the machine changes
little; `benchmarks.learning.unattended` does all of it by itself, behind a server.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
from benchmarks.learning.votes import honest_votes
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.cli.bootstrap import build_store, open_subject
from ashore.data.engines import DEFAULT
from ashore.data.feedback.dataset import make_dataset
from ashore.data.text import TextModel
from ashore.kit.settings import Home
from ashore.lab.evaluation import open_task
from ashore.lab.learning.judging import PROBES, Exam, examine
from ashore.lab.learning.replay import builtin_prompts, how_many, own_answers
from ashore.lab.learning.teaching import SMALLEST_ROW, Teaching, batches_of, learned_of, replay_of, teach
from ashore.lab.training import faster_precision, mlp_size

MODEL: Final = "smollm2"
ITEMS: Final = 400


class Watch:
    """Seconds since it was made: by the clock, and of all processors together."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), _used()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._began, _used() - self._used


def _used() -> float:
    """Return the processor seconds of this process and of all that it started, those that have ended among them."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:4]) for one in (me, *me.children(recursive=True)))


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
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as what is idle has it
    home = Home(root=given.home)
    store = build_store(home)
    parent = store.resolve(MODEL)
    text = TextModel.load(store.open(parent.reference).directory)
    line: dict[str, Any] = {"examples": given.examples}

    def keep(name: str, took: tuple[float, float], times: float = 1.0) -> None:
        line[f"{name}_s"], line[f"{name}_cpu_s"] = (round(one * times, 1) for one in took)
        print(f"{name}: {line[f'{name}_s']} s, {line[f'{name}_cpu_s']} s of processors", flush=True)

    watch = Watch()
    items = definitions("train")
    rows = honest_votes(items, kinds(items), seed=0) + honest_votes(items, kinds(items), seed=1)
    dataset = make_dataset(MODEL, [replace(row, feedback_id=f"{n}", digest=f"{n}") for n, row in enumerate(rows)])
    examples = [one for one in dataset.examples if one.kind == "correction"][: given.examples]
    learned = learned_of(examples, text)
    keep("data_set", watch.read())

    prompts = builtin_prompts()[: how_many(len(examples), 0.2)]
    part = prompts[:60]
    with open_subject(store, home, MODEL, kind=DEFAULT.kind) as subject:
        watch = Watch()
        own = own_answers(subject, part)
        keep("replay", watch.read(), len(prompts) / len(part))
    replay = replay_of([own[n % len(own)] for n in range(len(prompts))], text)

    precision = faster_precision(parent.shape.hidden_size, mlp_size(parent.shape), SMALLEST_ROW)
    how = Teaching(precision=precision)
    line["precision"] = precision
    with tempfile.TemporaryDirectory() as scratch:
        kind_task = open_task(str(write_files(Path(scratch)).kinds)).first(ITEMS)
    batches = batches_of(learned, replay, how)
    for name, each, seconds in (("teach", batches, given.seconds),):
        with tempfile.TemporaryDirectory() as scratch, store.reading(parent.reference) as files:
            whole, steps = Watch(), list[tuple[float, float]]()
            result = teach(
                files, parent, each, how, adapter=Path(scratch) / "adapter", merged=None,
                watch=lambda _, steps=steps, whole=whole: steps.append(whole.read()), stop=after(seconds),
            )  # fmt: skip
            (began_s, began_cpu_s), (ended_s, ended_cpu_s) = steps[0], steps[-1]
        line[f"{name}_steps"], line[f"{name}_tokens"] = each.num_steps, each.num_tokens
        line[f"{name}_tok_per_s"] = round(result.tokens / result.seconds)
        more = each.num_steps / (len(steps) - 1)
        keep(f"{name}_start", (began_s, began_cpu_s))
        keep(name, (ended_s - began_s, ended_cpu_s - began_cpu_s), more)
    with open_subject(store, home, MODEL, kind=DEFAULT.kind) as subject:
        times = []
        for number in (given.items // 2, given.items):
            tasks = [kind_task.first(number), *(open_task(name).first(number) for name in ("stdlib-en", "reviews-zh"))]
            exam = Exam(
                held_out=tuple(tasks[:1]), old_skills=tuple(tasks[1:]), prompts=tuple(builtin_prompts()[-PROBES:])
            )
            watch = Watch()
            examine(subject, exam)
            times.append(watch.read())
        more = (ITEMS - given.items) / (given.items - given.items // 2)
        gate = [2 * (late + (late - early) * more) for early, late in zip(*times, strict=True)]
        keep("gate", (gate[0], gate[1]))
    for kind in ("_cpu_s", "_s"):
        names = [name for name in line if name.endswith(kind) and not name.endswith("tok_per_s")]
        names = [name for name in names if kind == "_cpu_s" or not name.endswith("_cpu_s")]
        line[f"sum{kind}"] = round(sum(line[name] for name in names), 1)
    with given.out.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
