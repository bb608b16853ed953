"""Principals: who asks, with which claims, and what narrows their rights."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import urlencode

from ashore.core.ids import TenantId

PrincipalKind = Literal["user", "service", "key", "first-key", "internal", "nobody"]
"""user, service: an account. key: a key that no account has. first-key: the one that `ashore up` made. internal: a
process of ours. nobody: a caller without a key, who may ask only what is open to all."""

DEFAULT_TENANT: Final = TenantId("default")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyScope:
    """Restrictions of a key below the rights of its owner. Empty: none. It never adds a right."""

    models: tuple[str, ...] = ()
    """Patterns of aliases, `chat` or `deepseek-*`."""
    actions: tuple[str, ...] = ()
    """Patterns of actions, `infer` or `budget:*`."""
    networks: tuple[str, ...] = ()
    """Networks it may be used from, `10.1.0.0/16`."""

    def asks(self, models: str) -> bool:
        """Return whether the key may use all of these models: aliases and patterns, separated by spaces."""
        if not self.models:
            return True
        named = models.split()
        return bool(named) and all(any(_matches(mine, one) for mine in self.models) for one in named)

    def admits(self, origin: str) -> bool:
        """Return whether the key may be used from `origin`. An empty origin is this machine itself: `127.0.0.1`."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address((origin or "127.0.0.1").partition("%")[0])
        except ValueError:
            return False
        inside = getattr(address, "ipv4_mapped", None) or address
        return any(inside in network for network in _networks(self.networks) if network.version == inside.version)


WIDE: Final = KeyScope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of a valid key or token. Contains no secret."""

    id: str
    """Stable name for logs and audit: `alice`, `corp:alice` of the issuer `corp`, `first-key`."""
    tenant: TenantId
    kind: PrincipalKind = "user"
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    """Roles that come with the credential itself: claims of a JWT, the first key. Bindings of the policy add theirs."""
    token_groups: frozenset[str] = frozenset()
    """Those of the groups that only the token names. No office comes by them, nor by a token's roles."""
    given_groups: frozenset[str] = frozenset()
    """Those of the groups that only a directory gave to the account. No office comes by them either."""
    key_id: str = ""
    """The key used, `ash_0a1b2c3d`; empty for a JWT."""
    issuer: str = ""
    """Name of the issuer in `[[access.issuer]]`; empty for a key."""
    factors: tuple[str, ...] = ()
    """Authentication methods reported by the issuer (`amr`: `pwd`, `otp`, `hwk`); empty for a key."""
    scope: KeyScope = field(default=WIDE)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The policy subjects that include this principal."""
        kind = "service" if self.kind == "service" else "user"
        return (f"{kind}/{self.id}", *(f"group/{g}" for g in sorted(self.groups)), f"tenant/{self.tenant}", "everyone")

    @property
    def is_narrowed_key(self) -> bool:
        """Whether the key was narrowed to some actions, by its owner or an officer. A console session does not
        count: it temporarily lacks rights of an office, but none of its owner's own."""
        return bool(self.key_id and self.scope.actions)

    @property
    def acting_name(self) -> str:
        """The submitter's identity as a job stores it; `Directory.acting` reads it when the job runs."""
        facts = {
            "key": self.key_id,
            "groups": ",".join(sorted(self.token_groups)),
            "roles": ",".join(sorted(self.roles)),
        }
        kept = {name: value for name, value in facts.items() if value and (name == "key" or self.issuer)}
        return f"{self.id}#{urlencode(kept)}" if kept else self.id

    def owns(self, tenant: str, account: str, *, acted_as: str = "") -> bool:
        """Return whether an object of an account belongs to this principal. A key narrowed to some actions owns only
        what it submitted itself, by its `acting_name`."""
        same = (tenant, account) == (self.tenant, self.id)
        return same and (not self.is_narrowed_key or acted_as == self.acting_name)

    def __hash__(self) -> int:
        """Hashed for memos on the hot path; equality still compares everything."""
        return hash((self.id, self.tenant, self.key_id))


NOBODY: Final = Principal(id="-", tenant=TenantId(""), kind="nobody")


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))


@lru_cache(maxsize=4096)
def _networks(texts: tuple[str, ...]) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]
