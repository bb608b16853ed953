"""`ashore optimize evaluate` and `compare`: is a model still good, and which of several is better."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.progress import TerminalProgress
from ashore.core import EngineKind, make_folder, read_text_file
from ashore.errors import InvalidRequest, NotFound
from ashore.settings import Settings

if TYPE_CHECKING:
    from ashore.evaluation import Candidate, NamedText, Report, Verdict
    from ashore.store import ModelStore, StoredModel

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
EXIT_GATE_FAILED = 1
DEFAULT_TASKS = ("reviews-zh", "stdlib-en")
HARNESS = "lm-eval:"


@also_a_job("optimize evaluate")
def evaluate(
    model: str,
    /,
    *,
    against: str | None = None,
    text: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    engine: EngineKind | None = None,
    option: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    threads: int = 0,
    gate: Path | None = None,
    limit: int = 0,
    speed: bool = True,
    out: Path | None = None,
    as_json: AsJson = False,
) -> int:
    """Evaluate a model in the engine that serves it, and store the report with the model.

    Exits with 1 if the model did not pass the gate.

    Args:
        model: Name[@variant]; pulled first if it is only in the catalogue.
        against: Another model to compare with, or `parent`.
        text: File of UTF-8 text for perplexity and divergence; may be repeated.
        task: Task file, name of a built-in task, or lm-eval:NAME; may be repeated. Default, without --text: two
            built-in tasks, one Chinese and one English.
        engine: Engine to use; default: the one that reads the model's format.
        option: NAME=VALUE for the engine, such as full_precision=true; may be repeated.
        threads: Threads of the engine; 0: all.
        gate: TOML file with limits; the verdict is stored with the model too.
        limit: Use at most this many items of each task; default: all.
        speed: Measure speed and memory too.
        out: Folder to write report.json, report.md, report.html and report.png to.
        as_json: Print the report, and the verdict, as JSON.
    """
    import msgspec

    from ashore.bootstrap import build_store
    from ashore.core import SystemClock
    from ashore.evaluation import (
        HarnessTask,
        decide,
        evaluate,
        keep_report,
        keep_verdict,
        open_task,
        read_gate,
        report_files,
    )

    if limit < 0:
        raise InvalidRequest(f"--limit is {limit}; expected 0 for all, or more")
    limits = read_gate(gate) if gate is not None else None
    texts = [_read_text(path) for path in text]
    names = task or (() if text else DEFAULT_TASKS)
    tasks = [
        HarnessTask(place=name.removeprefix(HARNESS), limit=limit)
        if name.startswith(HARNESS)
        else open_task(name).first(limit)
        for name in names
    ]
    options = _options(option)
    settings = _settings()
    store = build_store(settings.home, settings)
    other = _parent_of(store, model) if against == "parent" else against
    with TerminalProgress() as progress, ExitStack() as stack:

        def opened(name: str) -> Candidate:
            return stack.enter_context(
                _candidate(store, settings, name, engine=engine, options=options, threads=threads, progress=progress)
            )

        base = opened(other) if other is not None else None
        report, base_report = evaluate(
            opened(model),
            against=base,
            texts=texts,
            tasks=tasks,
            speed=speed,
            clock=SystemClock(),
            told=lambda stage, done, total: progress.steps(stage, done, total, f"{done:,} of {total:,}"),
        )
    verdict = decide(limits, report) if limits is not None else None
    report = msgspec.structs.replace(report, gate=verdict)
    for one in filter(None, (base_report, report)):
        stored = _stored(store, one)
        if stored is not None:
            keep_report(store, stored, one)
            if verdict is not None and one is report:
                keep_verdict(store, stored, verdict)
    if out is not None:
        _write(out, report_files(report))
    _print(report, verdict, as_json=as_json)
    return EXIT_GATE_FAILED if verdict is not None and not verdict.passed else 0


def compare(
    models: Annotated[tuple[str, ...], Parameter(negative=())],
    /,
    *,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest stored evaluations of several models on one page, compared with the first.

    Args:
        models: Names[@variant] that were evaluated.
        out: Folder to write compare.md, compare.html and compare.png to.
        as_json: Print JSON.
    """
    import msgspec

    from ashore.bootstrap import build_store
    from ashore.evaluation import (
        compare,
        comparison_markdown,
        comparison_page,
        comparison_png,
        gate_verdict,
        kept_reports,
    )

    if len(models) < 2:
        raise InvalidRequest(f"{len(models)} model given; expected at least two to compare")
    settings = _settings()
    store = build_store(settings.home, settings)
    reports = []
    for name in models:
        kept = kept_reports(store, store.resolve(name))
        if not kept:
            raise NotFound(
                f"{name} was never evaluated",
                hint=f"`ashore optimize evaluate {name}`; without --against it needs memory for this model only",
            )
        verdict = kept[0].gate or gate_verdict(store, name)  # what the gate said of these bytes earlier still holds
        reports.append(msgspec.structs.replace(kept[0], gate=verdict))
    if out is not None:
        png = comparison_png(reports)
        page = comparison_page(reports, png)
        _write(
            out,
            {"compare.md": comparison_markdown(reports).encode(), "compare.html": page.encode(), "compare.png": png},
        )
    if as_json:
        items = [{"report": report, "change": compare(reports[0], report)} for report in reports]
        print(msgspec.json.format(msgspec.json.encode({"items": items}), indent=1).decode())
        return
    print(comparison_markdown(reports))


