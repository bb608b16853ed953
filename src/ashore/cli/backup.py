"""`ashore backup`: init, run, restore, rehearse, list, status, scrub, replace, confirm, rekey."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.athome import settings_of
from ashore.cli.columns import table
from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import os_user
from ashore.cli.sure import DryRun, Yes, go_ahead
from ashore.core import counted, human_bytes
from ashore.errors import InvalidRequest, NotFound
from ashore.settings import Home, Settings, read_settings

if TYPE_CHECKING:
    from ashore.backup import BackupSection, BackupService, KeptBackup, RestoreReport, ScrubReport, StatusReport

app = App(name="backup", help="Keep copies of this home that survive lost disks; restore.")

EXIT_DAMAGED: Final = 4
"""Something is wrong that could not be repaired, or could be lost now."""

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
RecoveryKey = Annotated[Path, Parameter(name=("--recovery-key", "--key"))]
Flag = Annotated[bool, Parameter(negative=())]


def _places_in(nodes: str) -> tuple[str, ...]:
    """Return the places in a list with commas."""
    return tuple(_place(one.strip()) for one in nodes.split(",") if one.strip())


def _place(text: str) -> str:
    """Return the place of a node: a folder by its absolute path, since the backup outlives this directory."""
    from ashore.backup.nodes import UNKNOWN_PLACE

    is_folder = "://" not in text and not text.startswith(UNKNOWN_PLACE)
    return os.path.abspath(os.path.expanduser(text)) if is_folder else text


@app.command
def init(*, nodes: str = "", code: str = "", config: Path | None = None, as_json: AsJson = False) -> None:
    """Set up the backup of this home on nodes, and write the recovery key. Then keep that key elsewhere.

    Args:
        nodes: Nodes, separated by commas: folders (mounts of other disks or machines) and s3://BUCKET/PATH.
        code: K+M nodes, any M of which may be lost: 2+1 to 10+4.
        config: An ashore.toml with [backup] nodes and code.
        as_json: Print JSON.
    """
    from ashore.backup import parse_code
    from ashore.bootstrap import command_recorder, open_backup

    spec = _section(config)
    places = _places_in(nodes) or spec.nodes
    if not places:
        raise InvalidRequest("no nodes were given", hint="--nodes DIR,DIR,DIR, or --config with [backup] nodes")
    home = read_settings().home
    home.create()
    with command_recorder(home) as recorder:
        vault, warnings = open_backup(home, recorder, actor=os_user()).init(places, parse_code(code or spec.code))
    _warn(warnings)
    key = home.root / "backup-recovery-key"
    if as_json:
        print(json.dumps({"vault_id": vault.vault_id, "code": vault.code, "nodes": places, "recovery_key": str(key)}))
        return
    print(f"set up backup {vault.vault_id[:8]} on {len(places)} nodes, code {vault.code}")
    print(f"the recovery key is in {key}: keep it elsewhere, and delete it here")


@app.command
@also_a_job("backup run")
def run(
    *models: str,
    config: Path | None = None,
    keep: int = 0,
    without_state: Flag = False,
    take_over: Flag = False,
    as_json: AsJson = False,
) -> int:
    """Make one backup of models, state, keys and audit log. The server may keep running.

    Args:
        models: Names or references; default: [backup] models of --config, or all.
        config: An ashore.toml; it is backed up too.
        keep: Number of backups to keep; default: [backup] keep of --config, or 7.
        without_state: Leave out the state, which is in Postgres and backed up separately; as [backup] without_state.
        take_over: Continue the backup that this home was restored from. The home that made it is then refused.
        as_json: Print JSON.
    """
    from ashore.backup import could_be_lost
    from ashore.bootstrap import backup_contents

    spec = _section(config)
    settings = settings_of(config)
    with _service(settings.home) as service, TerminalProgress() as progress:
        report = service.run(
            backup_contents(settings, config=config, without_state=without_state or spec.without_state),
            only=models or spec.models,
            keep=keep or spec.keep,
            take_over=take_over,
            told=progress,
        )
        code = service.code
    _warn((*report.notes, *_keys_elsewhere(settings)))
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print(
            f"backup {report.generation}: {counted(report.num_objects, 'object')}, {human_bytes(report.clear_bytes)}; "
            f"new: {report.num_new}, {human_bytes(report.new_bytes)}"
        )
        if report.repaired:
            print(f"rebuilt on nodes that lacked them: {counted(report.repaired, 'shard')}")
        print(f"on {len(report.nodes)} of {code.n} nodes: {could_be_lost(code, report.worst)}")
    return 0 if report.worst == code.n else EXIT_DAMAGED


@app.command
def restore(
    model: str = "",
    /,
    *,
    nodes: str = "",
    key: RecoveryKey | None = None,
    generation: int = 0,
    as_json: AsJson = False,
) -> None:
    """Restore a whole home into an empty one, or one model into this home. Needs only the nodes and the recovery key.

    Args:
        model: Name or reference of one model; default: everything, into an empty home that no server uses.
        nodes: Nodes, separated by commas; default: those of this home's own backup.
        key: File with the recovery key; default: the key of this home's own backup.
        generation: Number of the backup; default: the newest.
        as_json: Print JSON.
    """
    settings = read_settings()
    with TerminalProgress() as progress:
        report = _restore(settings, model, nodes, key, generation, progress)
    _print_restored(report, "{} restored", as_json=as_json)


@app.command
@also_a_job("backup rehearse")
def rehearse(*, generation: int = 0, as_json: AsJson = False) -> None:
    """Rehearse a restore of the whole home: read everything that it needs from the nodes, check it, and write nothing.

    It opens the backup with this home's own key; `ashore backup confirm` tests the recovery key.

    Args:
        generation: Number of the backup; default: the newest.
        as_json: Print JSON.
    """
    from ashore.backup import BackupHome, Restore, find_own
    from ashore.bootstrap import command_recorder
    from ashore.core import Act

    home = read_settings().home
    with TerminalProgress() as progress:
        report = Restore(find_own(BackupHome(home.root)), told=progress, generation=generation).rehearse()
    with command_recorder(home) as recorder:
        detail: dict[str, str | int] = {"models": len(report.models), "bytes": report.num_bytes}
        recorder.record(
            Act(action="backup:rehearse", actor=os_user(), resource=f"backup/{report.generation}", detail=detail)
        )
    _print_restored(report, "all {} can be restored", as_json=as_json)


@app.command(name="list")
def list_(*, as_json: AsJson = False) -> int:
    """List the backups that lie on the nodes, the newest first: `ashore backup restore --generation N` takes one.

    Args:
        as_json: Print JSON.
    """
    with _service(read_settings().home) as service:
        found = service.kept()
    if as_json:
        print(json.dumps({"items": [dataclasses.asdict(one) for one in found]}))
    elif not found:
        print("there is no backup yet: `ashore backup run` makes one")
    else:
        head = ("backup", "made at", "objects", "bytes", "nodes that may be lost", "models")
        table(head, [_row(one) for one in found])
    return 0 if found and found[0].spare >= 0 else EXIT_DAMAGED


def _row(one: KeptBackup) -> tuple[str, ...]:
    made = datetime.fromtimestamp(one.created_s, UTC).isoformat(timespec="seconds")
    spare = str(one.spare) if one.spare >= 0 else "INCOMPLETE"
    return str(one.generation), made, str(one.num_objects), human_bytes(one.clear_bytes), spare, ", ".join(one.models)


@app.command
def status(*, as_json: AsJson = False) -> int:
    """Show the state of the backup, and what could be lost now. Reads names and sizes; `scrub` reads everything.

    Args:
        as_json: Print JSON.
    """
    from ashore.bootstrap import backup_contents

    settings = read_settings()
    with _service(settings.home) as service:
        report = service.status(backup_contents(settings, without_state=True))
        code = service.code
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        _print_status(report)
    return 0 if report.generation and report.worst == code.n else EXIT_DAMAGED


@app.command
@also_a_job("backup scrub")
def scrub(*, rate: float = 0.0, as_json: AsJson = False) -> int:
    """Read everything on every node, and rebuild damaged shards from the other nodes.

    Args:
        rate: Most megabytes (10^6 bytes) to read per second; default: no limit.
        as_json: Print JSON.
    """
    settings = read_settings()
    with _service(settings.home) as service, TerminalProgress() as progress:
        report = service.scrub(bytes_per_s=rate * 1e6 or None, told=progress)
    return _print_scrub(report, as_json=as_json)


@app.command
def replace(node: str, place: str = "", /, *, as_json: AsJson = False) -> int:
    """Replace a lost or moved node, and rebuild its shards from the other nodes.

    Args:
        node: The node: its place, or its number, counted from 0.
        place: New place of the node; default: its old place, where there may be a new disk.
        as_json: Print JSON.
    """
    settings = read_settings()
    with _service(settings.home) as service, TerminalProgress() as progress:
        report = service.replace(node if node.isdigit() else _place(node), place and _place(place), told=progress)
    return _print_scrub(report, as_json=as_json)


@app.command
def confirm(key: Path, /) -> None:
    """Test the recovery key on every node. If this home lost its own copy of the key, it gets it back.

    Args:
        key: File with the recovery key.
    """
    from ashore.backup import read_recovery

    settings = read_settings()
    with _service(settings.home) as service:
        _warn(service.confirm(read_recovery(key)))
    print("the recovery key opens this backup; keep it where it is")


@app.command
def rekey(*, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Create a new recovery key, for example if the old one was lost or exposed. The old key stops working."""
    settings = read_settings()
    with _service(settings.home) as service:
        what = f"create a new recovery key for the backup on {len(service.places)} nodes; the old one stops working"
        if not go_ahead(what, yes=yes, dry_run=dry_run):
            return
        service.rekey()
    print(f"the recovery key is in {settings.home.root / 'backup-recovery-key'}: keep it elsewhere, and delete it here")


