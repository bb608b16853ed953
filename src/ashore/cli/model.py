"""`ashore model`: pull, push, catalog, list, show, verify, remove, gc, export, import, seal, unseal, rekey, ps,
warm, cool, pin, unpin."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from ashore.cli.bootstrap import served_here
from ashore.cli.bootstrap.homestore import model_json, open_store
from ashore.cli.calls import Errand, command_of, here_first
from ashore.cli.columns import say, table
from ashore.cli.modelkeys import rekey, unseal
from ashore.cli.operations import operation_command
from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import Owned
from ashore.cli.sure import AsJson, DryRun, Yes, go_ahead, print_json
from ashore.control.residency.calls import CALLS, LIST, ModelIn, ResidenceList
from ashore.control.server.stored import CATALOG, EntryOut, ModelList, Shelf, StoreDesk
from ashore.control.server.stored import LIST as STORED_LIST
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import human_moment
from ashore.core.visible import on_a_screen
from ashore.data.residency import Residence
from ashore.kit.call import Items, Nothing
from ashore.kit.decode import UNDECODABLE
from ashore.kit.settings import read_settings
from ashore.kit.store import CatalogEntry, ModelStore, StoredModel, gate_verdict

app = App(name="model", help="Pull, list, verify and move models of this machine.")
for _word in ("pull", "verify", "remove", "seal"):
    app.command(operation_command(f"model {_word}"), name=_word)
app.command(unseal)
app.command(rekey)

Wait = Annotated[bool, Parameter(help="Wait until it is done.")]
LOOK_EVERY_S = 0.3
EXIT_CORRUPT = 4


def _show_residents(found: ResidenceList) -> None:
    print(f"planned {human_bytes(found.taken_bytes)} of {human_bytes(found.memory_bytes)} for all models")
    print()
    times = ("load", "wake", "idle", "per min", "evict", "loads", "why")
    table(("alias", "model", "state", "in", "planned", "resident", *times), [_resident_row(one) for one in found.items])


def _show_resident(one: Residence) -> None:
    place = "on disk" if one.tier == "disk" else f"in {one.tier}"
    print(f"{one.alias} is {one.state}, {place}" + (f": {one.why}" if one.why else ""))


def _resident_row(one: Residence) -> tuple[str, ...]:
    keeps = "start" if one.load == "start" else "pinned" if one.pin else str(one.evict_order or "-")
    return (
        one.alias,
        one.model,
        one.state,
        one.tier,
        human_bytes(one.memory_bytes) if one.memory_bytes else "-",
        human_bytes(one.resident_bytes) if one.resident_bytes else "-",
        f"{one.load_s:.1f} s" if one.load_s else "-",
        f"{one.wake_s:.1f} s" if one.wake_s else "-",
        f"{one.idle_s:.0f} s" if one.state == "loaded" and one.load == "demand" else "-",
        f"{one.rate_per_min:g}" if one.load == "demand" else "-",
        keeps,
        str(one.loads),
        one.why or "-",
    )


def _until_settled(errand: Errand, asked: ModelIn, *, wait: Wait = True) -> None:
    """Send the request, and wait until the model has reached the requested state."""
    answer = errand.ask(asked)
    goal = "loaded" if errand.call.word in ("warm", "pin") else "cold"
    while wait and answer.state not in (goal, "failed"):
        time.sleep(LOOK_EVERY_S)
        found = errand.ask(Nothing(), LIST)
        answer = next(one for one in found.items if one.alias == asked.alias)
    errand.tell(answer)
    if answer.state == "failed" or (wait and goal == "cold" and answer.why):
        raise SystemExit(EXIT_CORRUPT)


for _call in CALLS:
    if _call is LIST:
        app.command(command_of(_call, _show_residents), name=_call.word)
    elif _call.word == "unpin":
        app.command(command_of(_call, _show_resident), name=_call.word)
    else:
        app.command(command_of(_call, _show_resident, _until_settled), name=_call.word)


@app.command
def fetch(ref: str, /, *, as_json: AsJson = False) -> None:
    """Bring the weights of a model back from the bucket that `ashore model cool --to s3` moved them to.

    A request for a model on demand does the same. To resume after an interruption, run the command again.

    Args:
        ref: Model, or one variant of it: name@variant.
    """
    store = open_store()
    with TerminalProgress() as progress:
        came = store.fetch_back(ref, progress=progress)
    if as_json:
        return print_json({"reference": ref, "fetched_bytes": came})
    print(f"{ref}: {human_bytes(came)} fetched" if came else f"{ref} is on this disk")
    return None


@app.command
def push(ref: str, target: str, /, *, as_json: AsJson = False) -> None:
    """Push a model to a registry or a bucket.

    Args:
        ref: Model, or one variant of it: name@variant.
        target: oci://HOST/NAME[:TAG] or s3://BUCKET/PATH.
    """
    with TerminalProgress() as progress:
        digest = open_store().push(ref, target, progress=progress)
    if as_json:
        return print_json({"reference": ref, "target": target, "digest": digest})
    print(f"{target}  {digest}")
    return None


@contextmanager
def _shelf_of_home() -> Iterator[StoreDesk]:
    """Open what reads the store of this home; it needs neither a server nor a state."""
    yield StoreDesk(shelf=Shelf(store=open_store, here=served_here), rights=Owned())


def _show_catalog(found: Items[EntryOut]) -> None:
    table(
        ("name", "parameters", "on disk", "licence", "here", "what it is"),
        [(one.name, _parameters(one.num_parameters), _on_disk(one), one.licence, one.here, one.summary)
         for one in found.items],
    )  # fmt: skip


def _show_stored(found: ModelList) -> None:
    for lost in found.broken:
        print(f"warning: {lost.reference}: {lost.problem}; pull it again, or remove it", file=sys.stderr)
    if not found.items and not found.broken:
        print("the store is empty; try: ashore model pull smollm2", file=sys.stderr)
        return
    table(
        ("name", "format", "precision", "size", "gate", "sealed", "licence", "digest"),
        [
            (
                one.reference,
                one.format,
                one.precision or "-",
                human_bytes(one.num_bytes),
                one.gate or "-",
                "sealed" if one.sealed else "-",
                one.licence,
                one.digest[:19],
            )
            for one in found.items
        ],
    )


for _call, _view in ((STORED_LIST, _show_stored), (CATALOG, _show_catalog)):
    app.command(command_of(_call, _view, here_first, _shelf_of_home), name=_call.word)


@app.command
def show(ref: str, /, *, as_json: AsJson = False) -> None:
    """Show a model in the store, or the catalogue entry of a model that is not in the store.

    Args:
        ref: Model, one variant of it (name@variant), or a name in the catalogue.
    """
    store = open_store()
    stored = [m for m in store.list() if m.name == ref.partition("@")[0]]
    if not stored and any(e.name == ref for e in store.catalog.entries):
        document = catalog_json(store.catalog.get(ref))
    else:
        model = store.resolve(ref)
        document = model_json(model) | {"attachments": [dataclasses.asdict(one) for one in store.attachments(model)]}
        document |= {"gate": _gate(store, model), **_sampling(store, model)}
    if as_json:
        return print_json(document)
    for key, value in document.items():
        if key == "files":
            for file in value:
                print(f"file: {file['path']}  {human_bytes(file['num_bytes'])}  {file['digest']}")
        elif key == "attachments":
            for one in value:
                day = human_moment(one["created_s"])
                print(
                    f"attached: {one['kind']}  {day}  {one['digest'][:19]}  {' '.join(f['path'] for f in one['files'])}"
                )
        elif key == "created_s" and value:
            print(f"created: {human_moment(value)}")
        elif key in ("num_bytes", "weight_bytes") and value is not None:
            print(f"{'size' if key == 'num_bytes' else 'weights'}: {human_bytes(value)}")
        elif isinstance(value, dict) and value:
            say(", ".join(f"{k}={v}" for k, v in value.items() if v not in (0, "")), first=f"{key}: ")
        elif value not in (None, "", [], (), {}):
            say(_words(value), first=f"{key}: ")
    return None


def _words(value: object) -> str:
    """Return a value as text, safe for a terminal: a licence or a source may be what a stranger wrote."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return on_a_screen(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


