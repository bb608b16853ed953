"""Tenants, accounts and keys as last read by this process: maps a key, or the claims of a token, to a principal.

Used on the hot path; updated by the watcher of the state. A key is found by the eight characters that name it, and
compared in constant time, so that 100,000 keys cost no more than one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

from ashore.core.errors import PermissionDenied, Unauthenticated
from ashore.core.principal import WIDE, KeyScope, Principal, PrincipalKind
from ashore.data.authority.keys import PREFIX_CHARS
from ashore.data.authority.records import Account, KeyRecord, Tenant
from ashore.data.authority.roles import DEVELOPER, FIRST_KEY, INTERNAL, VIEWER

_NO_DIGEST: Final = "0" * 64
FIRST_KEY_IS: Final = "the first key is in the file first-key of the home"
_NOT_GIVEN: Final = frozenset((FIRST_KEY, INTERNAL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims of a verified token."""

    issuer: str
    """Name of the issuer in `[[access.issuer]]`."""
    subject: str
    tenant: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    factors: tuple[str, ...] = ()
    expires_s: float


class _Known:
    """Everything known except tenants."""

    __slots__ = ("accounts", "by_prefix", "first", "folded", "gone", "keys")

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.gone: set[str] = set()
        self.folded: dict[str, str] = {}
        """Ids of accounts, and of those that are gone, by themselves in small letters."""
        self.keys: dict[str, KeyRecord] = {}
        self.first: dict[str, KeyRecord] = {}
        self.by_prefix: dict[str, tuple[KeyRecord, ...]] = {}


