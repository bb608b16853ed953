"""`ashore optimize distill`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.modelstore import model_json
from ashore.cli.progress import TerminalProgress
from ashore.core import EngineKind, human_bytes

if TYPE_CHECKING:
    from ashore.optimize.distilling import DistilPlan, DistilReport
    from ashore.training import StepReport

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
Files = Annotated[tuple[Path, ...], Parameter(negative=())]


@also_a_job("optimize distill")
def distill(
    teacher: str,
    /,
    *,
    student: str | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    intermediate: int | None = None,
    data: Files = (),
    text: Files = (),
    name: str | None = None,
    method: Literal["full", "lora"] = "full",
    rank: int = 16,
    teacher_engine: EngineKind | None = None,
    top: int = 64,
    temperature: float = 1.0,
    text_share: float = 0.0,
    input_share: float = 0.3,
    epochs: float = 1.0,
    max_tokens: int = 0,
    learning_rate: float = 5e-4,
    batch_tokens: int = 512,
    window_tokens: int = 256,
    seed: int = 0,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Train a smaller model to answer like a larger one, and store it as a new model.

    To resume after an interruption, run the same command again.

    Parameters
    ----------
    teacher
        Name[@variant] in the store.
    student
        A smaller model in the store, such as a pruned one; default: a student cut out of the teacher.
    layers
        Layers of a cut-out student, evenly spaced. If no size is given, it gets half of the teacher's parameters.
    hidden
        Its hidden size, a multiple of the size of one group of heads.
    intermediate
        Its feed-forward width, a multiple of 32.
    data
        Chat or completion JSONL with the task of the student. May be repeated.
    text
        Plain UTF-8 text of the language that it should keep. May be repeated.
    name
        Name of the new model; default: TEACHER-distilled.
    method
        full: train all weights of the student; lora: train adapters, which need less memory and are merged at the end.
    rank
        Rank of the adapters.
    teacher_engine
        Engine that runs the teacher; default: the one that evaluates it.
    top
        Number of likely tokens whose probabilities the teacher gives at each position, 1 to 255.
    temperature
        Temperature for comparing teacher and student; above 1, unlikely tokens count for more.
    text_share
        Weight of the tokens in the data itself, relative to the answers of the teacher.
    input_share
        Share of the loss for the tokens before the answers.
    epochs
        Passes over the data.
    max_tokens
        Stop after this many tokens; 0: no limit.
    learning_rate
        Peak learning rate.
    batch_tokens
        Tokens per step.
    window_tokens
        Longest example, in tokens; texts are split into pieces of this length.
    seed
        Seed of everything random.
    dry_run
        Show what would be made and what it needs, and make nothing.
    as_json
        Print JSON.
    """
    from ashore import bootstrap
    from ashore.optimize.distilling import DistilSettings, DistilWish
    from ashore.settings import read_settings

    settings = read_settings()
    store = bootstrap.build_store(settings.home, settings)
    wish = DistilWish(
        teacher=teacher,
        student=student,
        data=data,
        text=text,
        name=name,
        teacher_engine=teacher_engine,
        settings=DistilSettings(
            layers=layers,
            hidden=hidden,
            intermediate=intermediate,
            method=method,
            rank=rank,
            most=top,
            temperature=temperature,
            text_share=text_share,
            input_share=input_share,
            epochs=epochs,
            max_tokens=max_tokens,
            learning_rate=learning_rate,
            batch_tokens=batch_tokens,
            window_tokens=window_tokens,
            seed=seed,
        ),
    )
    with TerminalProgress() as progress:
        distiller = bootstrap.distiller(store, settings.home, told=progress.share)
        plan = distiller.plan(wish)
        for note in plan.notes:
            print(f"note: {note}", file=sys.stderr)
        if not dry_run:
            report = distiller.distil(plan, _Shown(progress))
    if dry_run:
        return _print(_plan_json(plan)) if as_json else _show_plan(plan)
    return _print(_report_json(plan, report)) if as_json else _show_report(plan, report)


class _Shown:
    """A `Watcher` that draws."""

    def __init__(self, progress: TerminalProgress) -> None:
        self._progress = progress

    def stage(self, name: str, done: int, total: int) -> None:
        """See `Watcher`."""
        self._progress.steps(name, done, total, f"{done:,} of {total:,}")

    def step(self, report: StepReport) -> None:
        """See `Watcher`."""
        self._progress.steps(
            "student learns",
            report.step,
            report.num_steps,
            f"step {report.step:,} of {report.num_steps:,}, loss {report.loss:.3f}, {report.tok_per_s:.0f} tokens/s",
        )


def _plan_json(plan: DistilPlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "teacher": plan.wish.teacher,
        "parent": plan.parent.reference,
        "teacher_parameters": plan.teacher.shape.num_parameters,
        "student_parameters": plan.sizes.student_parameters,
        "examples": plan.num_examples,
        "tokens": plan.num_tokens,
        "train_tokens": plan.train_tokens,
        "memory_bytes": plan.sizes.memory_bytes(plan.wish.settings),
        "notes": list(plan.notes),
    }


def _report_json(plan: DistilPlan, report: DistilReport) -> dict[str, Any]:
    return {
        "model": model_json(report.student),
        "teacher_parameters": plan.teacher.shape.num_parameters,
        "student_parameters": plan.sizes.student_parameters,
        "tokens": report.tokens,
        "seconds": round(report.seconds, 1),
        "first_loss": report.first_loss,
        "last_loss": report.last_loss,
        "logit_bytes_per_token": report.logit_bytes_per_token,
        "resumed_at": report.resumed_at,
        "recipe": report.student.recipe,
    }


def _show_plan(plan: DistilPlan) -> None:
    print(f"{plan.name}: {_size(plan)}, from {plan.parent.reference}")
    print(f"learns from {plan.wish.teacher}: {plan.num_examples:,} examples, {plan.train_tokens:,} tokens")
    print(f"memory: about {human_bytes(plan.sizes.memory_bytes(plan.wish.settings))}")


def _show_report(plan: DistilPlan, report: DistilReport) -> None:
    print(f"{report.student.reference}: {_size(plan)}")
    took = f"{report.tokens:,} tokens in {report.seconds:.0f} s"
    print(f"loss {report.first_loss:.3f} -> {report.last_loss:.3f} over {took}")
    print(
        f"the teacher's probabilities: {report.logit_bytes_per_token:.0f} bytes per token, stored for the next student"
    )
    print(f"next: ashore optimize evaluate {report.student.reference} --against {plan.wish.teacher}")


def _size(plan: DistilPlan) -> str:
    share = f", {plan.share:.0%} of the teacher's" if plan.share else ""
    return f"{plan.sizes.student_parameters:,} parameters{share}"


def _print(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=1))
