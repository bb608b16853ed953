"""How near `evaluate` comes to the engine's own prefill rate, on 1,000 multiple-choice items.

Run: python -m benchmarks.evaluate_rate --home HOME [--model smollm2@int8] [--items 1000] [--slices 8] [--out REPORT.md]

HOME has the model in its store. The items go through `run_task` in slices, and beside each slice prompts of 512 random
tokens, which share nothing, go through the same host; which comes first changes from slice to slice, so that whatever
else the machine does weighs on both. The prompts too are scored, at their last token alone: the engine's highest rate,
for prompts of requests come in steps that are kept short for other streams (their rate is told once). The rate of the
items is the tokens that the engine computed for them (a beginning that choices share counts once) by the whole time
that the slice took, tokenising and judging included. The judged figure is the median of the slices' ratios.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import random
import statistics
import time
from pathlib import Path

import msgspec
from benchmarks.row import Row

from ashore.cli.bootstrap import build_store, open_subject
from ashore.data.engines import EngineInfo, ScoreText
from ashore.kit.settings import Home
from ashore.lab.evaluation import Item, Subject, Task, open_task, run_task

BAR, AIM = 0.8, 0.9
PROMPT_TOKENS = 512


def multiple_choice(count: int) -> Task:
    """Return `count` items with choices: the questions of `stdlib-en`, then reviews with the labels as choices."""
    questions, reviews = open_task("stdlib-en").first(count), open_task("reviews-zh")
    labels = reviews.header.labels
    asked = tuple(
        Item(prompt=f"评论：{item.prompt}\n这条评论是", choices=labels, answer=labels.index(str(item.answer)))
        for item in reviews.items[: max(0, count - len(questions.items))]
    )
    header = msgspec.structs.replace(questions.header, template="{prompt}")
    items = (*questions.items, *asked)
    return Task(header=header, items=items, lines=tuple(range(len(items))), digest="")


def sliced(task: Task, count: int) -> list[Task]:
    """Return the task in parts that have something of everything: every `count`-th item."""
    return [
        msgspec.structs.replace(task, items=task.items[at::count], lines=task.lines[at::count]) for at in range(count)
    ]


def rate_of_items(subject: Subject, task: Task) -> tuple[float, float]:
    """Return computed tokens/s over the whole task, and the task's accuracy."""
    before, start_s = subject.scored_tokens(), time.perf_counter()
    result = run_task(subject, task)
    seconds = time.perf_counter() - start_s
    return (subject.scored_tokens() - before) / seconds, result.accuracy.value


def rate_of_prompts(subject: Subject, tokens: int, seed: int) -> float:
    """Return prompt tokens/s of random texts that are about `tokens` together, scored at their last token."""
    texts = [ScoreText(ids, len(ids) - 1) for ids in random_prompts(subject, tokens, seed)]
    start_s = time.perf_counter()
    subject.score(texts)
    return sum(len(text.ids) - 1 for text in texts) / (time.perf_counter() - start_s)


def rate_of_requests(subject: Subject, tokens: int, seed: int) -> float:
    """Return prompt tokens/s of requests for one token each, as many at once as the engine takes."""
    prompts = random_prompts(subject, tokens, seed)
    start_s = time.perf_counter()
    subject.generate(prompts, max_new_tokens=1, ignore_eos=True)
    return sum(map(len, prompts)) / (time.perf_counter() - start_s)


def random_prompts(subject: Subject, tokens: int, seed: int) -> list[list[int]]:
    """Return prompts of random tokens, about `tokens` together, no two alike."""
    draw = random.Random(seed)
    size, vocab = min(PROMPT_TOKENS, subject.info.context_tokens - 1), subject.info.vocab_size
    return [[draw.randrange(min(1000, vocab // 2), vocab) for _ in range(size)] for _ in range(-(-tokens // size))]


def measure(home: Home, model: str, *, num_items: int, rounds: int = 1, slices: int = 8) -> tuple[Row, EngineInfo]:
    """Return the judged row, and what answered."""
    task = multiple_choice(num_items)
    ratios, items, prompts, right = [], [], [], 0.0
    with open_subject(build_store(home), home, model) as subject:
        info = subject.info
        rate_of_prompts(subject, 2048, seed=0)
        requests = rate_of_requests(subject, 8 * PROMPT_TOKENS, seed=0)
        before = subject.scored_tokens()
        run_task(subject, task.first(20))
        tokens = (subject.scored_tokens() - before) * len(task.items) // min(20, len(task.items))
        pieces = sliced(task, slices) * rounds
        for number, piece in enumerate(pieces):
            share = max(1, tokens * len(piece.items) // len(task.items) // 2)
            if number % 2:
                prompts.append(rate_of_prompts(subject, share, seed=number + 1))
            rate, accuracy = rate_of_items(subject, piece)
            items.append(rate)
            right += accuracy * len(piece.items)
            if not number % 2:
                prompts.append(rate_of_prompts(subject, share, seed=number + 1))
            ratios.append(items[-1] / prompts[-1])
            print(f"slice {number + 1}: {items[-1]:,.0f} against {prompts[-1]:,.0f} tok/s, ratio {ratios[-1]:.3f}")
    row = Row(
        what=f"evaluate {len(task.items)} multiple-choice items against the engine's prefill rate",
        value=statistics.median(ratios),
        unit="",
        bar=BAR,
        aim=AIM,
        detail=f"{statistics.median(items):,.0f} against {statistics.median(prompts):,.0f} tokens/s; "
        f"ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
        f"prompts of requests {requests:,.0f} tokens/s; "
        f"accuracy {right / rounds / len(task.items):.1%}",
    )
    return row, info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--model", default="smollm2@int8")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slices", type=int, default=8, help="parts of the items, each timed beside prompts")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    row, info = measure(
        Home(root=words.home), words.model, num_items=words.items, rounds=words.rounds, slices=words.slices
    )
    report = "\n".join(
        (
            f"# Rate of evaluation, {datetime.date.today().isoformat()}",
            "",
            f"{info.model} on {info.version} ({info.precision}), {platform.machine()}, Python "
            f"{platform.python_version()}. `python -m benchmarks.evaluate_rate --items {words.items} "
            f"--rounds {words.rounds} --slices {words.slices}`",
            "",
            "| what | seen | bar | aim | verdict | detail |",
            "| --- | --: | --: | --: | --- | --- |",
            "| " + " | ".join(row.cells()) + " |",
            "",
        )
    )
    print(report)
    if words.out:
        words.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