@app.command
def gc(*, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete data that no model name, release or running server needs, and pulls abandoned for a week."""
    from ashore.cli.bootstrap import manifests_in_use

    store, keep = open_store(), manifests_in_use(read_settings())
    idle = store.garbage(keep)
    what = f"delete {counted(len(idle.models), 'model')}, {counted(idle.num_blobs, 'blob')}, free "
    if not go_ahead(f"{what}{human_bytes(idle.freed_bytes)}", yes=yes, dry_run=dry_run, as_json=as_json):
        return None
    report = store.gc(keep=keep)
    if as_json:
        return print_json(dataclasses.asdict(report))
    deleted = f"{counted(len(report.models), 'model')}, {counted(report.num_blobs, 'blob')}"
    print(f"deleted {deleted}; {human_bytes(report.freed_bytes)} freed")
    return None


@app.command
def export(ref: str, tar: Path, /, *, as_json: AsJson = False) -> None:
    """Write a model as a tar of an OCI layout.

    Args:
        ref: Model, or one variant of it: name@variant.
        tar: File to write. An existing file is replaced once the new one is complete.
    """
    if not tar.absolute().parent.is_dir():
        raise InvalidRequest(f"the folder {tar.absolute().parent} does not exist", hint="create it first")
    with TerminalProgress() as progress:
        path = open_store().export(ref, tar, progress=progress)
    if as_json:
        return print_json({"reference": ref, "path": str(path), "num_bytes": path.stat().st_size})
    print(f"{path}  {human_bytes(path.stat().st_size)}")
    return None


@app.command(name="import")
def import_(tar: Path, /, *, as_json: AsJson = False) -> None:
    """Import the models of a tar that `export` wrote, and verify every byte.

    Args:
        tar: The tar file.
    """
    if not tar.is_file():
        raise InvalidRequest(f"{tar} is not a file", hint="give the path of a tar written by `ashore model export`")
    with TerminalProgress() as progress:
        models = open_store().import_tar(tar, progress=progress)
    if as_json:
        return print_json({"items": [model_json(m) for m in models]})
    for model in models:
        print(f"{model.reference}  {human_bytes(model.num_bytes)}  {model.digest}")
    return None


def catalog_json(entry: CatalogEntry) -> dict[str, Any]:
    """Return a catalogue entry; numbers that no public source tells are null."""
    document = dataclasses.asdict(entry)
    document["shape"] = dict(document.pop("known"))
    document["recommended"] = dict(document["recommended"])
    return document


def _gate(store: ModelStore, model: StoredModel) -> str:
    """Return the gate's last verdict on exactly these bytes: `passed`, `failed`, or empty without one."""
    if not store.attachments(model, "gate"):
        return ""
    found = gate_verdict(store, f"{model.name}@{model.digest}")
    return "" if found is None else "passed" if found.passed else "failed"


def _sampling(store: ModelStore, model: StoredModel) -> dict[str, Any]:
    """Return the sampling that a model's makers recommend, and its source; empty for sealed models and encoders."""
    from ashore.data.text import GenerationFacts

    file = next((f for f in model.files if f.path == "generation.json"), None)
    if file is None or model.sealed:
        return {}
    try:
        facts = msgspec.json.decode(store.blob_path(file.digest).read_bytes(), type=GenerationFacts)
    except (OSError, *UNDECODABLE):
        return {"sampling_defaults": {}, "sampling_defaults_from": "unreadable: see ashore model verify"}
    return {"sampling_defaults": facts.defaults, "sampling_defaults_from": facts.defaults_told_by}


def _parameters(count: int | None) -> str:
    if not count:
        return "unknown"
    for unit, size in (("T", 1e12), ("B", 1e9)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.0f} M"


def _on_disk(entry: EntryOut) -> str:
    about = "~" if "weight_bytes" in entry.unverified else ""
    return "unknown" if entry.weight_bytes is None else about + human_bytes(entry.weight_bytes)
