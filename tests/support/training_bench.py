"""A tiny model and a small corpus to train it on, and `python -m`-able: one run that a test may kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import make_tiny_model

from ashore.lab.training import (
    Corpus,
    LoopOptions,
    LoopResult,
    PackedBatches,
    RunState,
    answer_loss,
    make_corpus,
    train,
)


def tiny_model(folder: Path, kind: str = "qwen2") -> Any:
    """Return a seeded model of two layers as transformers has it, made in `folder` where it is not there yet."""
    import torch
    import transformers

    if not (folder / "config.json").exists():
        make_tiny_model(folder, kind)
    torch.set_num_threads(1)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def small_corpus(num_examples: int = 40, *, seed: int = 7, longest: int = 30, common: int = 0) -> Corpus:
    """Return examples of 4 to `longest` tokens, each of which counts up from somewhere; the last half are targets.

    `common` tokens stand before all of them, so many fewer are their own.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(num_examples):
        size, first = int(rng.integers(4, longest + 1)), int(rng.integers(200))
        ids = [n if n < common else (first + n) % 250 for n in range(size)]
        examples.append((ids, [n >= size // 2 for n in range(size)]))
    return make_corpus(examples)


def small_run(folder: Path, *, kill_at: int = 0, precision: Any = "float32") -> LoopResult:
    """Train the tiny model in `folder`, with a checkpoint after each step; end the process with SIGKILL at a step."""
    import os
    import signal

    from ashore.core.clock import ManualClock

    clock = ManualClock()

    def watch(report: Any) -> None:
        clock.advance(60)
        print(f"{report.step} {report.loss!r}", flush=True)
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return train(
        tiny_model(folder / "model"),
        PackedBatches(small_corpus(common=6), row_tokens=64, batch_tokens=128, seed=3, epochs=2),
        answer_loss,
        LoopOptions(learning_rate=1e-3, precision=precision),
        state=RunState(folder=folder / "run", facts={"seed": "3"}),
        watch=watch,
        clock=clock,
    )


if __name__ == "__main__":
    small_run(Path(sys.argv[1]), kill_at=int(sys.argv[2]))