class Directory:
    """Changes by `take`, from one thread at a time; asked from the event loop."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._known = _Known()

    def take(
        self,
        *,
        tenants: Iterable[Tenant] = (),
        accounts: Iterable[Account] = (),
        gone: Iterable[str] = (),
        keys: Iterable[KeyRecord] = (),
        whole: bool = False,
    ) -> None:
        """Replace the tenants, and update these accounts and keys.

        `whole`: everything not listed is forgotten. Concurrent readers get the old or the new state.
        """
        known = _Known() if whole else self._known
        for account in accounts:
            known.accounts[account.id] = account
            known.gone.discard(account.id)
            known.folded[account.id.casefold()] = account.id
        for account_id in gone:
            known.gone.add(account_id)
            known.folded.setdefault(account_id.casefold(), account_id)
            known.accounts.pop(account_id, None)
        for key in keys:
            known.keys[key.key_id] = key
            if key.is_first:
                known.first[key.key_id] = key
            others = (one for one in known.by_prefix.get(key.prefix, ()) if one.key_id != key.key_id)
            known.by_prefix[key.prefix] = (*others, key)
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._known = known

    def key(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key."""
        return self._known.keys.get(key_id)

    def of_key(self, token: str, digest: str, origin: str, now_s: float) -> tuple[Principal, float]:
        """Return the owner of `token`, and until when that is valid.

        Raises:
            Unauthenticated: it is unknown, revoked or expired, or its owner is disabled.
            PermissionDenied: it may not be used from `origin`.
        """
        found: KeyRecord | None = None
        by_prefix = self._known.by_prefix
        for key in (*by_prefix.get(token[:PREFIX_CHARS], ()), *by_prefix.get("", ())):
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            hmac.compare_digest(_NO_DIGEST, digest)
            raise Unauthenticated(
                "the API key is not valid", hint=f"check the key; {self.where_keys_are(now_s)}", guess=True
            )
        self._check_live(found, now_s)
        principal = self._owner(found)
        if not found.scope.admits(origin):
            raise PermissionDenied(
                f"the key {found.key_id} may not be used from {origin or 'this machine'}",
                hint=f"use it from {', '.join(found.scope.networks)}",
                action="access:use",
                resource=f"key/{found.key_id}",
                rule="networks of the key",
            )
        return principal, float("inf") if found.expires_s is None else float(found.expires_s)

    def of_claims(self, claims: Claims) -> Principal:
        """Return the principal of a verified token. A user without an account is admitted, a disabled one is not.

        Raises:
            Unauthenticated: its tenant is unknown or disabled, or the account is disabled or was removed.
        """
        account_id = f"{claims.issuer}:{claims.subject}"
        account = self._account(account_id)
        other = self._known.folded.get(account_id.casefold(), account_id)
        if account is None and other != account_id:
            raise Unauthenticated(
                f"the token names {account_id[:100]}, and the account is {other[:100]}",
                hint="set subject_ignores_case in the [[access.issuer]], or create an account of exactly this name if "
                "it is another person",
            )
        tenant = account.tenant if account is not None else claims.tenant
        if tenant not in self._tenants:
            raise Unauthenticated(
                f"the token is for the tenant {tenant[:100]!r}, which does not exist",
                hint="ask a security officer to create it: `ashore access tenant create`",
            )
        self._check_tenant(tenant)
        who = (account or Account(id=account_id, tenant=tenant)).principal
        return replace(
            who,
            groups=who.groups | claims.groups,
            token_groups=claims.groups - (who.groups - who.given_groups),
            roles=claims.roles - _NOT_GIVEN,
            issuer=claims.issuer,
            factors=claims.factors,
        )

    def of_account(self, account_id: str, *, factors: tuple[str, ...] = ()) -> Principal:
        """Return the principal of an account that logged in directly.

        Raises:
            Unauthenticated: there is no such user, or it or its tenant is disabled.
        """
        account = self._account(account_id)
        if account is None or account.kind != "user":
            raise Unauthenticated(f"there is no user {account_id[:100]}")
        self._check_tenant(account.tenant)
        return replace(account.principal, factors=factors)

    def of_key_id(self, key_id: str, now_s: float) -> Principal:
        """Return the principal of an already authenticated key.

        Raises:
            Unauthenticated: it is not valid any more.
        """
        key = self._known.keys.get(key_id)
        if key is None:
            raise Unauthenticated(f"the key {key_id[:40]} does not exist")
        self._check_live(key, now_s)
        return self._owner(key)

    def current(self, principal: Principal, now_s: float) -> Principal:
        """Return what a principal that was admitted before is by now.

        Raises:
            Unauthenticated: its key is not valid any more, or its account or tenant is disabled or was removed.
        """
        if principal.key_id:
            return self.of_key_id(principal.key_id, now_s)
        if principal.issuer:
            issuer, _, subject = principal.id.partition(":")
            return self.of_claims(
                Claims(
                    issuer=issuer,
                    subject=subject,
                    tenant=principal.tenant,
                    groups=principal.token_groups,
                    roles=principal.roles,
                    factors=principal.factors,
                    expires_s=0.0,
                )
            )
        if principal.kind == "user":
            return replace(self.of_account(principal.id, factors=principal.factors), scope=principal.scope)
        return principal

    def acting(self, name: str, tenant: str, now_s: float) -> Principal:
        """Return the current principal of a job, from the `Principal.acting_name` at its submission.

        Claims of a token still count; whether key, account and tenant are still valid is checked again.

        Raises:
            PermissionDenied: the key was revoked or expired since, or the account or tenant was disabled.
        """
        account_id, _, rest = name.partition("#")
        facts = dict(parse_qsl(rest))
        try:
            if "key" in facts:
                key = self._known.keys.get(facts["key"])
                if key is None:
                    raise Unauthenticated(f"the key {facts['key'][:40]} does not exist")
                self._check_live(key, now_s)
                return self._owner(key)
            if ":" in account_id:
                return self.of_claims(_claims_of(account_id, tenant, facts))
            return self._owner(KeyRecord(key_id="", digest="", owner=account_id, tenant=tenant))  # of an older ashore
        except Unauthenticated as fault:
            raise PermissionDenied(
                f"the job of {account_id[:100]} cannot run: {fault.message}",
                hint="submit it again with a key that is valid",
                action="infer",
                resource="job",
                rule="its submitter may no longer do this",
            ) from fault

    def _owner(self, key: KeyRecord) -> Principal:
        if key.is_first:
            return _principal(key, Account(id=key.owner, tenant=key.tenant), "first-key", frozenset((FIRST_KEY,)))
        account = self._account(key.owner)
        if account is None:
            account = Account(id=key.owner, tenant=key.tenant)
            self._check_tenant(account.tenant)
            return _principal(key, account, "key", frozenset((DEVELOPER, VIEWER)))
        self._check_tenant(account.tenant)
        return _principal(key, account, account.kind, frozenset())

    def where_keys_are(self, now_s: float) -> str:
        """Return where to get a key, as a part of a hint."""
        if any(key.is_live(now_s) for key in self._known.first.values()):
            return FIRST_KEY_IS
        return "a security officer creates keys: `ashore access key create`"

    def _account(self, account_id: str) -> Account | None:
        account = self._known.accounts.get(account_id)
        if account_id in self._known.gone or (account is not None and account.is_out):
            raise Unauthenticated(
                f"the account {account_id} is disabled",
                hint="its directory disabled it; ask those who manage that"
                if account is not None and account.shut_s
                else "ask a security officer to enable it: `ashore access user enable`",
            )
        return account

    def _check_tenant(self, name: str) -> None:
        tenant = self._tenants.get(name)
        if tenant is not None and tenant.disabled:
            raise Unauthenticated(
                f"the tenant {name} is disabled",
                hint="ask a security officer to enable it: `ashore access tenant enable`",
            )

    def _check_live(self, key: KeyRecord, now_s: float) -> None:
        if key.is_live(now_s):
            return
        if key.is_first:
            raise Unauthenticated(
                "the first key is no longer valid, because the three administrators exist",
                hint="use your own key: set ASHORE_API_KEY, or give --key; if it is lost, ask a security officer for a "
                "new one; if all keys of the administrators are lost, run `ashore access revive --lost` on the machine "
                "of the server",
            )
        expired = key.expires_s is not None and now_s >= key.expires_s
        raise Unauthenticated(
            f"the key {key.key_id} {'has expired' if expired else 'was revoked'}",
            hint="ask a security officer for a new key; rotate keys before they expire: `ashore access key rotate`",
        )


def _principal(key: KeyRecord, account: Account, kind: PrincipalKind, roles: frozenset[str]) -> Principal:
    scope = key.scope
    if kind == "key" and not scope.actions:
        scope = KeyScope(models=scope.models, actions=("infer",), networks=scope.networks)
    return replace(
        account.principal,
        kind=kind,
        roles=roles,
        key_id=key.key_id,
        scope=WIDE if kind == "first-key" else scope,
    )


def _claims_of(account_id: str, tenant: str, facts: Mapping[str, str]) -> Claims:
    issuer, _, subject = account_id.partition(":")
    return Claims(
        issuer=issuer,
        subject=subject,
        tenant=tenant,
        groups=frozenset(name for name in facts.get("groups", "").split(",") if name),
        roles=frozenset(name for name in facts.get("roles", "").split(",") if name),
        expires_s=0.0,
    )
