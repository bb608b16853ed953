"""`ashore engine`: the available engines, and the best one for this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ashore.cli.bootstrap import build_store, open_state, stored_files
from ashore.cli.sure import AsJson, DryRun, OwnJson, print_json
from ashore.core.bytesize import human_bytes
from ashore.core.clock import SystemClock
from ashore.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    SourceUnreachable,
    UnknownModel,
    UnsupportedModel,
)
from ashore.data.engines import CARDS, EngineKind, ModelFiles, files_by_name, read_inventory
from ashore.data.engines.tuning import (
    Candidate,
    Goal,
    Here,
    HostBench,
    ModelSource,
    Tuner,
    TuneReport,
    Watcher,
    built_here,
    busy_note,
    computes_in_bf16,
    describe_machine,
    engines_here,
    multiplies_bytes,
    propose,
    record_choice,
    report_json,
    require_choices,
    save_report,
)
from ashore.kit.processes import python_command
from ashore.kit.processes.logs import open_log
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.kit.store import ModelStore, StoredModel

app = App(name="engine", help="List engines; measure which one suits this machine; serve one alone.")


LONGEST_BUDGET_S = 3600
WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".bin")


@app.command(name="list")
def list_(*, as_json: AsJson = False) -> None:
    """List the engines: version, formats, features, and how to install what is missing."""
    cards = engines_here()
    if as_json:
        print_json({"items": [asdict(c) for c in cards]})
        return
    from ashore.cli.enginetables import show_cards

    show_cards(cards)


@app.command
def serve(
    model: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = 8000,
    served_model_name: str | None = None,
    engine: Annotated[EngineKind | Literal["auto"], Parameter(name="--engine")] = "auto",
    context_tokens: int = 0,
    kv_tokens: int = 0,
    max_sequences: int = 0,
    threads: int = 0,
    key_file: Path | None = None,
    tls: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Serve one model in vLLM's HTTP form, for another ashore, Kubernetes or Ray Serve. Ctrl-C stops it.

    Use it behind ashore ([[fleet.node]]) or a controller that places engines. It has no users, budgets, masking or
    audit log: those are in front of it. Routes: /v1/completions, /v1/chat/completions, /v1/embeddings, /v1/models,
    /tokenize, /detokenize, /health, /readyz, /version, and /metrics with vLLM's names.

    Args:
        model: Catalogue or store name, name@variant, a source, or fake:echo.
        host: Address to listen on.
        port: Port to listen on.
        served_model_name: Name that requests give in `model`; default: the name of the model.
        engine: Engine; auto chooses, as `ashore up` does.
        context_tokens: Longest prompt and answer together; 0: the plan chooses.
        kv_tokens: Tokens that the KV cache holds; 0: the plan chooses.
        max_sequences: Sequences that run at once; 0: the plan chooses.
        threads: Threads; 0: the plan chooses.
        key_file: File with the key that requests must send as a bearer token; made if it is absent. Default: no key.
        tls: Serve over TLS, for machines with a certificate of the same fleet alone. Needs one in fleet/ of this home
            (`ashore fleet certificate`).
    """
    from ashore.cli.engineserve import serve_alone
    from ashore.machine.planning import EngineSection, ModelSection

    section = ModelSection(
        name=model,
        alias=served_model_name or "",
        engine=EngineSection(
            kind=engine,
            context_tokens=context_tokens,
            kv_tokens=kv_tokens,
            max_sequences=max_sequences,
            threads=threads,
        ),
    )
    return serve_alone(section, host=host, port=port, key_file=key_file, tls=tls)


@app.command
def tune(
    model: str = "smollm2",
    /,
    *,
    budget_s: float = 300.0,
    goal: Annotated[Goal, Parameter(name="--for")] = "balanced",
    as_json: OwnJson = False,
) -> None:
    """Measure which engine, precision, threads and options suit a model on this machine. `ashore up` uses the choice.

    Ctrl-C stops early. The report and the choice then come from what was measured so far.

    Args:
        model: Catalogue or store name, without a variant: tuning tries the variants.
        budget_s: Time limit in seconds, not counting downloads.
        goal: What to optimise for: latency (one stream), throughput (16 streams), or balanced.
        as_json: Print the whole report as JSON.
    """
    from ashore.cli.enginetables import TuningProgress, show_report

    if not 5 <= budget_s <= LONGEST_BUDGET_S:
        raise InvalidRequest(
            f"--budget-s is {budget_s:g}; expected 5 to {LONGEST_BUDGET_S}", hint="300 is the default", param="budget_s"
        )
    settings = read_settings()
    store = build_store(settings.home, settings)
    with TuningProgress(budget_s) as progress:
        report, saved, made = measured(store, settings, model, budget_s=budget_s, goal=goal, watcher=progress)
    if as_json:
        print(report_json(report).decode())
    else:
        show_report(report)
    print(f"report {saved}", file=sys.stderr)
    for reference, num_bytes in made.items():
        print(
            f"kept in the store: {reference}, {human_bytes(num_bytes)}; to remove it: ashore model remove {reference}",
            file=sys.stderr,
        )


