"""Reminds the operator to confirm the recovery key while the home is alive: when it is needed, it is too late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ashore.control.backup.home import BackupHome
from ashore.control.backup.keys import VaultKey, envelope_id, unwrap
from ashore.control.backup.model import Vault
from ashore.control.backup.nodes import NodeOpener
from ashore.control.backup.vault import read_mark
from ashore.core.errors import AshoreError, NotFound, RecoveryKeyWrong, TooFewNodes
from ashore.core.timespan import human_seconds

CONFIRM_EVERY_S: Final = 180 * 86_400.0
"""After so long without anybody showing the recovery key, the operator is asked."""
IF_LOST: Final = "if it is lost, create a new one with `ashore backup rekey` while this home exists"


def confirm(home: BackupHome, recovery: bytes, *, opener: NodeOpener, now_s: float) -> tuple[str, ...]:
    """Open the envelope of every node with the recovery key, record that it was shown, and return warnings.

    A home that has lost its own backup key gets it back. Requires the backup lock.

    Raises:
        RecoveryKeyWrong: it does not open this backup.
        TooFewNodes: no node is reachable.
    """
    vault = home.read()
    key: VaultKey | None = None
    notes: list[str] = []
    refusals: list[RecoveryKeyWrong] = []
    for place in vault.places:
        try:
            mark = read_mark(opener(place))
            if mark.vault_id != vault.vault_id:
                raise NotFound(f"{place} belongs to another backup, {mark.vault_id[:8]}")
            opened = unwrap(mark.vault_id, mark.envelope, recovery)
            if vault.envelope and envelope_id(mark.envelope) != vault.envelope:
                raise RecoveryKeyWrong(
                    f"that is an older recovery key: it opens only {place}, which was reset to an older copy",
                    hint="repair the mark with `ashore backup scrub`; use the key that the last rekey created",
                )
            key = opened
        except RecoveryKeyWrong as error:
            refusals.append(error)
            notes.append(f"{place}: {error.message}")
        except AshoreError as error:
            notes.append(error.message)
    if key is None:
        if refusals:
            raise refusals[0]
        raise TooFewNodes(f"no node is available: {'; '.join(notes)}", hint="mount them")
    notes += _bring_back(home, key)
    home.write(msgspec.structs.replace(vault, confirmed_s=int(now_s)))
    return tuple(notes)


def key_warnings(home: BackupHome, vault: Vault, now_s: float) -> Iterator[str]:
    """Yield warnings about the recovery key: stored in a bad place, or not confirmed."""
    if home.recovery_key.exists():
        yield (
            f"the recovery key is still in {home.recovery_key}, on the machine whose loss it must survive: "
            "move it to a safe place, and delete it here"
        )
    elif not vault.confirmed_s:
        yield f"nobody has confirmed yet that the recovery key was stored: ashore backup confirm KEY_FILE; {IF_LOST}"
    elif now_s - vault.confirmed_s > CONFIRM_EVERY_S:
        since = human_seconds(now_s - vault.confirmed_s)
        yield f"nobody has confirmed the recovery key for {since}: ashore backup confirm KEY_FILE; {IF_LOST}"


def _bring_back(home: BackupHome, key: VaultKey) -> tuple[str, ...]:
    """Restore a home's own key if it is missing or altered."""
    try:
        if home.read_key() == key:
            return ()
        why = "was a different one"
    except AshoreError as error:
        why = f"could not be read ({error.message})"
    home.write_key(key)
    return (f"the home's own backup key {why}; it was restored",)
