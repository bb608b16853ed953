"""The commands of `ashore` that the optimising benchmark runs, as a user would, and what it reads of their output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.optimise.meter import CommandFailed, Metered, ashore
from benchmarks.optimise.scale import MOST_TOKENS, Scale
from benchmarks.optimise.stages import Facts
from benchmarks.optimise.task import Files


@dataclass(frozen=True, slots=True)
class Training:
    """How one method is trained."""

    learning_rate: str
    batch_tokens: str

    def settings(self, epochs: int) -> dict[str, object]:
        """Return what a result depends on."""
        return {"learning_rate": self.learning_rate, "batch_tokens": self.batch_tokens, "epochs": epochs}


STUDENT_TEXT_SHARE = "0.3"
"""What the items themselves say counts this much beside what the teacher says of them."""
TRAINING = {"full": Training("1e-4", "512"), "lora": Training("1e-3", "256")}
"""With 512 tokens, about thirty items, the loss on them is below a nat in half an epoch. Small matrices that begin at
zero want more steps: with half as many tokens in each they have twice as many in an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Where the benchmark's models are made: a home, the task's files, and a log of all that the commands said."""

    home: Path
    files: Files
    log: Path
    scale: Scale

    def run(self, *words: str) -> Metered:
        return ashore(self.home, *words, log=self.log)

    def show(self, reference: str) -> dict[str, Any]:
        return dict(self.run("model", "show", reference, "--json").json())

    def has(self, reference: str) -> bool:
        """Tell whether the store has it, as it may after a run that was killed."""
        try:
            self.show(reference)
        except CommandFailed:
            return False
        return True

    def train(self, base: str, name: str, method: str) -> Metered:
        """Fine-tune `base` on the task into the model `name`; goes on where a killed run stood."""
        how, merged = TRAINING[method], ("--merge",) if method == "lora" else ()
        return self.run(
            "train", "sft", base, "--data", str(self.files.train), "--method", method, "--name", name, *merged,
            "--epochs", str(self.scale.epochs), "--max-tokens", str(MOST_TOKENS),
            "--learning-rate", how.learning_rate, "--batch-tokens", how.batch_tokens, "--json",
        )  # fmt: skip

    def prune(self, parent: str, name: str, share: str, *, kind: str = "mixed", heal: bool = True) -> Metered:
        """Remove a share of the parameters, and heal what is left on the task's training items."""
        healing = ("--heal", str(self.files.train), "--heal-tokens", str(self.scale.heal_tokens)) if heal else ()
        return self.run(
            "optimize", "prune", parent, "--remove", share, "--kind", kind, "--name", name, *healing, "--json"
        )

    def distill(self, teacher: str, name: str) -> Metered:
        """Teach a student of at most half the teacher's parameters on the task's training items."""
        return self.run(
            "optimize", "distill", teacher, "--name", name, "--data", str(self.files.train),
            "--epochs", str(self.scale.student_epochs), "--max-tokens", str(MOST_TOKENS),
            "--top", "20", "--input-share", "0.1", "--text-share", STUDENT_TEXT_SHARE, "--json",
        )  # fmt: skip

    def variant(self, model: str, to: str) -> str:
        """Return `model@to`, made now if it is absent, or was made of an earlier `model`."""
        reference = f"{model}@{to}"
        if not self.has(reference) or self.show(reference)["parent"] != self.show(model)["digest"]:
            self.run("optimize", "quantize", model, "--to", to, "--json")
        return reference

    def evaluate(self, reference: str) -> dict[str, float]:
        """Return the shares of right answers on the task and on the untouched skill, as served."""
        tasks = ("--task", str(self.files.kinds), "--task", str(self.files.words))
        report = self.run("optimize", "evaluate", reference, *tasks, "--no-speed", "--json").json()["report"]
        found = {result["task"]: result["accuracy"]["value"] for result in report["tasks"]}
        return {"task": found["kinds"], "skill": found["words"]}

    def parameters(self, reference: str) -> int:
        return int(self.show(reference)["shape"]["num_parameters"])

    def judged(self, name: str, made: Metered, *, served: str) -> Facts:
        """Return what making the model `name` took, how large it is, and how good its variant `served` is."""
        said = made.json()
        return {
            # What a run tells of itself counts the time before it was stopped and resumed too.
            "seconds": said.get("seconds", made.seconds),
            "peak_bytes": said.get("peak_memory_bytes", made.peak_bytes),
            "parameters": self.parameters(name),
            "said": said,
            **self.evaluate(self.variant(name, served)),
        }
