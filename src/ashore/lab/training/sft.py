"""Supervised fine-tuning: from a model and a file of examples to an adapter, or to a model of its own name."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ashore.core.errors import Conflict, UnsupportedModel
from ashore.core.ids import Digest
from ashore.data.engines import torch_libraries
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.store import ModelStore
from ashore.lab.training.adapters import keep_adapter
from ashore.lab.training.loop import LoopResult, StepReport, Watcher
from ashore.lab.training.runlog import RunLog
from ashore.lab.training.runstate import RunState
from ashore.lab.training.sftmodel import SftPlan, SftReport
from ashore.lab.training.trainee import Trainee

Say = Callable[[str], None]


class SftRun:
    """Carries out one plan. Model and adapters are changed only at the end, atomically."""

    def __init__(
        self, store: ModelStore, plan: SftPlan, *, runs: Path, adapters: Path, logs: Path, say: Say = lambda line: None
    ) -> None:
        """Create the object.

        Args:
            store: Has the model, and takes what is made of it.
            plan: From `plan_sft`.
            runs: Folder in which each run, by its name, keeps where it stands.
            adapters: Folder of the adapters of this installation.
            logs: Folder of the logs of runs.
            say: Called with each message beside the steps.
        """
        self._store, self._plan, self._adapters, self._say = store, plan, adapters, say
        self._folder, self._logs = runs / plan.name, logs

    def run(
        self, *, resume: bool, watch: Watcher = lambda report: None, stop: Callable[[], bool] = lambda: False
    ) -> SftReport | None:
        """Train, store the result, and return the report; None if `stop` ended it, which `resume` continues.

        May be called again after a crash at any point, with `resume`. Checkpoints of a sealed model are sealed with the
        model's data key.

        Raises:
            MissingExtra: no torch. Conflict: an unfinished run of this name is there, or one is under way.
            TrainingDiverged, DiskFull: see `train`. SealingKeyMissing: the model is sealed, and its key is not there.
        """
        torch, _ = torch_libraries()
        plan = self._plan
        if plan.parent.sealed is not None and plan.kind == "adapter":
            raise UnsupportedModel(
                f"{plan.parent.name} is sealed, but an adapter would be stored unencrypted",
                hint="add --merge; the merged model is sealed like its parent",
            )
        key = self._store.data_key(plan.parent) if plan.parent.sealed is not None else None
        with self._alone():
            state = RunState(folder=self._folder, key=key)
            begun = state.begun_with() if state.exists else {}
            if begun and not resume:
                raise Conflict(
                    f"there is an unfinished run of {plan.name} in {self._folder}",
                    hint=f"omit --no-resume to continue it, or choose another --name, or delete {self._folder}",
                )
            if begun.get("threads", "").isdigit():
                torch.set_num_threads(int(begun["threads"]))
            with RunLog(self._logs, plan.name) as log:
                log.say(
                    "begin", f"{plan.parent.reference} -> {plan.kind}, {plan.request.method}, {plan.data.used.name}"
                )
                report = self._trained(state, begun.get("precision", ""), _both(watch, log.step), stop)
                log.say("end" if report else "stop", f"{report.kind} {report.digest}" if report else "on request")
                return report

    def _trained(self, state: RunState, precision: str, watch: Watcher, stop: Callable[[], bool]) -> SftReport | None:
        with (
            self._store.reading(self._plan.parent.reference) as files,
            self._store.scratch(self._plan.parent) as scratch,
        ):
            trained = Trainee(self._plan, files, precision)
            self._say(f"{trained.precision} on {trained.threads} threads")
            state = dataclasses.replace(state, facts=trained.facts())
            before = trained.validate()
            result = trained.train(state, watch, stop)
            if result.stopped_by == "request":
                return None
            report = self._kept(trained, result, before, trained.validate(), scratch)
        state.clear()
        return report

    def _kept(
        self, trained: Trainee, result: LoopResult, before: float | None, after: float | None, scratch: Path
    ) -> SftReport:
        plan = self._plan
        recipe = trained.recipe(result, after)
        made = scratch / "made"
        trained.export(made)
        if plan.kind == "adapter":
            digest = _digest_of(made / "adapter_model.safetensors")
            folder = str(keep_adapter(made, self._adapters, plan.name, parent=plan.parent, recipe=recipe))
        else:
            digest, folder = self._store.add_derived(plan.parent, plan.name, made, recipe=recipe.to_notes()).digest, ""
        tenth = max(1, len(result.losses) // 10)
        return SftReport(
            name=plan.name,
            kind=plan.kind,
            parent=plan.parent.reference,
            digest=digest,
            folder=folder,
            method=plan.request.method,
            precision=trained.precision,
            steps=result.steps,
            planned_steps=plan.batches.num_steps,
            tokens=result.tokens,
            target_tokens=plan.data.num_targets,
            loss_first=_mean(result.losses[:tenth]),
            loss_last=_mean(result.losses[-tenth:]),
            validation_loss_before=before,
            validation_loss_after=after,
            seconds=result.seconds,
            tok_per_s=result.tokens / max(result.seconds, 1e-9),
            peak_memory_bytes=peak_memory_bytes(),
            estimated_memory_bytes=plan.memory.total_bytes,
            trained_parameters=trained.num_trained,
            parameters=plan.parent.shape.num_parameters,
            resumed_at_step=result.resumed_at,
            data_wait_s=result.data_wait_s,
            checkpoint_stall_s=result.stall_s,
            checkpoints=result.checkpoints,
            examples=plan.data.num_examples,
            examples_cut=plan.data.num_cut,
            lines_left_out=plan.data.left_out,
            recipe=recipe.to_notes(),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the run's folder, which is deleted when it is empty."""
        make_folder(self._folder, mode=0o700)
        hint = "wait for it, or choose another --name"
        busy = Conflict(f"another process is training {self._plan.name}", hint=hint)
        with locked(self._folder / "lock", lambda: busy):
            yield
            if {path.name for path in self._folder.iterdir()} == {"lock"}:
                (self._folder / "lock").unlink()
                self._folder.rmdir()


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _both(*watchers: Watcher) -> Watcher:
    def told(report: StepReport) -> None:
        for watcher in watchers:
            watcher(report)

    return told


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
