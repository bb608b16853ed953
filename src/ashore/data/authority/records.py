"""Records of the access room in the state: tenants, accounts, groups, keys as digests, and versions of the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from ashore.core.ids import TenantId
from ashore.core.principal import WIDE, KeyScope, Principal

AccountKind = Literal["user", "service"]

FIRST_KEY_ID: Final = "first-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Owner of principals. Principals of a disabled one are refused."""

    name: str
    title: str = ""
    disabled: bool = False
    created_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user or a program. Users of an issuer need none; an existing account can be disabled, which then holds
    everywhere."""

    id: str
    kind: AccountKind = "user"
    tenant: str
    title: str = ""
    groups: frozenset[str] = frozenset()
    """Those that a security officer added it to."""
    given_groups: frozenset[str] = frozenset()
    """Those that its directory or provisioner says it is in. No office comes by them."""
    disabled: bool = False
    """Whether a security officer disabled it."""
    shut_s: int = 0
    """When its directory or provisioner disabled it, or had it no more, in seconds since 1970; 0: it has not."""
    created_s: int = 0

    @property
    def is_out(self) -> bool:
        """Whether it is refused: an officer disabled it, or its directory did."""
        return self.disabled or self.shut_s > 0

    @property
    def principal(self) -> Principal:
        """Its principal, without a key."""
        return Principal(
            id=self.id,
            kind=self.kind,
            tenant=TenantId(self.tenant),
            groups=self.groups | self.given_groups,
            given_groups=self.given_groups - self.groups,
        )

    @property
    def subject(self) -> str:
        """Its subject in the policy."""
        return f"{self.kind}/{self.id}"

    @property
    def resource(self) -> str:
        """Its resource, on which rights are granted."""
        return f"tenant/{self.tenant}/{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A name for several accounts, of one tenant or of several."""

    name: str
    title: str = ""
    created_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key. The secret is stored nowhere: only its digest."""

    key_id: str
    """`ash_` and the eight characters that name it; `first-key`, or `first-key@MACHINE`, for a first key."""
    digest: str = field(repr=False)
    """SHA-256 of the key, hexadecimal."""
    owner: str
    """Owning account. A key without an existing account may use models, and nothing else."""
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
        """Whether it is a first key, made by `ashore up` before there was an administrator."""
        return self.key_id.partition("@")[0] == FIRST_KEY_ID

    def is_live(self, now_s: float) -> bool:
        """Return whether the key itself is valid at this time."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """Metadata of one version of the policy."""

    version: int
    author: str
    comment: str
    created_s: int
