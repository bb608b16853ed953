"""Processes of ours that act for a principal: the job worker runs what somebody submitted, as that somebody.

The supervisor makes a token at each start and writes it into a file that only its own user reads. Without that token
the header that names the principal means nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ashore.access.keys import KeyDigest, digest_of, new_key
from ashore.access.model import Principal
from ashore.access.roles import DEVELOPER
from ashore.core import TenantId
from ashore.errors import InvalidRequest, InvalidSpec


class OnBehalf:
    """Knows the digest of the internal token."""

    def __init__(self, token: str) -> None:
        self._digest: Final[KeyDigest] = digest_of(token)

    def principal(self, token: str | None, named: str) -> Principal | None:
        """Return the principal that `named` (`PRINCIPAL/TENANT`) says; None when the token is not the internal one.

        It may infer, and nothing else. Both names are percent-encoded, slashes too: a name may hold any character, and
        must not be cut elsewhere or reach another tenant.

        Raises:
            InvalidRequest: the token is right and the name is malformed.
        """
        if not token or not self._digest.matches(token):
            return None
        principal, _, tenant = named.partition("/")
        if not principal or not tenant or "/" in tenant:
            raise InvalidRequest("x-ashore-on-behalf-of must be PRINCIPAL/TENANT, both percent-encoded")
        principal, tenant = unquote(principal), unquote(tenant)
        return Principal(id=principal, tenant=TenantId(tenant), kind="key", roles=frozenset((DEVELOPER,)))


def make_internal_token(path: Path) -> None:
    """Write a new token into `path` (0600); the one before it is worth nothing to a process that reads it anew."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_key() + "\n")
    scratch.replace(path)


def read_internal_token(path: Path) -> str:
    """Return the token in `path`.

    Raises:
        InvalidSpec: the file is missing.
    """
    try:
        return path.read_text().strip()
    except OSError as fault:
        raise InvalidSpec(f"internal token {path}: {fault.strerror}", hint="`ashore up` makes it") from fault
