"""`optimize quantize`, `prune`, `distill` and `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.cli.bootstrap.homestore import model_json, open_store
from ashore.cli.bootstrap.operations.model import EXIT_REFUSED, Operation, Shown, Work
from ashore.cli.bootstrap.optimizing import distiller, open_subject, pruner
from ashore.cli.bootstrap.variants import quantiser
from ashore.core.bytesize import human_bytes
from ashore.core.clock import SystemClock
from ashore.core.errors import NotFound
from ashore.data.jobs.operations.asks import Distill, Evaluate, PruneIn, QuantizeIn
from ashore.kit.folders import make_folder
from ashore.kit.settings import Settings, read_settings
from ashore.kit.textfile import read_text_file

if TYPE_CHECKING:
    from ashore.kit.store import ModelStore, StoredModel, Verdict
    from ashore.lab.evaluation import Candidate, NamedText, Report
    from ashore.lab.optimize import Quantiser, QuantizePlan, QuantizeReport
    from ashore.lab.optimize.distilling import DistilPlan, DistilReport
    from ashore.lab.optimize.pruning import PruneOrder, PruneReport
    from ashore.lab.training import StepReport

DEFAULT_TASKS: Final = ("reviews-zh", "stdlib-en")


# --- quantize


def _quantiser_and_plan(asked: QuantizeIn, store: ModelStore, work: Work) -> tuple[Quantiser, QuantizePlan]:
    maker = quantiser(store)
    plan = maker.plan(asked)
    for note in plan.notes:
        work.say(f"note: {note}")
    return maker, plan


def plan_quantize(asked: QuantizeIn, work: Work) -> Shown:
    """Show what would be done and what it needs."""
    _, plan = _quantiser_and_plan(asked, open_store(), work)
    return _shown_quantize_plan(plan)


def quantize(asked: QuantizeIn, work: Work) -> Shown:
    """Make the variant."""
    maker, plan = _quantiser_and_plan(asked, open_store(), work)
    report = maker.make(plan, told=work.share)
    work.say(f"serve it:  ashore up {report.variant.reference}")
    return Shown(
        document={**model_json(report.variant), "parent_bytes": report.parent_bytes}, lines=_quantized_lines(report)
    )


def _shown_quantize_plan(plan: QuantizePlan) -> Shown:
    groups = f", groups of {plan.group_size}" if plan.group_size else ""
    lines = [
        f"{plan.reference}: {plan.precision.name} for {plan.precision.engine}{groups}: {plan.precision.summary}",
        f"about {human_bytes(plan.needs.variant_bytes)}, from {human_bytes(plan.parent.num_bytes)}",
    ]
    memory, disk = human_bytes(plan.needs.memory_bytes), human_bytes(plan.needs.disk_bytes)
    lines.append(f"needs about {memory} of memory, {disk} of disk")
    document = {
        "reference": plan.reference,
        "parent": plan.parent.digest,
        "precision": plan.precision.name,
        "engine": plan.precision.engine,
        "group_size": plan.group_size,
        "calibration": None if plan.calibration is None else str(plan.calibration),
        "seed": plan.seed,
        **asdict(plan.needs),
        "notes": list(plan.notes),
    }
    return Shown(document=document, lines=lines)


def _quantized_lines(report: QuantizeReport) -> Sequence[str]:
    variant = report.variant
    share = variant.num_bytes / report.parent_bytes
    return [
        f"{variant.reference}: {human_bytes(variant.num_bytes)}, {share:.1%} of the model as pulled",
        *(f"  {name}: {value}" for name, value in report.recipe.facts.items()),
    ]


# --- prune


def _prune_order(asked: PruneIn) -> PruneOrder:
    from ashore.lab.optimize.pruning import PruneWish

    return pruner(read_settings(), open_store()).plan(PruneWish(**msgspec.structs.asdict(asked)))


def plan_prune(asked: PruneIn, work: Work) -> Shown:
    """Show what would be removed and what that can gain."""
    order = _prune_order(asked)
    plan = order.plan
    document = {
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
    return Shown(document=document, lines=_order_lines(order))


def prune(asked: PruneIn, work: Work) -> Shown:
    """Prune, and train the rest."""
    order = _prune_order(asked)
    for line in _order_lines(order):
        work.say(line)
    report = pruner(read_settings(), open_store()).make(
        order, told=work.share, watch=lambda step: work.steps("heal", step.step, step.num_steps, step.words)
    )
    return Shown(document=_pruned_json(report), lines=_pruned_lines(report))


def _pruned_json(report: PruneReport) -> dict[str, Any]:
    return {
        **model_json(report.model),
        "removed": report.plan.removed,
        "zeroed": report.plan.zeroed,
        "layers": list(report.layers),
        "losses": asdict(report.losses),
        "healed_tokens": report.healed_tokens,
    }


def _order_lines(order: PruneOrder) -> Sequence[str]:
    plan = order.plan
    lines = [f"{order.parent.reference} -> {order.wish.target}, {plan.kind}"]
    for count in plan.counts:
        each = " of a layer" if count.part in ("heads", "channels") else ""
        lines.append(f"  {count.part + each:20} {count.before:>13,} -> {count.after:>13,}")
    if plan.zeroed:
        share = f"{plan.zeroed:,} weights ({plan.removed:.1%})"
        return [*lines, f"  {share} become 0: the model is as large and as fast as before"]
    vocabulary = plan.vocabulary_parameters / plan.parameters_after
    return [
        *lines,
        f"  removed {plan.removed:.1%}; {vocabulary:.0%} of the rest is the vocabulary, read for every token",
        f"  at most {plan.ceiling:.2f} times as fast for one stream at equal precision, {plan.int8_ceiling:.2f} times "
        "in INT8 against F16",
        f"  needs {human_bytes(order.needs.memory_bytes)} of memory, {human_bytes(order.needs.disk_bytes)} of disk",
    ]


def _pruned_lines(report: PruneReport) -> Sequence[str]:
    model = report.model
    losses = {name: value for name, value in asdict(report.losses).items() if value is not None}
    perplexities = ", ".join(f"{name} {exp(value):.4g}" for name, value in losses.items())
    return [
        f"{model.reference}  {human_bytes(model.num_bytes)}  {model.digest}",
        *([f"perplexity on held-out text: {perplexities}"] if losses else []),
        f"next: ashore optimize evaluate {model.name}; ashore optimize quantize {model.name} --to int8",
    ]


# --- distill


def _distil_plan(asked: Distill, work: Work) -> DistilPlan:
    from ashore.lab.optimize.distilling import DistilWish

    plan = distiller(open_store(), read_settings().home, told=work.share).plan(DistilWish.of(asked))
    for note in plan.notes:
        work.say(f"note: {note}")
    return plan


def plan_distill(asked: Distill, work: Work) -> Shown:
    """Show what would be made and what it needs."""
    plan = _distil_plan(asked, work)
    memory_bytes = plan.sizes.memory_bytes(plan.wish.settings)
    document = {
        "name": plan.name,
        "teacher": plan.wish.teacher,
        "parent": plan.parent.reference,
        "teacher_parameters": plan.teacher.shape.num_parameters,
        "student_parameters": plan.sizes.student_parameters,
        "examples": plan.num_examples,
        "tokens": plan.num_tokens,
        "train_tokens": plan.train_tokens,
        "memory_bytes": memory_bytes,
        "notes": list(plan.notes),
    }
    lines = [
        f"{plan.name}: {_size(plan)}, from {plan.parent.reference}",
        f"learns from {plan.wish.teacher}: {plan.num_examples:,} examples, {plan.train_tokens:,} tokens",
        f"memory: about {human_bytes(memory_bytes)}",
    ]
    return Shown(document=document, lines=lines)


def distill(asked: Distill, work: Work) -> Shown:
    """Train the student."""
    plan = _distil_plan(asked, work)
    report = distiller(open_store(), read_settings().home, told=work.share).distil(plan, _Steps(work))
    return Shown(document=_distilled_json(plan, report), lines=_distilled_lines(plan, report))


class _Steps:
    """A `Watcher` that reports to a `Work`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def stage(self, name: str, done: int, total: int) -> None:
        """See `Watcher`."""
        self._work.steps(name, done, total)

    def step(self, report: StepReport) -> None:
        """See `Watcher`."""
        self._work.steps("student learns", report.step, report.num_steps, report.words)


