"""`directory sync`."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Final

from ashore.cli.bootstrap.athome import settings_of
from ashore.cli.bootstrap.operations.model import EXIT_REFUSED, Operation, Shown, Work
from ashore.cli.bootstrap.records import command_recorder
from ashore.cli.bootstrap.state import as_served, open_state
from ashore.core.clock import SystemClock
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.jobs import EgressSection
from ashore.data.jobs.operations.asks import SyncIn

SHOWN: Final = 1000
"""Changes that are printed."""


def sync(asked: SyncIn, work: Work, *, dry_run: bool = False) -> Shown:
    """Sync a directory."""
    from ashore.control.directory import DirectoriesSection, Syncing
    from ashore.machine.config import read_spec

    spec = read_spec(work.config) if work.config is not None else None
    directories = DirectoriesSection() if spec is None else spec.section("directory", DirectoriesSection)
    section = directories.named(asked.directory)
    if section is None:
        names = [one.name for one in directories.all]
        raise NotFound(
            f"there is no [[directory]] {asked.directory!r} in {work.config or 'ashore.toml'}",
            hint=did_you_mean(asked.directory, names) if names else "give the file with --config",
        )
    settings = as_served(settings_of(work.config))
    allow = (EgressSection() if spec is None else spec.egress).with_own
    with closing(open_state(settings, create=False)) as state, command_recorder(settings.home) as recorder:
        report = Syncing(state, recorder, SystemClock(), allow).sync(
            section, actor=work.actor, dry_run=dry_run, even_so=asked.even_so, told=work.steps
        )
    lines = [*report.changes[:SHOWN], report.says]
    if len(report.changes) > SHOWN:
        lines.insert(SHOWN, f"and {len(report.changes) - SHOWN:,} more")
    return Shown(
        document=dataclasses.asdict(report), lines=lines, says=report.says, code=EXIT_REFUSED if report.held else 0
    )


def plan(asked: SyncIn, work: Work) -> Shown:
    """Show what a sync would change."""
    return sync(asked, work, dry_run=True)


OPERATIONS: Final = (Operation(name="directory sync", takes=SyncIn, do=sync, plan=plan, configured=True),)