def _restore(
    settings: Settings, model: str, nodes: str, key: Path | None, generation: int, progress: TerminalProgress
) -> RestoreReport:
    from ashore.backup import BackupHome, Restore, find_backup, find_own, read_recovery
    from ashore.bootstrap import build_store, command_recorder, restore_home
    from ashore.core import Act

    home = settings.home
    places = _places_in(nodes)
    if key is not None:
        own = BackupHome(home.root)
        found = find_backup(places or (own.read().places if own.has_vault else ()), read_recovery(key))
    elif model:
        found = find_own(BackupHome(home.root))
    else:
        hint = "--nodes DIR,DIR,DIR --recovery-key FILE"
        raise InvalidRequest("restoring a whole home needs the recovery key", hint=hint)
    one = Restore(found, told=progress, generation=generation)
    report = one.model(home.root, model, build_store(home, settings)) if model else restore_home(one, settings)
    with command_recorder(home) as recorder:
        resource = f"backup/{report.generation}" + (f"/{model}" if model else "")
        detail: dict[str, str | int] = {"models": len(report.models), "bytes": report.num_bytes}
        recorder.record(Act(action="backup:restore", actor=os_user(), resource=resource, detail=detail))
    return report


def _print_restored(report: RestoreReport, what: str, *, as_json: bool) -> None:
    _warn(report.notes)
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
        return
    made = datetime.fromtimestamp(report.created_s, UTC).isoformat(timespec="seconds")
    print(f"backup {report.generation}, made at {made}: {what.format(human_bytes(report.num_bytes))}")
    print(f"models: {', '.join(report.models) or 'none'}; {counted(report.num_files, 'other file')}")


