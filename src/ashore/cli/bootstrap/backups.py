"""The backup of a home: its contents, its location, and its restore."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.state import open_state, shared_name
from ashore.cli.bootstrap.stores import build_store
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.kit.folders import make_folder
from ashore.kit.recorder import Recorder
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.control.backup import BackupSection, BackupService, HomeContents, Restore, RestoreReport


def open_backup(home: Home, recorder: Recorder, *, actor: str, patience_s: float = 0.0) -> BackupService:
    """Return the backup of a home, which may not exist yet. Touches nothing.

    Args:
        actor: Who works with it, for the audit log.
        patience_s: Longest wait for another process that uses it.
    """
    from ashore.control.backup import BackupHome, BackupService

    return BackupService(BackupHome(home.root), SystemClock(), recorder, actor=actor, patience_s=patience_s)


def backup_schedule(settings: Settings) -> tuple[str, ...]:
    """Return, in words, what the server of a home does by itself for its backup; nothing, if it never did."""
    from ashore.control.backup.scheduled import standing
    from ashore.data.jobs.schedule import read_turns
    from ashore.kit.processes.lock import is_held

    home = settings.home
    if not settings.state_url and not home.state_db.is_file():
        return ()
    with closing(open_state(settings)) as state:
        found = read_turns(state, shared_name(settings))
    return standing(found, int(time.time() * 1000), is_kept=is_held(home.lock))


def release_manifests(settings: Settings) -> frozenset[str]:
    """Return the digests of the manifests that releases of this home refer to."""
    if not settings.state_url and not settings.home.state_db.is_file():
        return frozenset()
    from ashore.data.releases import load_book

    with closing(open_state(settings)) as state, state.read() as connection:
        return load_book(connection).manifests


def served_from(settings: Settings, digests: Collection[str]) -> tuple[str, ...]:
    """Return, in words, which releases and aliases answer or are about to answer with these manifests."""
    if not settings.state_url and not settings.home.state_db.is_file():
        return ()
    from ashore.data.releases import HOSTED, load_book

    with closing(open_state(settings)) as state, state.read() as connection:
        book = load_book(connection)
    return tuple(
        f"{release.name} ({book.courses[release.name].state}, alias {release.alias})"
        for release in book.releases.values()
        if release.plan.in_store
        and release.manifests & set(digests)
        and (book.courses[release.name].state in HOSTED or book.named_by(release.name))
    )


def manifests_in_use(settings: Settings) -> frozenset[str]:
    """Return the digests of the manifests that releases refer to, and those in the topology of this home's server,
    running or about to restart.
    """
    run = settings.home.run
    named = {
        f"sha256:{digits}"
        for path in (run.glob("*.json") if run.is_dir() else ())
        for digits in re.findall(r"[0-9a-f]{64}", path.read_text(encoding="utf-8"))
    }
    return release_manifests(settings) | named


def backup_contents(settings: Settings, *, config: Path | None = None, without_state: bool = False) -> HomeContents:
    """Return the contents of a backup of this home.

    Args:
        settings: Of the home.
        config: An ashore.toml, backed up beside the home's own files.
        without_state: Leave out a state that is not in a file.

    Raises:
        InvalidRequest: the state is in Postgres, and `without_state` is not set to confirm that it is backed up
            elsewhere.
    """
    from ashore.control.backup import HomeContents
    from ashore.kit.state import is_postgres_url, path_of_url

    home = settings.home
    in_postgres = is_postgres_url(settings.state_url)
    if in_postgres and not without_state:
        raise InvalidRequest(
            "the state database of this home is in Postgres, which a backup of the home does not include",
            hint="back up that database with its own tools (pg_dump, pgBackRest), and give --without-state here",
        )
    return HomeContents(
        home.root,
        build_store(home, settings),
        partial(release_manifests, settings),
        state=None if in_postgres else path_of_url(settings.state_url, default=home.state_db),
        extra={"ashore.toml": config} if config else {},
    )


def refuse_half_backups(spec: BackupSection, settings: Settings) -> None:
    """Raise `InvalidSpec` if scheduled backups are on, the state is in Postgres, and the operator has not confirmed
    that it is backed up elsewhere.
    """
    from ashore.kit.state import is_postgres_url

    if spec.every_s and is_postgres_url(settings.state_url) and not spec.without_state:
        raise InvalidSpec(
            "[backup] every_s is set, but the state database is in Postgres, which backups do not include",
            hint="back up that database with its own tools (pg_dump, pgBackRest), and set without_state = true there",
        )


def restore_home(restore: Restore, settings: Settings) -> RestoreReport:
    """Restore everything into the home of these settings, which is locked meanwhile.

    Raises:
        HomeBusy: it runs.
        Conflict: it is not empty.
    """
    from ashore.kit.processes.lock import Holder, HomeLock
    from ashore.kit.store import ModelStore

    home = settings.home
    make_folder(home.root, mode=0o700)
    lock = HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address="ashore backup restore"))
    try:
        return restore.home(home.root, lambda: ModelStore(home.store, home.run_models, SystemClock()))
    finally:
        lock.release()
