"""The home's state, its secrets, and the keys that seal them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ashore.bootstrap.stores import Keeper, key_keeper
from ashore.core import SystemClock
from ashore.settings import Settings

if TYPE_CHECKING:
    from ashore.sealing import KeyInMemory, KeyKeeper
    from ashore.state import Database
    from ashore.store import ModelStore, RekeyReport


def open_state(settings: Settings, *, say: Callable[[str], None] = lambda line: None) -> Database:
    """Open the state of this home, migrated first where an older ashore wrote it.

    Raises:
        HomeTooNew: a newer ashore wrote it.
        InvalidSpec: the state's URL names something this version cannot use.
    """
    from ashore.sealing import secrets_by_link
    from ashore.state import open_state as open_url

    home = settings.home
    return open_url(
        settings.state_url,
        default=home.state_db,
        snapshots=home.snapshots,
        clock=SystemClock(),
        say=say,
        secrets=secrets_by_link(home.secrets_key, key_keeper(settings)),
    )


def hold_state_secrets(settings: Settings, keeper: Keeper | None = None) -> KeyInMemory | None:
    """Seal the secrets of the state where a key source is configured, and hold their key for the workers of this home.

    Where `sealing_state` is off, what was sealed is written back as it was, and nothing is held.

    Raises:
        SealingKeyMissing: they are sealed, and their key is not at hand.
    """
    from ashore.sealing import are_secrets_sealed, hold_secrets_key, seal_secrets, unseal_secrets

    keeper = keeper or key_keeper(settings)
    state = open_state(settings)
    try:
        with state.write() as connection:
            if settings.sealing_key and settings.sealing_state:
                key = seal_secrets(connection, keeper())
            elif are_secrets_sealed(connection):
                unseal_secrets(connection, keeper)
                return None
            else:
                return None
    finally:
        state.close()
    return hold_secrets_key(key, settings.home.secrets_key)


def rekey(settings: Settings, store: ModelStore, *, to: KeyKeeper | None, new_key: bool) -> RekeyReport:
    """Wrap the data keys of all sealed models, of the audit's keys, and of the state's secrets anew.

    See `ModelStore.rekey`.
    """
    from ashore.audit import rewrap_audit_keys
    from ashore.sealing import rewrap_secrets

    home = settings.home
    report = store.rekey(to=to, new_key=new_key)
    if rewrap_audit_keys(home.audit, home.audit_keys, key_keeper(settings), to):
        report = replace(report, rewrapped=(*report.rewrapped, "audit"))
    if settings.home.state_db.exists() or settings.state_url:
        state = open_state(settings)
        try:
            with state.write() as connection:
                if rewrap_secrets(connection, key_keeper(settings), to):
                    return replace(report, rewrapped=(*report.rewrapped, "state"))
        finally:
            state.close()
    return report