def _print_status(report: StatusReport) -> None:
    if report.generation:
        made = datetime.fromtimestamp(report.created_s, UTC).isoformat(timespec="seconds")
        print(
            f"backup {report.generation}, made at {made}: {counted(report.num_objects, 'object')}, code {report.code}"
        )
    print(report.lost)
    for node in report.nodes:
        lacks = f", lacks {counted(node.missing, 'shard')}" if node.missing else ""
        print(f"  {node.index}  {node.condition:7}  {node.place}  {human_bytes(node.num_bytes)}{lacks}")
    if report.not_backed_up:
        print(f"not in the backup: {', '.join(report.not_backed_up)}")
    print(f"a backup is valid when {report.quorum} nodes have it")
    for line in report.schedule:
        print(line)
    _warn(report.warnings)


def _print_scrub(report: ScrubReport, *, as_json: bool) -> int:
    _warn(report.notes)
    if as_json:
        print(json.dumps({"ok": report.ok, **dataclasses.asdict(report)}))
    else:
        for found in report.findings:
            state = "repaired" if found.repaired else "WRONG"
            print(f"{state}: {found.belongs_to} on {found.place}: {found.what}")
        verdict = "good" if report.ok else "NOT good"
        print(f"{counted(report.num_shards, 'shard')}, {human_bytes(report.num_bytes)} read: {verdict}")
    if not report.ok and not as_json:
        print("the next `ashore backup run` rewrites what is wrong, if this home still has it intact")
    return 0 if report.ok else EXIT_DAMAGED


def _section(config: Path | None) -> BackupSection:
    """Return `[backup]` of an ashore.toml; without one, the defaults."""
    if config is None:
        from ashore.backup import BackupSection

        return BackupSection()
    from ashore.config import read_spec

    return read_spec(config).backup


def _keys_elsewhere(settings: Settings) -> tuple[str, ...]:
    """Return what must be kept beside a backup of sealed models."""
    kind, _, place = settings.sealing_key.partition(":")
    if not place or (kind == "keyring" and Path(place).is_relative_to(settings.home.root)):
        return ()
    return (f"the sealing key is at {kind}:{place.partition('?')[0]} and not in this backup; back it up separately",)


@contextmanager
def _service(home: Home) -> Iterator[BackupService]:
    from ashore.bootstrap import command_recorder, open_backup

    if not os.path.isdir(home.root):
        raise NotFound(
            f"the home {home.root} does not exist", hint="set ASHORE_HOME; or restore it with `ashore backup restore`"
        )
    with command_recorder(home) as recorder:
        yield open_backup(home, recorder, actor=os_user())


def _warn(lines: tuple[str, ...]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