def _distilled_json(plan: DistilPlan, report: DistilReport) -> dict[str, Any]:
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


def _distilled_lines(plan: DistilPlan, report: DistilReport) -> Sequence[str]:
    took = f"{report.tokens:,} tokens in {report.seconds:.0f} s"
    return [
        f"{report.student.reference}: {_size(plan)}",
        f"loss {report.first_loss:.3f} -> {report.last_loss:.3f} over {took}",
        f"the teacher's probabilities: {report.logit_bytes_per_token:.0f} bytes per token, stored for the next student",
        f"next: ashore optimize evaluate {report.student.reference} --against {plan.wish.teacher}",
    ]


def _size(plan: DistilPlan) -> str:
    share = f", {plan.share:.0%} of the teacher's" if plan.share else ""
    return f"{plan.sizes.student_parameters:,} parameters{share}"


# --- evaluate


def evaluate(asked: Evaluate, work: Work) -> Shown:
    """Evaluate the model, store the report, and apply the gate."""
    from ashore.kit.store import keep_verdict
    from ashore.lab import evaluation as ev

    limits = ev.read_gate(Path(asked.gate)) if asked.gate is not None else None
    texts = [_read_text(Path(path)) for path in asked.text]
    tasks = [ev.open_task(name).first(asked.limit) for name in asked.task or (() if asked.text else DEFAULT_TASKS)]
    settings, store = read_settings(), open_store()
    other = _parent_of(store, asked.model) if asked.against == "parent" else asked.against
    with ExitStack() as stack:

        def opened(name: str) -> Candidate:
            return stack.enter_context(_candidate(store, settings, name, asked, work))

        base = opened(other) if other is not None else None
        report, base_report = ev.evaluate(
            opened(asked.model),
            against=base,
            texts=texts,
            tasks=tasks,
            speed=asked.speed,
            clock=SystemClock(),
            told=work.steps,
        )
    verdict = ev.decide(limits, report) if limits is not None else None
    report = msgspec.structs.replace(report, gate=verdict)
    for one in filter(None, (base_report, report)):
        stored = _stored(store, one)
        if stored is not None:
            ev.keep_report(store, stored, one)
            if verdict is not None and one is report:
                keep_verdict(store, stored, verdict)
    if asked.out is not None:
        write_files(Path(asked.out), ev.report_files(report), work)
    return Shown(
        document={"report": report, "verdict": verdict},
        lines=_evaluated_lines(report, verdict),
        code=EXIT_REFUSED if verdict is not None and not verdict.passed else 0,
    )


