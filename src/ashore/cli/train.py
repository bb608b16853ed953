"""`ashore train`: teach a stored model from examples."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.interrupted import asked_to_stop
from ashore.cli.progress import TerminalProgress
from ashore.cli.trainattack import attack, canaries
from ashore.cli.trainprivate import private
from ashore.core import counted, human_bytes, parse_seconds

if TYPE_CHECKING:
    from ashore.training import LogLine, RunFigures, SftPlan, SftReport

app = App(name="train", help="Fine-tune a model on your own examples: adapters or all weights.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
EXIT_INTERRUPTED = 130


app.command(private)
app.command(canaries)
app.command(attack)


@app.command
@also_a_job("train sft")
def sft(
    model: str,
    /,
    *,
    data: str,
    validation: str = "",
    method: Literal["lora", "full"] = "lora",
    epochs: float = 0.0,
    max_tokens: int = 0,
    learning_rate: Annotated[float, Parameter(name=("--learning-rate", "--lr"))] = 0.0,
    batch_tokens: int = 2048,
    max_length: int = 1024,
    rank: int = 16,
    seed: int = 0,
    name: str = "",
    merge: Flag = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    gradient_checkpointing: bool | None = None,
    max_minutes: float = 0.0,
    checkpoint_every: float = 0.0,
    keep: int = 2,
    checkpoints: str = "",
    workers: int | None = None,
    skip_broken: Flag = False,
    data_cache_gib: float = 4.0,
    resume: bool = True,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> int:
    """Fine-tune a model on example answers.

    The result is an adapter in adapters/ of the home, or, with --merge or --method full, a new model. Ctrl-C stops
    after the current step. To resume, also after a crash, run the same command again.

    Parameters
    ----------
    model
        Name in the store, as pulled or derived.
    data
        A file, a folder of shards, or s3://BUCKET/PATH, with {000..031} for many. JSONL, WebDataset (.tar), Parquet or
        text; see docs/reference/training-data.md.
    validation
        Examples for validation only, in the same forms. Their loss is reported before and after the training.
    method
        lora: train small matrices beside frozen weights; full: train all weights, which takes three times the memory.
    epochs
        Passes over the data; default: one, or, with --max-tokens, as many as that allows.
    max_tokens
        Stop before the run exceeds this many tokens; 0: no limit.
    learning_rate
        Peak learning rate; default: 5e-4 for lora, 5e-5 for full.
    batch_tokens
        Tokens per step.
    max_length
        Longest example, in tokens. Longer chats and prompts are truncated, which is reported; longer texts are split.
    rank
        Rank of the adapter.
    seed
        Seed of the order and the initial values. Equal seeds give equal weights on one machine.
    name
        Name of the result; default: MODEL-sft.
    merge
        Merge the adapter into the weights, and store the result as a model.
    precision
        Precision of the matrix products; auto measures which is faster here.
    gradient_checkpointing
        Recompute activations instead of keeping them, which saves memory; default: only if memory is short.
    max_minutes
        Stop after this many minutes, and keep what was learned by then; 0: no limit.
    checkpoint_every
        Seconds between two checkpoints; default: 30, or more if one costs more than a twentieth of a processor. They
        are written while training goes on.
    keep
        Number of checkpoints to keep, 2 or more.
    checkpoints
        s3://BUCKET/PATH: copy each checkpoint there too, below the name of the run. If the home is lost, the same
        command resumes from there.
    workers
        Processes that read and tokenise ahead of the training; 0: the training process does. Default: by the data and
        the machine. Does not change the result.
    skip_broken
        Leave out shards and examples that are broken, and name them; default: a broken one stops the command.
    data_cache_gib
        Most space, in GiB, for shards that are fetched from S3 or unpacked.
    resume
        Resume an unfinished run of this name; with --no-resume, an unfinished run is an error.
    dry_run
        Show the data, the number of steps and the memory that a run would use, and do nothing. The time per step is
        known only after the first step of a run.
    as_json
        Print JSON.
    """
    from ashore import bootstrap
    from ashore.settings import read_settings
    from ashore.training import AUTO_WORKERS, SftRequest

    request = SftRequest(
        model=model,
        data=data,
        validation=validation,
        method=method,
        epochs=epochs,
        max_tokens=max_tokens,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        max_length=max_length,
        rank=rank,
        seed=seed,
        name=name,
        merge=merge,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        max_seconds=60 * max_minutes,
        checkpoint_s=checkpoint_every,
        kept=keep,
        mirror=checkpoints,
        workers=AUTO_WORKERS if workers is None else workers,
        skip_broken=skip_broken,
        data_cache_bytes=int(data_cache_gib * (1 << 30)),
    )
    settings = read_settings()
    store = bootstrap.build_store(settings.home, settings)
    say = partial(print, file=sys.stderr)
    with TerminalProgress() as progress:
        told = lambda stage, done, total: progress.steps(stage, done, total, f"shard {done:,} of {total:,}")  # noqa: E731
        plan = bootstrap.plan_sft(settings.home, store, request, say=say, told=told)
    if dry_run:
        _print(_plan_json(plan)) if as_json else _show_plan(plan, sys.stdout)
        return 0
    _show_plan(plan, sys.stderr)
    run = bootstrap.sft_run(settings.home, store, plan, say=say)
    with asked_to_stop() as stop, TerminalProgress() as progress:
        report = run.run(
            resume=resume,
            watch=lambda step: progress.steps(
                "train",
                step.step,
                step.num_steps,
                f"step {step.step:,} of {step.num_steps:,}, loss {step.loss:.3f}, {step.tok_per_s:.0f} tokens/s",
            ),
            stop=stop,
        )
    if report is None:
        print("stopped; to resume, run the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED
    _print(asdict(report)) if as_json else _show_report(report)
    return 0


@app.command
def log(
    run: str = "",
    /,
    *,
    grep: str = "",
    since: str = "",
    archive: str = "",
    older_than: str = "",
    as_json: AsJson = False,
) -> None:
    """Show and search the logs of training runs: loss, rate, throughput, waits, stalls and memory of every step.

    Without a name, all runs in figures. Logs stay when a run ends.

    Parameters
    ----------
    run
        Name of the run, which is the name of its result.
    grep
        Only lines with this word, such as begin, stop or "step":120.
    since
        Only what is not older, such as 2h or 7d.
    archive
        s3://BUCKET/PATH of archived logs; they are searched too.
    older_than
        With --archive: move logs whose last line is older than this into the bucket first, such as 30d.
    as_json
        Print JSON: a line for each step, or the figures of all runs.
    """
    from ashore.settings import read_settings
    from ashore.training import LogBucket, RunLogs

    logs = RunLogs(read_settings().home.logs / "training", LogBucket(archive) if archive else None)
    now_s = time.time()
    if older_than:
        for name in logs.archive(older_than_s=parse_seconds(older_than), now_s=now_s):
            print(f"archived {name}", file=sys.stderr)
    if not run and not grep and not since:
        found = [logs.figures(name) for name in logs.runs()]
        if as_json:
            _print(found)
        for one in () if as_json else found:
            print(_figures(one))
        return
    for line, raw in logs.lines(run, pattern=grep, since_s=now_s - parse_seconds(since) if since else 0.0):
        print(raw.decode() if as_json else _line(line))


def _figures(one: RunFigures) -> str:
    memory = human_bytes(one.peak_memory_bytes)
    return (
        f"{one.run}: {one.state} at step {one.steps:,} of {one.num_steps:,}, loss {one.loss_first:.3f} -> "
        f"{one.loss_last:.3f}, rate {one.learning_rate:.2g}, {one.tok_per_s:.0f} tokens/s, waiting for data "
        f"{one.data_wait_share:.1%}, for checkpoints {one.stall_share:.1%}, at most {memory}, begun "
        f"{_utc(one.begun_at)}"
    )


def _line(line: LogLine) -> str:
    if line.what != "step":
        return f"{_utc(line.at)}  {line.run}  {line.what}  {line.text}"
    return (
        f"{_utc(line.at)}  {line.run}  step {line.step:,} of {line.num_steps:,}  loss {line.loss:.4f}  rate "
        f"{line.learning_rate:.2g}  {line.tok_per_s:.0f} tokens/s  data {line.data_wait_s:.3f} s  checkpoint "
        f"{line.stall_s:.3f} s  {human_bytes(line.memory_bytes)}"
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


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
        "workers": plan.workers,
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


def _show_plan(plan: SftPlan, file: Any) -> None:
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
    print("\n".join(lines), file=file)


def _show_report(report: SftReport) -> None:
    print(f"{report.kind} {report.name}  {report.digest}")
    print(f"loss {report.loss_first:.3f} -> {report.loss_last:.3f} over {report.steps:,} steps")
    if report.validation_loss_before is not None and report.validation_loss_after is not None:
        print(f"validation loss {report.validation_loss_before:.3f} -> {report.validation_loss_after:.3f}")
    if report.steps < report.planned_steps:
        print(f"stopped by --max-minutes after {report.steps:,} of {report.planned_steps:,} steps")
    if report.checkpoints:
        stall = f"{report.checkpoint_stall_s:.2f} s for {counted(report.checkpoints, 'checkpoint')}"
        print(f"waited {report.data_wait_s:.2f} s for data and {stall}")
    peak = human_bytes(report.peak_memory_bytes)
    print(f"{report.tokens:,} tokens in {report.seconds:.0f} s ({report.tok_per_s:.0f} tokens/s), at most {peak}")
    if report.kind == "model":
        print(f"serve it: ashore up {report.name}")
        return
    print(f'serve it: in ashore.toml, under [[model]] name = "{report.parent}":')
    print(f'  [model.adapters]\n  {report.name} = "{Path(report.folder).absolute()}"')


def _print(document: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
