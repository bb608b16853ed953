"""A tiny teacher with data to distil on, and `python -m`-able: one distillation that a test may kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from local_subject import LocalSubject
from safetensors.numpy import load_file, save_file
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.core.clock import Clock, ManualClock
from ashore.core.kinds import EngineKind
from ashore.data.engines import EngineOptions, ModelFiles
from ashore.data.engines.torch.engine import TorchEngine
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore, StoredModel
from ashore.lab.evaluation import Subject
from ashore.lab.optimize.distilling.distil import Distiller
from ashore.lab.optimize.distilling.model import DistilWish
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.training import StepReport

END = 257
PLENTY_BYTES = 8 << 30


class Watching:
    """A `Watcher` that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []
        self.steps: list[StepReport] = []

    @property
    def stages(self) -> dict[str, tuple[int, int]]:
        return {name: (done, total) for name, done, total in self.heard}

    def stage(self, name: str, done: int, total: int) -> None:
        self.heard.append((name, done, total))

    def step(self, report: StepReport) -> None:
        self.steps.append(report)


class Killing(Watching):
    """Ends this process with SIGKILL, as the teacher speaks or after a step; every step takes it a minute."""

    def __init__(self, when: str, clock: ManualClock) -> None:
        super().__init__()
        self._when, self._clock = when, clock

    def stage(self, name: str, done: int, total: int) -> None:
        if self._when == "teacher" and done == total // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, report: StepReport) -> None:
        self._clock.advance(60)
        if self._when == f"step {report.step}":
            os.kill(os.getpid(), signal.SIGKILL)


def pull_teacher(
    store: ModelStore, root: Path, *, name: str = "tiny", kind: str = "llama", seed: int = 0, bos: str = "<|bos|>"
) -> StoredModel:
    """Return a tiny model that `store` has now, and that likes to end its answers."""
    folder = make_tiny_model(root / f"source-{name}", kind, seed=seed)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight"][END] *= 2
    save_file(tensors, folder / "model.safetensors")
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("<|bos|>", bos))
    return store.pull(str(folder), name=name)


def write_data(root: Path) -> None:
    """Write `data.jsonl` and `text.txt`."""
    rng = np.random.default_rng(0)
    words = ["red", "green", "blue", "one", "two", "three", "sun", "moon"]
    rows = []
    for number in range(24):
        said = " ".join(rng.choice(words, 4))
        row: dict[str, Any] = {"prompt": f"{said}:", "completion": f" {said.split()[0]}"}
        if number % 3 == 0:
            row = {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": said.split()[-1]}]}
        rows.append(row)
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "text.txt").write_text(" ".join(rng.choice(words, 70)))


def make_distiller(root: Path, *, free_memory: int = PLENTY_BYTES, clock: Clock | None = None) -> Distiller:
    """Return a distiller over the store in `root`, in which there is a teacher, and data beside it."""
    import torch

    torch.set_num_threads(1)
    root.mkdir(parents=True, exist_ok=True)
    store = make_store(root)
    if not (root / "data.jsonl").exists():
        pull_teacher(store, root)
        write_data(root)

    @contextmanager
    def open_teacher(reference: str, *, kind: EngineKind | None) -> Iterator[Subject]:
        found = store.open(reference)
        files = ModelFiles(
            name=reference,
            digest=found.digest,
            directory=str(found.directory),
            format=found.format,  # type: ignore[arg-type]
            weights=found.weights,
        )
        engine = TorchEngine()
        info = engine.load(files, EngineOptions(kind="torch", threads=1))
        yield LocalSubject(reference, engine, info, TextModel.load(found.directory))
        engine.close()

    return Distiller(store, root / "work", open_teacher, free_memory=lambda: free_memory, clock=clock)


def wish_for(root: Path, **change: Any) -> DistilWish:
    """Return a small wish; `change` names fields of `DistilWish` or of `DistilSettings`."""
    settings = {"layers": 1, "batch_tokens": 128, "window_tokens": 64, "seed": 3, "epochs": 2.0}
    wish: dict[str, Any] = {"teacher": "tiny", "data": (root / "data.jsonl",), "text": (root / "text.txt",)}
    for name, value in change.items():
        (settings if name in DistilSettings.__struct_fields__ else wish)[name] = value  # type: ignore[index]
    return DistilWish(settings=DistilSettings(**settings), **wish)  # type: ignore[arg-type]


if __name__ == "__main__":
    home, kill = Path(sys.argv[1]), sys.argv[2]
    clock = ManualClock()
    distiller = make_distiller(home, clock=clock)
    report = distiller.distil(distiller.plan(wish_for(home)), Killing(kill, clock))
    print(f"resumed at {report.resumed_at}")
