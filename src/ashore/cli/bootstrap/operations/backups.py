"""`backup run`, `scrub`, `repair` and `rehearse`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.bootstrap.athome import settings_of
from ashore.cli.bootstrap.backups import backup_contents, open_backup
from ashore.cli.bootstrap.operations.model import EXIT_DAMAGED, Operation, Shown, Work
from ashore.cli.bootstrap.records import command_recorder
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import NotFound
from ashore.core.timespan import written_moment
from ashore.data.jobs.operations.asks import BackupRun, RehearseIn, RepairIn, ScrubIn
from ashore.kit.recorder import Act
from ashore.kit.settings import Home, Settings, read_settings

if TYPE_CHECKING:
    from ashore.control.backup import (
        BackupSection,
        BackupService,
        Code,
        Finding,
        RepairReport,
        RestoreReport,
        RunReport,
        ScrubReport,
    )

JOB_PATIENCE_S: Final = 600.0
"""Longest wait of a job for another process that uses the backup: twice the slice of a scrub."""


@contextmanager
def backup_of(home: Home, actor: str, *, patience_s: float = 0.0) -> Iterator[BackupService]:
    """Open the backup of a home; acts are recorded as done by `actor`. See `open_backup`.

    Raises:
        NotFound: there is no such home.
    """
    if not os.path.isdir(home.root):
        raise NotFound(
            f"the home {home.root} does not exist", hint="set ASHORE_HOME; or restore it with `ashore backup restore`"
        )
    with command_recorder(home) as recorder:
        yield open_backup(home, recorder, actor=actor, patience_s=patience_s)


def section_of(config: Path | None) -> BackupSection:
    """Return `[backup]` of an ashore.toml; without one, the defaults."""
    from ashore.control.backup import BackupSection

    if config is None:
        return BackupSection()
    from ashore.machine.config import read_spec

    return read_spec(config).section("backup", BackupSection)


def run(asked: BackupRun, work: Work) -> Shown:
    """Back up what the nodes do not have yet."""
    section, settings = section_of(work.config), settings_of(work.config)
    without_state = asked.without_state or section.without_state
    with _open(settings.home, work) as service:
        report = service.run(
            backup_contents(settings, config=work.config, without_state=without_state),
            only=tuple(asked.models) or section.models,
            keep=asked.keep or section.keep,
            take_over=asked.take_over,
            told=work,
        )
        code = service.code
    _warn(work, (*report.notes, *_keys_elsewhere(settings)))
    return shown_run(report, code)


def scrub(asked: ScrubIn, work: Work) -> Shown:
    """Read every shard."""
    with _open(read_settings().home, work) as service:
        report = service.scrub_all(bytes_per_s=asked.rate * 1e6 or None, resume=asked.unfinished, told=work)
    _warn(work, report.notes)
    return shown_scrub(report)


def repair(asked: RepairIn, work: Work) -> Shown:
    """Rebuild what working nodes lack."""
    with _open(read_settings().home, work) as service:
        report = service.repair()
    _warn(work, report.notes)
    return shown_repair(report)


def rehearse(asked: RehearseIn, work: Work) -> Shown:
    """Read everything that a restore would read, and write nothing."""
    from ashore.control.backup import BackupHome, Restore, find_own

    home = read_settings().home
    report = Restore(find_own(BackupHome(home.root)), told=work, generation=asked.generation).rehearse()
    with command_recorder(home) as recorder:
        recorder.record(act_of_restore("rehearse", report, work.actor))
    _warn(work, report.notes)
    return shown_restore(report, "all {} can be restored")


def act_of_restore(verb: str, report: RestoreReport, actor: str, *, model: str = "") -> Act:
    """Return the audit record of a restore, or of a rehearsal."""
    detail: dict[str, str | int] = {"models": len(report.models), "bytes": report.num_bytes}
    resource = f"backup/{report.generation}" + (f"/{model}" if model else "")
    return Act(action=f"backup:{verb}", actor=actor, resource=resource, detail=detail)


def shown_run(report: RunReport, code: Code) -> Shown:
    """Return the result of a backup."""
    from ashore.control.backup import could_be_lost

    lines = [
        f"backup {report.generation}: {counted(report.num_objects, 'object')}, {human_bytes(report.clear_bytes)}; "
        f"new: {report.num_new}, {human_bytes(report.new_bytes)}"
    ]
    if report.repaired:
        lines.append(f"rebuilt on nodes that lacked them: {counted(report.repaired, 'shard')}")
    nodes, lost = f"on {len(report.nodes)} of {code.n} nodes", could_be_lost(code, report.worst)
    return Shown(
        document=dataclasses.asdict(report),
        lines=(*lines, f"{nodes}: {lost}"),
        code=0 if report.worst == code.n else EXIT_DAMAGED,
        says=f"backup {report.generation} {nodes}; {lost}",
    )


def shown_repair(report: RepairReport) -> Shown:
    """Return the result of a repair: not good where something is wrong that it could not mend."""
    repaired = sum(finding.repaired for finding in report.findings)
    says = f"{repaired} of {counted(len(report.findings), 'fault')} repaired"
    if report.lacking:
        says += f"; nodes that still lack something: {', '.join(map(str, report.lacking))}"
    in_vain = repaired < len(report.findings) or (bool(report.lacking) and not repaired)
    return Shown(
        document=dataclasses.asdict(report),
        lines=(*_found(report.findings), says),
        code=EXIT_DAMAGED if in_vain else 0,
        says=says,
    )


def shown_scrub(report: ScrubReport) -> Shown:
    """Return the result of a scrub."""
    lines = _found(report.findings)
    verdict = "good" if report.ok else "NOT good"
    says = f"{counted(report.num_shards, 'shard')}, {human_bytes(report.num_bytes)} read: {verdict}"
    lines.append(says)
    if not report.ok:
        lines.append("the next `ashore backup run` rewrites what is wrong, if this home still has it intact")
    document = {"ok": report.ok, **dataclasses.asdict(report)}
    if report.findings:
        wrong = sum(not found.repaired for found in report.findings)
        says += f"; {counted(len(report.findings), 'fault')} found" + (f", {wrong} NOT repaired" if wrong else "")
    return Shown(document=document, lines=lines, code=0 if report.ok else EXIT_DAMAGED, says=says)


def _found(findings: Sequence[Finding]) -> list[str]:
    return [
        f"{'repaired' if found.repaired else 'WRONG'}: {found.belongs_to} on {found.place}: {found.what}"
        for found in findings
    ]


def _open(home: Home, work: Work) -> AbstractContextManager[BackupService]:
    """Open the backup; a job waits for another process that uses it."""
    return backup_of(home, work.actor, patience_s=JOB_PATIENCE_S if work.in_job else 0.0)


def shown_restore(report: RestoreReport, what: str) -> Shown:
    """Return what a restore brought back, or would; `what` has a placeholder for its bytes."""
    made = written_moment(report.created_s)
    return Shown(
        document=dataclasses.asdict(report),
        lines=(
            f"backup {report.generation}, made at {made}: {what.format(human_bytes(report.num_bytes))}",
            f"models: {', '.join(report.models) or 'none'}; {counted(report.num_files, 'other file')}",
        ),
    )


def _keys_elsewhere(settings: Settings) -> tuple[str, ...]:
    """Return what must be kept apart from a backup of sealed models."""
    kind, _, place = settings.sealing_key.partition(":")
    if not place or (kind == "keyring" and Path(place).is_relative_to(settings.home.root)):
        return ()
    return (f"the sealing key is at {kind}:{place.partition('?')[0]} and not in this backup; back it up separately",)


def _warn(work: Work, lines: Sequence[str]) -> None:
    for line in lines:
        work.say(f"warning: {line}")


OPERATIONS: Final = (
    Operation(name="backup run", takes=BackupRun, do=run, configured=True),
    Operation(name="backup scrub", takes=ScrubIn, do=scrub),
    Operation(name="backup repair", takes=RepairIn, do=repair),
    Operation(name="backup rehearse", takes=RehearseIn, do=rehearse),
)