@contextmanager
def _candidate(
    store: ModelStore,
    settings: Settings,
    name: str,
    *,
    engine: EngineKind | None,
    options: Mapping[str, str | int | float | bool],
    threads: int,
    progress: TerminalProgress,
) -> Iterator[Candidate]:
    from ashore.bootstrap import open_subject
    from ashore.engines import card_by_name
    from ashore.evaluation import Candidate, Judged

    with open_subject(
        store,
        settings.home,
        name,
        kind=engine,
        options=options,
        threads=threads,
        told=progress.share,
        progress=progress,
    ) as subject:
        if card_by_name(name) is not None:
            judged = Judged(name=subject.name, digest="", weight_bytes=0)
        else:
            model = store.resolve(subject.name)
            judged = Judged(name=model.reference, digest=model.digest, weight_bytes=model.weight_bytes)
        yield Candidate(subject=subject, judged=judged, options=options)


def _parent_of(store: ModelStore, name: str) -> str:
    model = store.resolve(name)
    for other in store.list():
        if other.digest == model.parent:
            return other.reference
    raise NotFound(f"the store has no name for the parent of {model.reference}", hint="name a model: --against NAME")


def _stored(store: ModelStore, report: Report) -> StoredModel | None:
    """Return the model that a report is about, if the store has it."""
    return (
        store.resolve(f"{report.model.name.partition('@')[0]}@{report.model.digest}") if report.model.digest else None
    )


def _read_text(path: Path) -> NamedText:
    from ashore.evaluation import NamedText

    text = read_text_file(path, "text file", hint="give UTF-8 text of the kind that the model should be good at")
    return NamedText(name=path.name, text=text)


def _options(given: Sequence[str]) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name:
            raise InvalidRequest(f"--option {one}: expected NAME=VALUE", hint="--option full_precision=true")
        found[name] = _value(value)
    return found


def _value(text: str) -> str | int | float | bool:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _print(report: Report, verdict: Verdict | None, *, as_json: bool) -> None:
    import msgspec

    from ashore.evaluation import report_markdown

    if as_json:
        document: dict[str, Any] = {"report": report, "verdict": verdict}
        print(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())
        return
    print(report_markdown(report))
    if verdict is not None:
        print(f"{report.model.name} {'passes' if verdict.passed else 'does not pass'} the gate.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, each whole or not at all."""
    from ashore.store import write_file

    make_folder(folder)
    for name, data in files.items():
        write_file(folder / name, data)
    print(f"written: {folder}", file=sys.stderr)


def _settings() -> Settings:
    from ashore.settings import read_settings

    return read_settings()