@contextmanager
def _candidate(store: ModelStore, settings: Settings, name: str, asked: Evaluate, work: Work) -> Iterator[Candidate]:
    from ashore.data.engines import card_by_name
    from ashore.lab.evaluation import Candidate, Judged

    with open_subject(
        store,
        settings.home,
        name,
        kind=asked.engine,
        options=asked.option,
        threads=asked.threads,
        told=work.share,
        progress=work,
    ) as subject:
        if card_by_name(name) is not None:
            judged = Judged(name=subject.name, digest="", weight_bytes=0)
        else:
            model = store.resolve(subject.name)
            judged = Judged(name=model.reference, digest=model.digest, weight_bytes=model.weight_bytes)
        yield Candidate(subject=subject, judged=judged, options=asked.option)


def _parent_of(store: ModelStore, name: str) -> str:
    model = store.resolve(name)
    for other in store.list():
        if other.digest == model.parent:
            return other.reference
    raise NotFound(f"the store has no name for the parent of {model.reference}", hint="name a model: --against NAME")


def _stored(store: ModelStore, report: Report) -> StoredModel | None:
    """Return the model of a report, if the store has it."""
    return (
        store.resolve(f"{report.model.name.partition('@')[0]}@{report.model.digest}") if report.model.digest else None
    )


def _read_text(path: Path) -> NamedText:
    from ashore.lab.evaluation import NamedText

    text = read_text_file(path, "text file", hint="give UTF-8 text of the kind that the model should be good at")
    return NamedText(name=path.name, text=text)


def _evaluated_lines(report: Report, verdict: Verdict | None) -> Sequence[str]:
    from ashore.lab.evaluation import report_markdown

    lines = [report_markdown(report)]
    if verdict is not None:
        lines.append(f"{report.model.name} {'passes' if verdict.passed else 'does not pass'} the gate.")
    return lines


def write_files(folder: Path, files: Mapping[str, bytes], work: Work) -> None:
    """Write files into a folder, each whole or not at all."""
    from ashore.kit.store import write_file

    make_folder(folder)
    for name, data in files.items():
        write_file(folder / name, data)
    work.say(f"written: {folder}")


OPERATIONS: Final = (
    Operation(name="optimize quantize", takes=QuantizeIn, do=quantize, plan=plan_quantize),
    Operation(name="optimize prune", takes=PruneIn, do=prune, plan=plan_prune),
    Operation(name="optimize distill", takes=Distill, do=distill, plan=plan_distill),
    Operation(name="optimize evaluate", takes=Evaluate, do=evaluate),
)