@app.command
def selftest(
    model: str = "smollm2",
    /,
    *,
    engine: Annotated[EngineKind | Literal["auto"], Parameter(name="--engine")] = "auto",
    reference: Path | None = None,
    load_s: Annotated[float, Parameter(validator=Number(gte=1, lte=86_400))] = 300.0,
    to: Path | None = None,
    dry_run: DryRun = False,
) -> None:
    """Test an engine on this machine: it starts, answers as elsewhere, holds 16 streams, and comes back from a kill.

    For hardware on which ashore has not run yet. The result is a file; sign it and send it in, and the documentation
    names this hardware as tried. Takes about ten minutes, most of them under load.

    Args:
        model: Catalogue or store name, name@variant, a source, or fake:random.
        engine: Engine; auto chooses, as `ashore up` does.
        reference: Result of the same model on a machine that is trusted. Default: the answers of smollm2 that ashore
            comes with; for other models the step `tokens` compares nothing.
        load_s: Seconds under load, in which memory must not grow.
        to: File of the result; default: cache/selftest.json of the home.

    Raises:
        EngineFailed: a step did not pass. The result is written all the same.
    """
    from ashore.cli.engineselftest import test_one
    from ashore.machine.planning import EngineSection, ModelSection

    section = ModelSection(name=model, engine=EngineSection(kind=engine))
    test_one(section, reference=reference, load_s=load_s, to=to, dry_run=dry_run)


def measured(
    store: ModelStore, settings: Settings, model: str, *, budget_s: float, goal: Goal, watcher: Watcher
) -> tuple[TuneReport, Path, dict[str, int]]:
    """Measure a model and record the choice; return the report, its file, and the variants made for it with their
    sizes."""
    home = settings.home
    home.create()
    source, digest, open_files = _subject(store, settings, model)
    before = {stored.reference for stored in store.list()}
    inventory = read_inventory()
    machine = describe_machine(cpu=inventory.cpu, cores=inventory.cores)
    missing: dict[EngineKind, str] = {card.kind: card.missing for card in engines_here()}
    proposal = propose(
        source,
        installed=missing,
        here=Here(cores=inventory.cores, bf16=computes_in_bf16(), byte_products=multiplies_bytes(), built=built_here()),
    )
    notes = [note for note in (busy_note(inventory.cores),) if note]
    bench = HostBench(files_of=open_files, log=home.logs / "engine-tune.log")
    report = Tuner(bench=bench, clock=SystemClock(), watcher=watcher, budget_s=budget_s).run(
        proposal.candidates,
        model=source.name,
        model_digest=digest,
        machine=machine,
        goal=goal,
        skipped=proposal.skipped,
        notes=notes,
    )
    made = {m.reference: m.num_bytes for m in store.list() if m.reference not in before}
    if report.interrupted and not report.measured:
        raise KeyboardInterrupt
    require_choices(report)
    saved = save_report(report, home.cache / "tuning")
    with closing(open_state(settings)) as state, state.write() as connection:
        record_choice(connection, report)
    return report, saved, made


FilesOf = Callable[[Candidate, float], ModelFiles]


def _subject(store: ModelStore, settings: Settings, name: str) -> tuple[ModelSource, str, FilesOf]:
    """Return what to tune: the model, its digest, and how a candidate gets its files."""
    if (files := files_by_name(name, settings.home.run)) is not None:
        return ModelSource(name=name, format=files.format), name, lambda candidate, limit_s: files
    if "@" in name:
        raise InvalidRequest(
            f"{name} names a variant, but tuning tries all variants",
            hint=f"ashore engine tune {name.partition('@')[0]}",
        )
    model = _present(store, settings, name)
    if any(model.shape.architecture in card.encoders for card in CARDS):
        raise UnsupportedModel(f"{name} is an encoder, which runs in only one way; there is nothing to tune")
    source = ModelSource(
        name=model.name,
        format=model.format,
        architecture=model.shape.architecture,
        weight_bytes=sum(f.num_bytes for f in model.files if f.path.endswith(WEIGHT_SUFFIXES)),
        num_parameters=model.shape.num_parameters,
        context_tokens=model.shape.context_tokens,
        variants=frozenset(m.variant for m in store.list() if m.name == model.name),
    )
    return source, model.digest, lambda candidate, limit_s: _files(store, settings, model.name, candidate, limit_s)


def _present(store: ModelStore, settings: Settings, name: str) -> StoredModel:
    """Return the model as pulled; pulls it if absent."""
    try:
        return store.resolve(name)
    except UnknownModel:
        if settings.offline:
            raise SourceUnreachable(
                f"{name} is not in the store, and ashore is offline", hint="import it with `ashore model import`"
            ) from None
    from ashore.cli.progress import TerminalProgress

    with TerminalProgress() as progress:
        return store.pull(name, progress=progress)


def _files(store: ModelStore, settings: Settings, name: str, candidate: Candidate, limit_s: float) -> ModelFiles:
    """Return the files of a candidate's variant; makes it in its own process if absent."""
    reference = f"{name}@{candidate.variant}" if candidate.variant else name
    there = {m.variant for m in store.list() if m.name == name and not store.is_outdated(m)}
    if candidate.variant and candidate.variant not in there:
        path = settings.home.logs / "engine-tune.log"
        with os.fdopen(open_log(path), "ab") as log:
            try:
                code = subprocess.run(
                    python_command("ashore.cli.fetch", "prepare", reference),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=limit_s,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise DeadlineExceeded(f"{reference} could not be made within {limit_s:.0f} s") from error
        if code:
            raise EngineFailed(f"{reference} could not be made (exit code {code}); see {path}")
    return stored_files(store, reference)
