"""The model of a plan in memory: trained, judged by its loss, written out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ashore.data.engines import torch_libraries
from ashore.kit.store import ModelFilesOnDisk, VariantRecipe, versions_of
from ashore.lab.training.adapters import LoraOptions, add_lora, merge_adapter, save_adapter
from ashore.lab.training.batches import pack_rows
from ashore.lab.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.lab.training.loop import LoopOptions, LoopResult, Precision, Watcher, mean_loss, train
from ashore.lab.training.losses import answer_loss
from ashore.lab.training.memory import mlp_size
from ashore.lab.training.runstate import RunState
from ashore.lab.training.sftmodel import SftPlan

MAKER: Final = "sft"


class Trainee:
    """The model of a plan in memory, and what is done with it."""

    def __init__(self, plan: SftPlan, files: ModelFilesOnDisk, precision: str) -> None:
        torch, _ = torch_libraries()
        request = plan.request
        self._plan, self._files, self.threads = plan, files, torch.get_num_threads()
        self.precision = self._precision(precision)
        half = request.method == "lora" and self.precision == "bfloat16"
        loaded = load_checkpoint(files, dtype="bfloat16" if half else "float32")
        lora = LoraOptions(rank=request.rank, alpha=2 * request.rank)
        self._peft = add_lora(loaded, lora, seed=request.seed) if request.method == "lora" else None
        self._model = self._peft.get_base_model() if self._peft is not None else loaded
        self.num_trained = sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    @property
    def model(self) -> Any:
        """The model with its trained parts."""
        return self._model

    def train(self, state: RunState | None, watch: Watcher, stop: Callable[[], bool]) -> LoopResult:
        plan = self._plan
        options = LoopOptions(
            learning_rate=plan.learning_rate,
            seed=plan.request.seed,
            precision=self.precision,
            gradient_checkpointing=plan.gradient_checkpointing,
            max_seconds=60 * plan.request.max_minutes,
            checkpoint_s=plan.request.checkpoint_every,
        )
        return train(self._model, plan.batches, answer_loss, options, state=state, watch=watch, stop=stop)

    def validate(self) -> float | None:
        if self._plan.validation is None:
            return None
        data = self._plan.validation
        rows = map(data.batch, pack_rows(data.lengths, range(data.num_examples), self._plan.row_tokens))
        return mean_loss(self._model, rows, answer_loss, self.precision)

    def export(self, folder: Path) -> None:
        """Write the adapter, or the whole model, to `folder`."""
        if self._peft is None:
            save_checkpoint(self._model, self._files, folder)
        elif self._plan.kind == "adapter":
            save_adapter(self._peft, folder, parent=self._plan.parent)
        elif self.precision == "float32":
            save_checkpoint(self._peft.merge_and_unload(), self._files, folder)
        else:
            adapter = save_adapter(self._peft, folder.with_name("adapter"), parent=self._plan.parent)
            self._peft = self._model = None
            save_checkpoint(merge_adapter(load_checkpoint(self._files), adapter), self._files, folder)

    def facts(self) -> dict[str, str]:
        """Return the facts that a resumed run must share with the original."""
        plan = self._plan
        recipe = self._recipe({})
        data = {used.role: used.digest for used in recipe.data}
        parameters = {n: v for n, v in recipe.parameters.items() if n != "keep"}
        versions = {f"version of {n}": v for n, v in recipe.versions.items()}
        return {"parent": plan.parent.digest, "seed": str(recipe.seed), **parameters, **data, **versions}

    def recipe_of(self, steps: int) -> VariantRecipe:
        """Return the recipe of a run, from its steps only."""
        return self._recipe({"steps": str(steps)})

    def recipe(self, result: LoopResult, validation_loss: float | None) -> VariantRecipe:
        facts = {"steps": str(result.steps), "tokens": str(result.tokens), "loss": f"{result.losses[-1]:.6g}"}
        if validation_loss is not None:
            facts["validation_loss"] = f"{validation_loss:.6g}"
        return self._recipe(facts)

    def _recipe(self, facts: dict[str, str]) -> VariantRecipe:
        plan, request = self._plan, self._plan.request
        return VariantRecipe(
            maker=MAKER,
            parameters={
                "method": request.method,
                "keep": plan.kind,
                "epochs": repr(request.epochs),
                "max_tokens": str(request.max_tokens),
                "learning_rate": repr(plan.learning_rate),
                "batch_tokens": str(request.batch_tokens),
                "max_length": str(request.max_length),
                "row_tokens": str(plan.row_tokens),
                "rank": str(request.rank),
                "precision": self.precision,
                "gradient_checkpointing": "yes" if plan.gradient_checkpointing else "no",
                "threads": str(self.threads),
                **({"skip_broken": "yes"} if request.skip_broken else {}),
            },
            data=(plan.data.used,),
            versions=versions_of("torch", "transformers", *(("peft",) if request.method == "lora" else ())),
            seed=request.seed,
            facts=facts,
        )

    def _precision(self, begun: str) -> Precision:
        asked = self._plan.request.precision
        if asked != "auto":
            return asked
        if begun in ("float32", "bfloat16"):
            return "bfloat16" if begun == "bfloat16" else "float32"
        shape = self._plan.parent.shape
        return faster_precision(shape.hidden_size, mlp_size(shape), self._plan.row_tokens)


BF16_UNITS: Final = frozenset(("amx_bf16", "avx512_bf16"))
"""Flags of processors that multiply BF16. Without one of them it is slower, and nothing is measured."""
ROUNDS: Final = 5
GAIN: Final = 1.15
"""BF16 must be that much faster: it costs bits, and casts that this measurement leaves out."""


def faster_precision(hidden_size: int, mlp_size: int, row_tokens: int) -> Precision:
    """Return the precision in which a layer's forward and backward products are faster here. Takes about 0.2 s."""
    if BF16_UNITS.isdisjoint(_processor_flags()):
        return "float32"
    import torch

    times = {dtype: _best_s(torch, dtype, hidden_size, mlp_size, row_tokens) for dtype in ("float32", "bfloat16")}
    return "bfloat16" if times["float32"] > GAIN * times["bfloat16"] else "float32"


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith("flags") for word in line.split())


def _best_s(torch: Any, dtype: str, hidden_size: int, mlp_size: int, row_tokens: int) -> float:
    weight = torch.ones((mlp_size, hidden_size), dtype=getattr(torch, dtype))
    row = torch.ones((row_tokens, hidden_size), dtype=weight.dtype)
    best = float("inf")
    with torch.no_grad():
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            (row @ weight.T) @ weight
            best = min(best, time.perf_counter() - begun)
    return best
