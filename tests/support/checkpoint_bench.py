"""States whose every bit follows from their step; run as a program, processes that save them until they are killed."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

from ashore.lab.training import RunState
from ashore.lab.training.checkpointing.form import Checkpoint, Position


class Numbers:
    """A state like that of a run: many tensors of many sizes, which only `update` changes."""

    def __init__(self, seed: int = 0, *, scale: int = 1) -> None:
        import torch

        rng = random.Random(seed)
        sizes = [(3_000_000 * scale,), (700, 900), (1,), (), (257,), (5, 7)] + [
            (rng.randrange(1, 4000),) for _ in range(60)
        ]
        self.tensors: dict[str, Any] = {f"t{n}": torch.zeros(size) for n, size in enumerate(sizes)}
        self.tensors["generator"] = torch.zeros(5056, dtype=torch.uint8)
        self.tensors["half"] = torch.zeros(33, dtype=torch.bfloat16)

    def update(self, step: int) -> None:
        """Make the state that of `step`."""
        for n, tensor in enumerate(self.tensors.values()):
            tensor.fill_((step * 31 + n) % 251)

    def faults_of(self, found: Checkpoint) -> list[str]:
        """Return the names of the tensors of a checkpoint that are not those of its step."""
        import torch

        self.update(found.position.step)
        assert found.tensors.keys() == self.tensors.keys()
        return [name for name, tensor in self.tensors.items() if not torch.equal(tensor, found.tensors[name])]


def serve(folder: Path) -> None:
    """For each line, a step: start a process that saves from there on, say its id, and wait until it is killed."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        if pid := os.fork():
            print(f"pid {pid}", flush=True)
            os.waitpid(pid, 0)
            print("gone", flush=True)
        else:
            save(folder, int(line))


def save(folder: Path, first: int) -> None:
    """Save every step, as fast as it goes; say which is on disk."""
    state, numbers = RunState(folder=folder), Numbers()
    writer = state.writer()
    begun = told = 0
    for step in range(first, 1_000_000):
        writer.before_update()
        numbers.update(step)
        if not writer.is_busy:
            if begun > told:
                told = begun
                os.write(1, f"durable {told}\n".encode())  # in one piece, whenever it is killed
            if writer.begin(Position(step=step, tokens=0, seconds=0.0), lambda: numbers.tensors):
                begun = step


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
