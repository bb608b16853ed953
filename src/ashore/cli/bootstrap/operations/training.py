"""`train sft`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ashore.cli.bootstrap.operations.model import EXIT_INTERRUPTED, Operation, Shown, Work
from ashore.cli.bootstrap.optimizing import plan_sft, sft_run
from ashore.cli.bootstrap.stores import build_store
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.data.jobs.operations.asks import Sft
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    from ashore.lab.training import SftPlan, SftReport


def _planned(asked: Sft, work: Work) -> SftPlan:
    from ashore.lab.training import SftRequest

    settings = read_settings()
    return plan_sft(
        settings.home,
        build_store(settings.home, settings),
        SftRequest.of(asked),
        say=work.say,
        told=lambda stage, done, total: work.steps(stage, done, total, f"shard {done:,} of {total:,}"),
    )


def plan(asked: Sft, work: Work) -> Shown:
    """Show the data, the number of steps and the memory that a run would use. The time per step is known only after the
    first step of a run."""
    found = _planned(asked, work)
    return Shown(document=_plan_json(found), lines=_plan_lines(found))


def sft(asked: Sft, work: Work) -> Shown:
    """Fine-tune, and store the adapter or the model."""
    found = _planned(asked, work)
    for line in _plan_lines(found):
        work.say(line)
    settings = read_settings()
    report = sft_run(settings.home, build_store(settings.home, settings), found, say=work.say).run(
        resume=asked.resume,
        watch=lambda step: work.steps("train", step.step, step.num_steps, step.words),
        stop=work.stopping,
    )
    if report is None:
        work.say("stopped; to resume, run the same command again")
        return Shown(document={"state": "stopped"}, lines=(), code=EXIT_INTERRUPTED)
    return Shown(document=asdict(report), lines=_report_lines(report))


def _plan_json(plan: SftPlan) -> dict[str, Any]:
    return {
        "model": plan.parent.reference,
        "name": plan.name,
        "kind": plan.kind,
        "method": plan.request.method,
        "examples": plan.data.num_examples,
        "examples_cut": plan.data.num_cut,
        "lines_left_out": list(plan.data.left_out),
        "skipped": list(plan.data.skipped),
        "num_skipped": plan.data.num_skipped,
        "tokens": plan.batches.num_tokens,
        "target_tokens": plan.data.num_targets,
        "steps": plan.batches.num_steps,
        "row_tokens": plan.row_tokens,
        "learning_rate": plan.learning_rate,
        "gradient_checkpointing": plan.gradient_checkpointing,
        "trained_parameters": plan.trained_parameters,
        "memory_bytes": plan.memory.total_bytes,
        "available_memory_bytes": plan.available_bytes,
        "data": asdict(plan.data.used),
    }


def _plan_lines(plan: SftPlan) -> Sequence[str]:
    data = plan.data
    lines = [
        f"{plan.parent.reference} -> {plan.kind} {plan.name}, {plan.request.method}, rate {plan.learning_rate:g}",
        f"{data.num_examples:,} examples; trains on {data.num_targets:,} of {data.num_tokens:,} tokens",
        f"{plan.batches.num_steps:,} steps, {plan.batches.num_tokens:,} tokens",
        f"memory: about {human_bytes(plan.memory.total_bytes)} of {human_bytes(plan.available_bytes)}"
        + (", activations recomputed" if plan.gradient_checkpointing else ""),
    ]
    if data.num_cut:
        lines.append(f"note: {data.num_cut:,} examples are longer than --max-length and are truncated")
    if data.num_left_out:
        places = ", ".join(data.left_out) + (", ..." if data.num_left_out > len(data.left_out) else "")
        lines.append(f"note: {data.num_left_out:,} examples have nothing left to learn and are skipped ({places})")
    if data.num_skipped:
        more = "\n  ..." if data.num_skipped > len(data.skipped) else ""
        lines.append(f"note: {data.num_skipped:,} broken ones are skipped:\n  " + "\n  ".join(data.skipped) + more)
    return lines


def _report_lines(report: SftReport) -> Sequence[str]:
    lines = [
        f"{report.kind} {report.name}  {report.digest}",
        f"loss {report.loss_first:.3f} -> {report.loss_last:.3f} over {report.steps:,} steps",
    ]
    if report.validation_loss_before is not None and report.validation_loss_after is not None:
        lines.append(f"validation loss {report.validation_loss_before:.3f} -> {report.validation_loss_after:.3f}")
    if report.steps < report.planned_steps:
        lines.append(f"stopped by --max-minutes after {report.steps:,} of {report.planned_steps:,} steps")
    if report.checkpoints:
        stall = f"{report.checkpoint_stall_s:.2f} s for {counted(report.checkpoints, 'checkpoint')}"
        lines.append(f"waited {report.data_wait_s:.2f} s for data and {stall}")
    peak = human_bytes(report.peak_memory_bytes)
    took = f"{report.seconds:.0f} s ({report.tok_per_s:.0f} tokens/s)"
    lines.append(f"{report.tokens:,} tokens in {took}, at most {peak}")
    if report.kind == "model":
        return [*lines, f"serve it: ashore up {report.name}"]
    return [
        *lines,
        f'serve it: in ashore.toml, under [[model]] name = "{report.parent}":',
        f'  [model.adapters]\n  {report.name} = "{Path(report.folder).absolute()}"',
    ]


OPERATIONS: Final = (Operation(name="train sft", takes=Sft, do=sft, plan=plan, stops=True),)
