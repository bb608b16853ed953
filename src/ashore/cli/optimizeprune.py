"""`ashore optimize prune`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import exp
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.modelstore import model_json
from ashore.cli.progress import TerminalProgress
from ashore.core import human_bytes, read_share
from ashore.optimize.pruning import Kind, PruneOrder, PruneReport, PruneWish
from ashore.optimize.pruning.model import HEAL_TOKENS, Method

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]


@also_a_job("optimize prune")
def prune(
    model: str,
    /,
    *,
    remove: str,
    kind: Kind = "mixed",
    calibration: Path | None = None,
    heal: Path | None = None,
    heal_tokens: int = HEAL_TOKENS,
    method: Method = "distill",
    learning_rate: float | None = None,
    name: str = "",
    seed: int = 0,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Make a smaller model: remove the parts that matter least, then train the rest to answer as before.

    The result is an ordinary model with its own name. Quantise, evaluate and serve it like any other. To resume after
    an interruption, run the same command again.

    Parameters
    ----------
    model
        Name in the store, as pulled or derived.
    remove
        Share of all parameters to remove, such as 30%; at least that many are removed.
    kind
        What to remove: layers (depth), feed-forward channels and then groups of heads (width), or layers and channels
        (mixed). unstructured removes nothing and sets the smallest weights to 0; the model does not get faster.
    calibration
        Plain UTF-8 text for measuring which parts matter least; default: the text of --heal.
    heal
        Text for training the rest to answer like the parent: plain UTF-8, or examples in JSONL.
    heal_tokens
        Most tokens to train on.
    method
        distill: train all that is left but the vocabulary; lora: train adapters, which need less memory and are merged
        at the end.
    learning_rate
        Peak learning rate of the training; default: 0.0005, with adapters 0.002.
    name
        Name of the new model; default: MODEL-pruned30 for 30%.
    seed
        Seed that chooses the samples of the text, and their order.
    dry_run
        Show what would be removed and what that can gain, and make nothing.
    as_json
        Print JSON.
    """
    from ashore import bootstrap
    from ashore.settings import read_settings

    wish = PruneWish(
        model=model,
        share=read_share(remove),
        kind=kind,
        calibration=calibration,
        heal=heal,
        heal_tokens=heal_tokens,
        method=method,
        learning_rate=learning_rate,
        name=name,
        seed=seed,
    )
    settings = read_settings()
    pruner = bootstrap.pruner(settings, bootstrap.build_store(settings.home, settings))
    order = pruner.plan(wish)
    if dry_run:
        return _print(_order_json(order)) if as_json else _show_order(order)
    if not as_json:
        _show_order(order, file=sys.stderr)
    with TerminalProgress() as progress:
        report = pruner.make(
            order,
            told=progress.share,
            watch=lambda step: progress.steps(
                "heal",
                step.step,
                step.num_steps,
                f"step {step.step:,} of {step.num_steps:,}, loss {step.loss:.3f}, {step.tok_per_s:.0f} tokens/s",
            ),
        )
    return _print(_report_json(report)) if as_json else _show_report(report)


def _order_json(order: PruneOrder) -> dict[str, Any]:
    plan = order.plan
    return {
        "model": order.parent.reference,
        "name": order.wish.target,
        "kind": plan.kind,
        "wanted": plan.wanted,
        "removed": plan.removed,
        "zeroed": plan.zeroed,
        "parts": {c.part: {"before": c.before, "after": c.after} for c in plan.counts},
        "vocabulary_parameters": plan.vocabulary_parameters,
        "ceiling": plan.ceiling,
        "int8_ceiling": plan.int8_ceiling,
        "memory_bytes": order.needs.memory_bytes,
        "disk_bytes": order.needs.disk_bytes,
    }


def _report_json(report: PruneReport) -> dict[str, Any]:
    return {
        **model_json(report.model),
        "removed": report.plan.removed,
        "zeroed": report.plan.zeroed,
        "layers": list(report.layers),
        "losses": asdict(report.losses),
        "healed_tokens": report.healed_tokens,
    }


def _show_order(order: PruneOrder, file: Any = None) -> None:
    def say(line: str) -> None:
        print(line, file=file or sys.stdout)

    plan = order.plan
    say(f"{order.parent.reference} -> {order.wish.target}, {plan.kind}")
    for count in plan.counts:
        each = " of a layer" if count.part in ("heads", "channels") else ""
        say(f"  {count.part + each:20} {count.before:>13,} -> {count.after:>13,}")
    if plan.zeroed:
        say(f"  {plan.zeroed:,} weights ({plan.removed:.1%}) become 0: the model is as large and as fast as before")
        return
    say(
        f"  removed {plan.removed:.1%}; {plan.vocabulary_parameters / plan.parameters_after:.0%} of the rest is the "
        "vocabulary, read for every token"
    )
    say(
        f"  at most {plan.ceiling:.2f} times as fast for one stream at equal precision, {plan.int8_ceiling:.2f} times "
        "in INT8 against F16"
    )
    say(f"  needs {human_bytes(order.needs.memory_bytes)} of memory, {human_bytes(order.needs.disk_bytes)} of disk")


def _show_report(report: PruneReport) -> None:
    model = report.model
    print(f"{model.reference}  {human_bytes(model.num_bytes)}  {model.digest}")
    told = {name: value for name, value in asdict(report.losses).items() if value is not None}
    if told:
        print("perplexity on held-out text: " + ", ".join(f"{name} {exp(value):.4g}" for name, value in told.items()))
    print(f"next: ashore optimize evaluate {model.name}; ashore optimize quantize {model.name} --to int8")


def _print(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=1))
