"""`ashore backup`: init, run, restore, rehearse, list, status, scrub, repair, replace, confirm, rekey."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from ashore.cli.bootstrap.operations.backups import act_of_restore, backup_of, section_of, shown_restore, shown_scrub
from ashore.cli.columns import say, table
from ashore.cli.operations import operation_command, print_shown
from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import os_user
from ashore.cli.sure import AsJson, DryRun, Yes, go_ahead
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import human_moment
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.control.backup import KeptBackup, RestoreReport, StatusReport

app = App(name="backup", help="Keep copies of this home that survive lost disks; restore.")

for _word in ("run", "scrub", "repair", "rehearse"):
    app.command(operation_command(f"backup {_word}"), name=_word)

EXIT_DAMAGED: Final = 4
"""Something is wrong that could not be repaired, or could be lost now."""

RecoveryKey = Annotated[Path, Parameter(name=("--recovery-key", "--key"))]


def _places_in(nodes: str) -> tuple[str, ...]:
    """Return the places in a list with commas."""
    return tuple(_place(one.strip()) for one in nodes.split(",") if one.strip())


def _place(text: str) -> str:
    """Return the place of a node: a folder as an absolute path, because later commands run from other directories."""
    from ashore.control.backup.nodes import UNKNOWN_PLACE

    is_folder = "://" not in text and not text.startswith(UNKNOWN_PLACE)
    return os.path.abspath(os.path.expanduser(text)) if is_folder else text


@app.command
def init(*, nodes: str = "", code: str = "", config: Path | None = None, as_json: AsJson = False) -> None:
    """Set up the backup of this home on nodes, and write the recovery key. Then keep that key elsewhere.

    Args:
        nodes: Nodes, separated by commas: folders (mounts of other disks or machines) and s3://BUCKET/PATH.
        code: K+M nodes, any M of which may be lost: 2+1 to 10+4.
        config: An ashore.toml with [backup] nodes and code.
    """
    from ashore.cli.bootstrap import command_recorder, open_backup
    from ashore.control.backup import parse_code

    spec = section_of(config)
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
    say(f"the recovery key is in {key}: keep it elsewhere, and delete it here")


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
    """
    settings = read_settings()
    with TerminalProgress() as progress:
        report = _restore(settings, model, nodes, key, generation, progress)
    _warn(report.notes)
    print_shown(shown_restore(report, "{} restored"), as_json=as_json)
    if not (model or as_json):
        say("next: ashore up. The home that was backed up must not run any more: two of one state drift apart")


@app.command(name="list")
def list_(*, as_json: AsJson = False) -> int:
    """List the backups that lie on the nodes, the newest first: `ashore backup restore --generation N` takes one."""
    with backup_of(read_settings().home, os_user()) as service:
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
    made = human_moment(one.created_s)
    spare = str(one.spare) if one.spare >= 0 else "INCOMPLETE"
    return str(one.generation), made, str(one.num_objects), human_bytes(one.clear_bytes), spare, ", ".join(one.models)


@app.command
def status(*, as_json: AsJson = False) -> int:
    """Show the state of the backup, and what could be lost now. Reads names and sizes; `scrub` reads everything."""
    from ashore.cli.bootstrap import backup_contents, backup_schedule

    settings = read_settings()
    with backup_of(settings.home, os_user()) as service:
        report = service.status(backup_contents(settings, without_state=True), backup_schedule(settings))
        code = service.code
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        _print_status(report)
    return 0 if report.generation and report.worst == code.n else EXIT_DAMAGED


@app.command
def replace(node: str, place: str = "", /, *, as_json: AsJson = False) -> int:
    """Replace a lost or moved node, and rebuild its shards from the other nodes.

    Args:
        node: The node: its place, or its number, counted from 0.
        place: New place of the node; default: its old place, where there may be a new disk.
    """
    settings = read_settings()
    with backup_of(settings.home, os_user()) as service, TerminalProgress() as progress:
        report = service.replace(node if node.isdigit() else _place(node), place and _place(place), told=progress)
    _warn(report.notes)
    return print_shown(shown_scrub(report), as_json=as_json)


@app.command
def confirm(key: Path, /) -> None:
    """Test the recovery key on every node. If this home lost its own copy of the key, it gets it back.

    Args:
        key: File with the recovery key.
    """
    from ashore.control.backup import read_recovery

    settings = read_settings()
    with backup_of(settings.home, os_user()) as service:
        _warn(service.confirm(read_recovery(key)))
    print("the recovery key opens this backup; keep it where it is")


@app.command
def rekey(*, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Create a new recovery key, for example if the old one was lost or exposed. The old key stops working."""
    settings = read_settings()
    with backup_of(settings.home, os_user()) as service:
        what = f"create a new recovery key for the backup on {len(service.places)} nodes; the old one stops working"
        if not go_ahead(what, yes=yes, dry_run=dry_run):
            return
        service.rekey()
    say(f"the recovery key is in {settings.home.root / 'backup-recovery-key'}: keep it elsewhere, and delete it here")


def _restore(
    settings: Settings, model: str, nodes: str, key: Path | None, generation: int, progress: TerminalProgress
) -> RestoreReport:
    from ashore.cli.bootstrap import build_store, command_recorder, restore_home
    from ashore.control.backup import BackupHome, Restore, find_backup, find_own, read_recovery

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
        recorder.record(act_of_restore("restore", report, os_user(), model=model))
    return report


def _print_status(report: StatusReport) -> None:
    if report.generation:
        made = human_moment(report.created_s)
        print(
            f"backup {report.generation}, made at {made}: {counted(report.num_objects, 'object')}, code {report.code}"
        )
    say(report.lost)
    for node in report.nodes:
        lacks = f", lacks {counted(node.missing, 'shard')}" if node.missing else ""
        print(f"  {node.index}  {node.condition:7}  {node.place}  {human_bytes(node.num_bytes)}{lacks}")
    if report.not_backed_up:
        say(f"not in the backup: {', '.join(report.not_backed_up)}")
    print(f"a backup is valid when {report.quorum} nodes have it")
    for line in report.schedule:
        say(line)
    _warn(report.warnings)


def _warn(lines: tuple[str, ...]) -> None:
    for line in lines:
        say(line, first="warning: ", to=sys.stderr)
