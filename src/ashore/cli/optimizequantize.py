"""`ashore optimize quantize` and `rebuild`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.modelstore import model_json
from ashore.cli.progress import TerminalProgress
from ashore.core import EngineKind, human_bytes
from ashore.optimize import (
    QuantizePlan,
    QuantizeReport,
    QuantizeWish,
    RebuildReport,
    is_made_beside,
)

if TYPE_CHECKING:
    from ashore.store import ModelStore

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
EXIT_DIFFERS = 4


@also_a_job("optimize quantize")
def quantize(
    model: str,
    /,
    *,
    to: str,
    engine: EngineKind | None = None,
    calibration: Path | None = None,
    group_size: int | None = None,
    name: str | None = None,
    seed: int = 0,
    run: Path | None = None,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Round a model's weights to fewer bits, and store the result as a variant that `ashore up MODEL@VARIANT` serves.

    Parameters
    ----------
    model
        Name in the store, as pulled or derived.
    to
        int8, int4 or fp16 for OpenVINO; q8_0, q6_k, q5_k_m, q4_k_m, q4_0 for llama.cpp; w8a8, w4a16 for vLLM.
    engine
        Refuse a precision that this engine does not run.
    calibration
        Plain UTF-8 text of the kind that the model will see; it improves int4 and the K formats.
    group_size
        Weights that share one scale, for int8 (default: a whole row) and int4: 32, 64, 96 or 128. Smaller groups:
        better quality, larger files.
    name
        Name of the variant; default: the name of the precision.
    seed
        Seed that chooses the samples of a long calibration text.
    run
        Folder of a Python environment with llm-compressor, which makes the formats of vLLM. Without it, the commands
        are printed.
    dry_run
        Show what would be done and what it needs, and make nothing.
    as_json
        Print JSON.
    """
    from ashore import bootstrap

    wish = QuantizeWish(
        model=model,
        to=to,
        engine=engine,
        calibration=calibration,
        group_size=group_size,
        name=name,
        seed=seed,
    )
    store = _store()
    quantiser = bootstrap.quantiser(store, compressor=run)
    plan = quantiser.plan(wish)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    beside = is_made_beside(plan.precision)
    if dry_run or (beside and run is None):
        commands = bootstrap.side_commands(store, plan) if beside else ()
        return _print(_plan_json(plan, commands)) if as_json else _show_plan(plan, commands)
    with TerminalProgress() as progress:
        report = quantiser.make(plan, told=progress.share)
    return _print(_report_json(report)) if as_json else _show_report(report)


def rebuild(
    model: str, /, *, data: Annotated[tuple[Path, ...], Parameter(negative=())] = (), as_json: AsJson = False
) -> int:
    """Rebuild a variant or a derived model from its recipe, and report whether the bytes are the same.

    The stored model stays as it is. Exits with 4 if the bytes differ.

    Parameters
    ----------
    model
        `name@variant`, or the name of a derived model.
    data
        The files that it was made with, at their present paths; the recipe identifies them by their digests.
    as_json
        Print JSON.
    """
    from ashore import bootstrap

    rebuilder = bootstrap.rebuilder(_store())
    with TerminalProgress() as progress:
        report = rebuilder.rebuild(model, data, told=progress.share)
    if as_json:
        _print({**asdict(report), "identical": report.identical})
    else:
        _show_rebuilt(report)
    return 0 if report.identical else EXIT_DIFFERS


def _store() -> ModelStore:
    from ashore.bootstrap import build_store
    from ashore.settings import read_settings

    settings = read_settings()
    return build_store(settings.home, settings)


def _plan_json(plan: QuantizePlan, commands: tuple[str, ...]) -> dict[str, Any]:
    return {
        "reference": plan.reference,
        "parent": plan.parent.digest,
        "precision": plan.precision.name,
        "engine": plan.precision.engine,
        "group_size": plan.group_size,
        "calibration": None if plan.calibration is None else str(plan.calibration),
        "seed": plan.seed,
        **asdict(plan.needs),
        "notes": list(plan.notes),
        "commands": list(commands),
    }


def _show_plan(plan: QuantizePlan, commands: tuple[str, ...]) -> None:
    groups = f", groups of {plan.group_size}" if plan.group_size else ""
    print(f"{plan.reference}: {plan.precision.name} for {plan.precision.engine}{groups}: {plan.precision.summary}")
    print(f"about {human_bytes(plan.needs.variant_bytes)}, from {human_bytes(plan.parent.num_bytes)}")
    if commands:
        print("made by llm-compressor: line 1 creates its environment, line 2 makes a folder, line 3 a variant:")
        for command in commands:
            print(command)
        return
    print(f"needs about {human_bytes(plan.needs.memory_bytes)} of memory, {human_bytes(plan.needs.disk_bytes)} of disk")


def _report_json(report: QuantizeReport) -> dict[str, Any]:
    return {**model_json(report.variant), "parent_bytes": report.parent_bytes}


def _show_report(report: QuantizeReport) -> None:
    variant = report.variant
    share = variant.num_bytes / report.parent_bytes
    print(f"{variant.reference}: {human_bytes(variant.num_bytes)}, {share:.1%} of the model as pulled")
    for name, value in report.recipe.facts.items():
        print(f"  {name}: {value}")
    print(f"serve it:  ashore up {variant.reference}", file=sys.stderr)


def _show_rebuilt(report: RebuildReport) -> None:
    for file in report.files:
        print(f"{'same   ' if file.same else 'DIFFERS'}  {file.path}  {file.kept}")
        if not file.same:
            print(f"         made again: {file.again or 'no such file'}")
    for tool, (then, now) in report.versions_changed.items():
        print(f"{tool} was {then}, now {now or 'not installed'}")
    print(f"{report.reference}: {'bit for bit the same' if report.identical else 'not the same bytes'}")


def _print(document: Any) -> None:
    print(json.dumps(document, indent=1, ensure_ascii=False, default=str))
