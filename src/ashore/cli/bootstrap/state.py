"""The home's state, its secrets, and the keys that seal them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.stores import Keeper, key_keeper
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, Conflict, StateLost
from ashore.kit.recorder import Act, Recorder
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.kit.sealing import KeyKeeper
    from ashore.kit.sealing.clearfiles import KeyInMemory
    from ashore.kit.state import Database
    from ashore.kit.store import ModelStore, RekeyReport


def shared_name(settings: Settings) -> str:
    """Return the name of this home among those that may share its state; empty if the state is not shared. Two homes on
    one machine have different names.
    """
    return f"{platform.node()}:{settings.home.root}" if settings.state_url else ""


def as_served(settings: Settings) -> Settings:
    """Return settings with the state that this home's server was started with, if these name none.

    `[state] url` of ashore.toml is known to the server alone: the shell of an operator need not have it.
    """
    from ashore.control.doctor.topology import TopologyPart
    from ashore.kit.processes.launchfiles import read_launch

    if settings.state_url or not settings.home.topology.is_file():
        return settings
    try:
        return replace(settings, state_url=read_launch(settings.home.topology, TopologyPart).state.url)
    except AshoreError:
        return settings


def open_state(settings: Settings, *, say: Callable[[str], None] = lambda line: None, create: bool = True) -> Database:
    """Open the state of this home, migrating it first if an older ashore wrote it.

    Args:
        settings: Of the home.
        say: Called with messages about a migration.
        create: Create the state if it is missing or empty.

    Raises:
        HomeTooNew: a newer ashore wrote it.
        InvalidSpec: the state's URL names something this version cannot use.
        StateLost: the state is gone, or empty, but other files show that this home had one.
    """
    if not settings.state_url:
        _refuse_lost(settings.home)
    return _open(settings, say, create=create)


def _open(settings: Settings, say: Callable[[str], None], *, create: bool = True) -> Database:
    from ashore.kit.sealing import secrets_by_link
    from ashore.kit.state import open_state as open_url

    home = settings.home
    return open_url(
        settings.state_url,
        default=home.state_db,
        snapshots=home.snapshots,
        clock=SystemClock(),
        say=say,
        secrets=secrets_by_link(home.secrets_key, key_keeper(settings)),
        create=create,
    )


def _refuse_lost(home: Home) -> None:
    """Raise `StateLost` instead of treating a home without its state as new: its keys would stop working, and a new
    first key would work.
    """
    from ashore.kit.state import has_state

    path = home.state_db
    if has_state(path):
        return
    seen = _traces_of_a_state(home)
    if not seen:
        return
    ways = []
    if snapshots := sorted(home.snapshots.glob("state-v*.db"), key=lambda p: p.stat().st_mtime):
        ways.append(f"restore a snapshot: cp {snapshots[-1]} {path}")
    if home.backup.is_dir():
        ways.append("restore the backup of this home into a new home: ASHORE_HOME=NEW ashore backup restore")
    else:
        ways.append("restore state.db from your copy of this home")
    ways.append("or start without the old keys, policy, budgets and releases: ashore up --new-state")
    raise StateLost(
        f"the state {path} is {'empty' if path.exists() else 'not there'}, and this home is not new: it has "
        + ", ".join(seen),
        hint="; ".join(ways),
    )


def begin_anew(settings: Settings, recorder: Recorder, *, actor: str) -> None:
    """Create an empty state in a home that lost its own. Its first key is deleted; a file in the place of the state is
    renamed to `state.db.replaced`.

    Raises:
        Conflict: the state is not lost.
    """
    from ashore.kit.state import has_state

    home = settings.home
    if settings.state_url or has_state(home.state_db):
        raise Conflict(
            f"the state {settings.state_url or home.state_db} is not lost",
            hint="leave out --new-state; to start with an empty home, set ASHORE_HOME to another directory",
        )
    recorder.record(Act(action="state:begin-anew", actor=actor, resource="state"))
    for name in ("state.db-wal", "state.db-shm"):
        home.state_db.with_name(name).unlink(missing_ok=True)
    if home.state_db.exists():
        home.state_db.replace(home.state_db.with_name("state.db.replaced"))
    home.first_key.unlink(missing_ok=True)
    _open(settings, lambda line: None).close()


def _traces_of_a_state(home: Home) -> list[str]:
    """Return traces that only a home with a state has: a server ran in it, or keys or copies of the state exist."""
    chains = [
        p
        for p in (home.audit / "chains").glob("*/*.log")
        if p.parent.name.partition("-")[0] != "cli" and p.stat().st_size
    ]
    journal = home.state_db.with_name("state.db-wal")
    files = [home.first_key, *home.snapshots.glob("state-v*.db"), *(() if home.state_db.exists() else (journal,))]
    servers = sorted({p.parent.name for p in chains})
    return [
        *([f"audit records of {', '.join(servers)}"] if servers else ()),
        *(str(p.relative_to(home.root)) for p in files if p.exists() and p.stat().st_size),
    ]


def hold_state_secrets(settings: Settings, keeper: Keeper | None = None) -> KeyInMemory | None:
    """Seal the secrets of the state if a key source is configured, and hold their key for this home's workers.

    If `sealing_state` is off, sealed secrets are written back in clear, and no key is held.

    Raises:
        SealingKeyMissing: they are sealed, and their key is unavailable.
    """
    from ashore.kit.sealing import are_secrets_sealed, hold_secrets_key, seal_secrets, unseal_secrets

    keeper = keeper or key_keeper(settings)
    with closing(open_state(settings)) as state, state.write() as connection:
        if settings.sealing_key and settings.sealing_state:
            key = seal_secrets(connection, keeper())
        elif are_secrets_sealed(connection):
            unseal_secrets(connection, keeper)
            return None
        else:
            return None
    return hold_secrets_key(key, settings.home.secrets_key)


def rekey(settings: Settings, store: ModelStore, *, to: KeyKeeper | None, new_key: bool) -> RekeyReport:
    """Rewrap the data keys of all sealed models, of the audit keys and of the state's secrets.

    See `ModelStore.rekey`.
    """
    from ashore.control.audit import rewrap_audit_keys
    from ashore.kit.sealing import rewrap_secrets

    home = settings.home
    report = store.rekey(to=to, new_key=new_key)
    if rewrap_audit_keys(home.audit, home.audit_keys, key_keeper(settings), to):
        report = replace(report, rewrapped=(*report.rewrapped, "audit"))
    if settings.home.state_db.exists() or settings.state_url:
        with closing(open_state(settings)) as state, state.write() as connection:
            if rewrap_secrets(connection, key_keeper(settings), to):
                return replace(report, rewrapped=(*report.rewrapped, "state"))
    return report
