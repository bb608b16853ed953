"""Delegation: our own processes act for a principal, as the job worker does for a job's submitter.

The supervisor creates a token at each start and writes it into a file that only its own user reads. Without that token
the header that names the principal is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.authority.keys import KeyDigest, digest_of, new_key
from ashore.data.authority.roles import DEVELOPER, INTERNAL
from ashore.kit.wholefile import write_whole

Acting = Callable[[str, str], Principal]
"""Returns whom a job runs for, by its acting name and tenant; PermissionDenied where that one may no longer."""

OURSELVES: Final = Principal(id="ashore", kind="internal", tenant=TenantId(""), roles=frozenset((INTERNAL,)))


def as_developer(name: str, tenant: str) -> Principal:
    """Return a principal that may use every model: without a state, no account can have been disabled."""
    return Principal(id=name, tenant=TenantId(tenant), kind="key", roles=frozenset((DEVELOPER,)))


class OnBehalf:
    """Holds the digest of the internal token."""

    def __init__(self, token: str, acting: Acting = as_developer) -> None:
        self._digest: Final[KeyDigest] = digest_of(token)
        self._acting = acting

    def principal(self, token: str | None, named: str) -> Principal | None:
        """Return the principal named by `named` (`NAME/TENANT`); None if the token is not the internal one.

        NAME is from `Principal.acting_name`. Both are percent-encoded, slashes too: a name may hold any character, and
        must not be split elsewhere or reach another tenant. An empty `named` means ashore itself, which may read but
        not use models.

        Raises:
            InvalidRequest: the token is valid and the name is malformed.
            PermissionDenied: the key was revoked since, or the account disabled.
        """
        if not token or not self._digest.matches(token):
            return None
        if not named:
            return OURSELVES
        principal, _, tenant = named.partition("/")
        if not principal or not tenant or "/" in tenant:
            raise InvalidRequest("x-ashore-on-behalf-of must be PRINCIPAL/TENANT, both percent-encoded")
        return self._acting(unquote(principal), unquote(tenant))


def make_internal_token(path: Path) -> None:
    """Write a new token into `path` (0600); processes that reread the file reject the previous one."""
    write_whole(path, f"{new_key()}\n".encode(), durable=False)


def read_internal_token(path: Path) -> str:
    """Return the token in `path`.

    Raises:
        InvalidSpec: the file is missing.
    """
    try:
        return path.read_text().strip()
    except OSError as fault:
        raise InvalidSpec(f"internal token {path}: {fault.strerror}", hint="`ashore up` creates it") from fault
