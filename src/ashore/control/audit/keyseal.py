"""Seals the private audit keys in place: while nothing signs, and without losing a key in a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ashore.data.audit import Checkpoints
from ashore.data.audit.digests import DIGEST_KEY
from ashore.data.audit.signing import NEXT_KEY, SIGNING_KEY, closed_keys_told
from ashore.kit.sealing import DataKey, KeyKeeper, OpenEnvelope, SecretFolder

PRIVATE_KEYS: Final = (SIGNING_KEY, NEXT_KEY, DIGEST_KEY)
"""Files that are sealed. The public keys are not: verifiers need them."""


def seal_audit_keys(root: Path, keys: Path, keeper: KeyKeeper) -> DataKey:
    """Seal unsealed keys, and return the sealing key; later keys are sealed when created.

    May be called twice; the next call completes a killed one.

    Raises:
        SealingKeyMissing, CorruptBlob: they are sealed, and the keeper cannot open their key.
    """
    with Checkpoints(root, keys).locked(), closed_keys_told():
        return SecretFolder(keys).seal(PRIVATE_KEYS, keeper)


def unseal_audit_keys(root: Path, keys: Path, opener: OpenEnvelope) -> None:
    """Write the keys back in clear. May be called twice.

    Raises:
        SealingKeyMissing, CorruptBlob: one cannot be opened.
    """
    if SecretFolder(keys).is_sealed:
        with Checkpoints(root, keys).locked(), closed_keys_told():
            SecretFolder(keys, opener).unseal(PRIVATE_KEYS)


def rewrap_audit_keys(root: Path, keys: Path, keeper: Callable[[], KeyKeeper], to: KeyKeeper | None) -> bool:
    """Rewrap the sealing key, as `DataKeys.rewrap`; False if there is none or nothing changed."""
    if not SecretFolder(keys).is_sealed:
        return False
    with Checkpoints(root, keys).locked():
        return SecretFolder(keys).rewrap(keeper, to)
