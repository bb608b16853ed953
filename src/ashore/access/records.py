"""What the state keeps of the access room: tenants, accounts, groups, keys as digests, and versions of the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from ashore.access.model import WIDE, KeyScope

AccountKind = Literal["user", "service"]

FIRST_KEY_ID: Final = "first-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whom principals belong to. A disabled one lets none of its own in."""

    name: str
    title: str = ""
    disabled: bool = False
    created_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person or a program. People of an issuer need none; one that exists can be disabled, and then holds nowhere."""

    id: str
    kind: AccountKind = "user"
    tenant: str
    title: str = ""
    groups: frozenset[str] = frozenset()
    disabled: bool = False
    created_s: int = 0

    @property
    def subject(self) -> str:
        """The name under which the policy means it."""
        return f"{self.kind}/{self.id}"

    @property
    def resource(self) -> str:
        """The name under which rights on it are given."""
        return f"tenant/{self.tenant}/{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A name for several accounts, of one tenant or of several."""

    name: str
    title: str = ""
    created_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key. The key itself is nowhere: only its digest is kept."""

    key_id: str
    """`ash_` and the eight characters that name it; `first-key`, or `first-key@MACHINE`, for a first key."""
    digest: str = field(repr=False)
    """SHA-256 of the key, hexadecimal."""
    owner: str
    """Account it belongs to. A key whose owner is no account asks models, and nothing else."""
    owner_kind: AccountKind = "user"
    tenant: str
    prefix: str = ""
    """`ash_` and the eight characters; empty where only the digest is known."""
    title: str = ""
    scope: KeyScope = WIDE
    created_s: int = 0
    created_by: str = ""
    made_with: str = ""
    """Id of the key that was used to make it; empty: it was made in the console, or by an older ashore."""
    expires_s: int | None = None
    revoked_s: int | None = None
    last_used_s: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether `ashore up` made it before there was any administrator."""
        return self.key_id.partition("@")[0] == FIRST_KEY_ID

    def is_live(self, now_s: float) -> bool:
        """Return whether it opens anything at this time, as far as the key itself goes."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One version of the policy, without the policy."""

    version: int
    author: str
    comment: str
    created_s: int
