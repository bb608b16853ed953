"""`model pull`, `verify`, `seal` and `remove`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.cli.bootstrap.athome import home_alone
from ashore.cli.bootstrap.backups import manifests_in_use, served_from
from ashore.cli.bootstrap.homestore import model_json, open_store, recorded_store
from ashore.cli.bootstrap.operations.model import EXIT_DAMAGED, Operation, Shown, Work
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import AshoreError, Conflict, HomeBusy
from ashore.data.jobs.operations.asks import PullIn, RemoveIn, SealIn, VerifyIn
from ashore.kit.processes import ask
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    from ashore.kit.store import StoredModel


def pull(asked: PullIn, work: Work) -> Shown:
    """Pull a model, and reload a server that serves it."""
    model = open_store().pull(
        asked.source,
        name=asked.name,
        accept_licence=asked.accept_licence,
        text_only=asked.text_only,
        progress=work,
    )
    if _serves_pulled():
        work.reload()
    return Shown(
        document=model_json(model),
        lines=(f"{model.reference}  {human_bytes(model.num_bytes)}  {model.digest}", f"licence: {model.licence}"),
    )


def _serves_pulled() -> bool:
    """Return whether a running server of this home serves the pulled model."""
    from ashore.machine.config import Listening

    try:
        for status in ask(read_settings().home.control_socket, {"op": "status"}):
            return msgspec.convert(status["listening"], Listening).tiers.serve_pulled
    except (AshoreError, OSError, KeyError, msgspec.ValidationError):
        return False
    return False


def verify(asked: VerifyIn, work: Work) -> Shown:
    """Hash every file."""
    report = open_store(work.config).verify(asked.ref, progress=work)
    lines = [f"BAD  {bad.reference}  {bad.path}: {bad.problem}" for bad in report.bad]
    lines += [
        f"{reference} is sealed and its key is not available: only its encrypted bytes were checked"
        for reference in report.closed
    ]
    lines += [
        f"{reference} was pulled by an earlier version, which pools with the mean; its makers pool otherwise: pull it "
        "again, and embed your texts again"
        for reference in report.outdated
    ]
    verdict = "all whole" if report.ok else f"{len(report.bad)} bad"
    counts = f"{counted(report.num_models, 'model')}, {counted(report.num_files, 'file')}"
    lines.append(f"{counts}, {human_bytes(report.num_bytes)}: {verdict}")
    document = {**dataclasses.asdict(report), "ok": report.ok}
    return Shown(document=document, lines=lines, code=0 if report.ok else EXIT_DAMAGED)


def seal(asked: SealIn, work: Work) -> Shown:
    """Encrypt, and delete the unencrypted files."""
    with _unused(asked.name, "ashore model seal"), recorded_store(work.config, work.actor) as store:
        report = store.seal(asked.name, progress=work)
    document = dataclasses.asdict(report)
    if not report.models:
        return Shown(document=document, lines=(f"{asked.name} is already sealed",))
    work.say("keep a copy of the keys in another place: without them nobody can open the model")
    work.say("freed disk blocks may still hold the unencrypted bytes; if that matters, trim or wipe the disk")
    freed = human_bytes(report.freed_bytes)
    return Shown(document=document, lines=(f"sealed {', '.join(report.models)}; {freed} of unencrypted files deleted",))


@contextmanager
def _unused(name: str, what: str) -> Iterator[None]:
    """Lock the home; if its server runs, continue only if no release and no host uses the model.

    Raises:
        HomeBusy: the server uses it.
    """
    settings = read_settings()
    with ExitStack() as stack:
        try:
            stack.enter_context(home_alone(settings.home, what))
        except HomeBusy:
            if {model.digest for model in open_store().list() if model.name == name} & manifests_in_use(settings):
                raise
        yield


def what_removal_does(asked: RemoveIn) -> str:
    """Return the effect of a removal, verb first.

    Raises:
        UnknownModel: the store has no such model.
        Conflict: a running server uses it.
    """
    store = open_store()
    found = [store.resolve(asked.ref)]
    if asked.variants and not found[0].variant:
        found += [model for model in store.list() if model.name == found[0].name and model.variant]
    return f"remove {', '.join(model.reference for model in found)}" + _after_removal(found)


def _after_removal(models: list[StoredModel]) -> str:
    settings = read_settings()
    names = ", ".join(served_from(settings, [model.digest for model in models]))
    if not names:
        return ""
    try:
        with home_alone(settings.home, "ashore model remove"):
            return f", which the next `ashore up` would use for: {names}"
    except HomeBusy as fault:
        raise Conflict(
            f"a running server uses {' or '.join(model.reference for model in models)}: {names}",
            hint="promote another release and retire this one (`ashore release retire`), or stop the server first",
        ) from fault


def remove(asked: RemoveIn, work: Work) -> Shown:
    """Remove it, unless a running server uses it."""
    what_removal_does(asked)
    gone = open_store().remove(asked.ref, variants=asked.variants)
    return Shown(
        document={"removed": list(gone)},
        lines=("removed " + ", ".join(gone) + "; free the disk space with: ashore model gc",),
    )


OPERATIONS: Final = (
    Operation(name="model pull", takes=PullIn, do=pull),
    Operation(name="model verify", takes=VerifyIn, do=verify, configured=True),
    Operation(name="model seal", takes=SealIn, do=seal, configured=True),
    Operation(name="model remove", takes=RemoveIn, do=remove, sure=what_removal_does),
)
