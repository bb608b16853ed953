"""The secrets of a home: list them, and seal or unseal all that can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ashore.cli.bootstrap.state import hold_state_secrets, open_state
from ashore.cli.bootstrap.stores import Keeper
from ashore.core.errors import InvalidRequest
from ashore.kit.sealing import SecretFolder, hold_secrets_key, secret_rows
from ashore.kit.sealing.clearfiles import KeyInMemory
from ashore.kit.settings import Home, Settings
from ashore.kit.state import Database

Form = Literal["sealed", "clear", "stays clear"]

_STATE: Final = "state"
_FILES_THAT_STAY: Final = (
    ("first-key", "not valid once the three administrators have keys; delete it then"),
    ("backup-recovery-key", "move it away from this home: `ashore backup confirm`"),
    ("backup/key", "opens only copies of this home; stays clear so that backups run unattended"),
    ("run/internal-token", "created anew at each start"),
    ("cache/prefixes/key", "opens only prefixes of prompts beside it; deleted once the home is sealed"),
    ("edge/ca.key", "signs certificates for this machine only; use your own with [edge] certificate and key"),
    ("edge/edge-*.key", "Envoy reads it as a file; renewed with its certificate"),
)
"""Files with secrets that sealing leaves in clear, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeSecret:
    """One secret, without its value."""

    place: str
    """`state/NAME` or the path below the home."""
    form: Form
    why: str = ""
    """Why it stays clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReport:
    """Result of sealing or unsealing, or of a dry run."""

    changed: tuple[str, ...]
    already: tuple[str, ...]
    dry_run: bool = False


def list_home_secrets(settings: Settings) -> tuple[HomeSecret, ...]:
    """Return every secret of a home. Needs no key."""
    return (*_of_state(settings), *_of_audit(settings.home), *_staying(settings.home))


def seal_home_secrets(settings: Settings, keeper: Keeper, *, dry_run: bool = False) -> SecretReport:
    """Seal the clear secrets of the state and of the audit keys. Repeat the call after a kill to finish.

    The caller holds the home.

    Raises:
        InvalidRequest: no key source is configured, or it is set to leave secrets in clear.
        SealingKeyMissing, CorruptBlob: some are sealed, and their key is unavailable.
    """
    if not settings.sealing_key:
        raise InvalidRequest(
            "no key source is configured", hint='set [sealing] key = "…" and give --config, or set ASHORE_SEALING_KEY'
        )
    if not settings.sealing_state:
        raise InvalidRequest(
            "[sealing] state is false, so the next `ashore up` would write the secrets back unsealed",
            hint="remove that line from ashore.toml",
        )
    report = _report(settings, "clear", dry_run=dry_run)
    if not dry_run:
        for held in hold_home_secrets(settings, keeper):
            held.close()
        settings.home.secrets_key.unlink(missing_ok=True)
        settings.home.audit_key.unlink(missing_ok=True)
    return report


def unseal_home_secrets(settings: Settings, keeper: Keeper, *, dry_run: bool = False) -> SecretReport:
    """Write sealed secrets back in clear. The caller holds the home; repeat the call after a kill to finish.

    Raises:
        SealingKeyMissing, CorruptBlob: their key is unavailable.
    """
    report = _report(settings, "sealed", dry_run=dry_run)
    if not dry_run:
        _unseal(settings, keeper)
    return report


def hold_home_secrets(settings: Settings, keeper: Keeper) -> tuple[KeyInMemory, ...]:
    """Seal the secrets of a home if a key source is configured, and hold their keys for its processes.

    If `sealing_state` is off, sealed secrets are written back in clear, and no keys are held.

    Raises:
        SealingKeyMissing, CorruptBlob: they are sealed, and their key is unavailable.
    """
    from ashore.control.audit import seal_audit_keys

    home = settings.home
    if not (settings.sealing_key and settings.sealing_state):
        _unseal(settings, keeper)
        return ()
    audit = hold_secrets_key(seal_audit_keys(home.audit, home.audit_keys, keeper()), home.audit_key)
    state = hold_state_secrets(settings, keeper)
    return (audit,) if state is None else (audit, state)


def _unseal(settings: Settings, keeper: Keeper) -> None:
    from ashore.control.audit import unseal_audit_keys
    from ashore.kit.sealing import opened_by_keeper, unseal_secrets

    home = settings.home
    unseal_audit_keys(home.audit, home.audit_keys, opened_by_keeper(keeper))
    state = _state(settings)
    if state is None:
        return
    try:
        with state.write() as connection:
            unseal_secrets(connection, keeper)
    finally:
        state.close()


def _report(settings: Settings, form: Form, *, dry_run: bool) -> SecretReport:
    found = [one for one in list_home_secrets(settings) if one.form != "stays clear"]
    return SecretReport(
        changed=tuple(one.place for one in found if one.form == form),
        already=tuple(one.place for one in found if one.form != form),
        dry_run=dry_run,
    )


def _of_state(settings: Settings) -> Iterator[HomeSecret]:
    state = _state(settings)
    if state is None:
        return
    try:
        with state.read() as connection:
            rows = secret_rows(connection)
    finally:
        state.close()
    for row in sorted(rows, key=lambda one: one.name):
        yield HomeSecret(place=f"{_STATE}/{row.name}", form="sealed" if row.sealed else "clear")


def _of_audit(home: Home) -> Iterator[HomeSecret]:
    from ashore.control.audit import PRIVATE_KEYS

    folder = SecretFolder(home.audit_keys)
    for name in PRIVATE_KEYS:
        if folder.exists(name):
            yield HomeSecret(
                place=_below(home.audit_keys / name, home),
                form="sealed" if folder.lies_sealed(name) else "clear",
            )


def _staying(home: Home) -> Iterator[HomeSecret]:
    for pattern, why in _FILES_THAT_STAY:
        for path in sorted(home.root.glob(pattern)):
            yield HomeSecret(place=_below(path, home), form="stays clear", why=why)


def _below(path: Path, home: Home) -> str:
    return str(path.relative_to(home.root))


def _state(settings: Settings) -> Database | None:
    return open_state(settings) if settings.state_url or settings.home.state_db.is_file() else None
