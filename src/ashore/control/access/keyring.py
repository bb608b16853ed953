"""Use cases of keys: create, list, rotate with an overlap, revoke. The secret is returned once, and never stored."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ashore.control.access.ownkeys import MOST_OWN, keep_own_rights, keep_within, own_span, replaced_span
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from ashore.core.nearest import did_you_mean
from ashore.core.principal import WIDE, KeyScope
from ashore.data.authority import Account, KeyRecord, check_title, sql
from ashore.data.authority.actions import (
    ACCESS_READ,
    ACCESS_WRITE,
    ACTIONS,
    KEY_CREATE_OWN,
    KEY_ROTATE_OWN,
    matches_action,
)
from ashore.data.authority.acts import MAX_PAGE, Actor, Acts, Desk, is_officer, page_of
from ashore.data.authority.keys import PREFIX_CHARS, digest_of, new_key

LONGEST_OVERLAP_S: Final = 30 * 86_400
LONGEST_LIFE_S: Final = 10 * 366 * 86_400
MAX_PATTERNS: Final = 100
_MODEL: Final = re.compile(r"[A-Za-z0-9._@:+/?=&,-]{0,128}\*?")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """A key to create."""

    title: str = ""
    scope: KeyScope = WIDE
    expires_in_s: int | None = None
    """None: it does not expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new key: the only time that its secret is shown."""

    secret: str
    record: KeyRecord

    def __repr__(self) -> str:
        return f"NewKey({self.record.key_id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A revoked key."""

    record: KeyRecord
    made: tuple[str, ...]
    """Ids of the keys that were made with it and opened something when it was revoked, whether they still do or not."""


class Keyring:
    """The keys of every account."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts

    def keys(
        self,
        actor: Actor,
        *,
        owner: str = "",
        tenant: str = "",
        search: str = "",
        state: sql.KeyState = "",
        after: str = "",
        limit: int = 100,
    ) -> tuple[KeyRecord, ...]:
        """Return a page of the keys that the actor may see, the newest first, revoked ones too. Everyone may list their
        own.

        Raises:
            InvalidRequest: `after` is not the id of a key.
        """
        mine = bool(owner) and owner == actor.principal.id
        action, resource = (KEY_ROTATE_OWN, f"key/{actor.principal.key_id}") if mine else (
            ACCESS_READ, f"tenant/{tenant}/*" if tenant else "tenant/*"
        )  # fmt: skip
        with self._acts.read(actor, action, resource) as desk:
            if after and sql.find_key(desk.connection, after) is None:
                hint = "send the `next` of the page before"
                raise InvalidRequest(f"no page ends with the key {after[:40]!r}", hint=hint, param="after")
            read = partial(
                sql.list_keys, desk.connection, owner=owner, tenant=tenant, search=search, state=state, now_s=desk.now_s
            )
            return page_of(
                lambda behind, size: read(after=behind, limit=size),
                lambda key: key.key_id,
                lambda key: mine or desk.allows(ACCESS_READ, f"tenant/{key.tenant}/key/{key.owner}"),
                after=after,
                limit=min(limit, MAX_PAGE),
            )

    def key(self, actor: Actor, key_id: str) -> KeyRecord:
        """Return one key, without its secret. Everyone may see their own.

        Raises:
            NotFound: there is no such key.
            PermissionDenied: the actor may not see it, whether it exists or not.
        """
        with self._acts.look(actor) as desk:
            found = sql.find_key(desk.connection, key_id)
            if found is not None and found.owner == actor.principal.id and not found.is_first:
                desk.require(KEY_ROTATE_OWN, f"key/{actor.principal.key_id}")
                return found
            if found is None or found.is_first:
                desk.require(ACCESS_READ, "tenant/*")
                raise NotFound(f"there is no key {key_id[:40]!r}", hint="list the keys with `ashore access key list`")
            desk.require(ACCESS_READ, f"tenant/{found.tenant}/key/{found.owner}")
            return found

    def create(self, actor: Actor, owner: str, wish: KeyWish) -> NewKey:
        """Create a key for an account; an empty `owner` is the actor.

        The creator of a key knows its secret. So nobody else can create a key for an administrator who has one;
        administrators create and rotate their own. A key for oneself grants no more than the actor's current rights.

        Raises:
            NotFound: there is no such account.
            PermissionDenied: the account holds an office and has a live key, or the key would exceed the actor's
                rights.
            Conflict: the actor has too many keys of their own, or a budget counts the key in use apart.
            InvalidRequest: the scope is malformed, or the key would outlive the one that creates it.
        """
        owner = owner or actor.principal.id
        with self._acts.write(actor, "key:create", f"account/{owner}") as desk:
            account = sql.find_account(desk.connection, owner)
            mine = owner == desk.principal.id
            if not mine:
                desk.hold(ACCESS_WRITE)
            elif account is None:
                desk.require(KEY_CREATE_OWN, f"key/{owner}")
            if account is None:
                raise _no_account(desk, owner)
            resource = f"tenant/{account.tenant}/key/{owner}"
            if mine and not desk.allows(ACCESS_WRITE, resource):
                keep_own_rights(desk, account, KEY_CREATE_OWN, f"key/{owner}")
                keep_within(desk, account, MOST_OWN)
                return issue(desk, account, replace(wish, expires_in_s=own_span(desk, wish.expires_in_s)))
            if mine:
                keep_own_rights(desk, account, ACCESS_WRITE, resource)
            desk.require(ACCESS_WRITE, resource)
            keep_administrators_keys(desk, account)
            return issue(desk, account, wish)

    def rotate(self, actor: Actor, key_id: str, *, overlap_s: int) -> NewKey:
        """Create a key in place of another, which stays valid for `overlap_s`.

        Raises:
            NotFound: there is no such key.
            Conflict: it is not valid any more.
            PermissionDenied: it is neither the key in use nor one that the actor administers.
        """
        if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
            raise InvalidRequest(
                f"the overlap is {overlap_s} s; expected 0 to {LONGEST_OVERLAP_S}",
                hint="24h is a usual value",
                param="overlap_s",
            )
        with self._acts.write(actor, "key:rotate", f"key/{key_id}") as desk:
            old = self._mine_or_administered(desk, key_id)
            if not old.is_live(desk.now_s):
                raise Conflict(f"the key {key_id} is no longer valid", hint="create a new key")
            life_s = None if old.expires_s is None else old.expires_s - old.created_s
            account = sql.find_account(desk.connection, old.owner)
            if account is None:
                raise NotFound(f"the key {key_id} belongs to no account", hint="create a key for an account")
            if old.owner == desk.principal.id:
                keep_within(desk, account, 2 * MOST_OWN)  # replaced keys stay valid until their overlap ends
                life_s = replaced_span(desk, account, old, life_s)
            new = issue(desk, account, KeyWish(title=old.title, scope=old.scope, expires_in_s=life_s))
            end_s = desk.now_s + overlap_s
            sql.save_key(
                desk.connection, replace(old, expires_s=end_s if old.expires_s is None else min(end_s, old.expires_s))
            )
            desk.detail.update(overlap_s=overlap_s, new=new.record.key_id)
            return new

    def revoke(self, actor: Actor, key_id: str, *, made: bool = False) -> Revoked:
        """Revoke a key everywhere within one second. May be called twice.

        `made`: also the keys created with it, with those, and so on; a thief may have created some.

        Raises:
            NotFound: there is no such key.
            PermissionDenied: the actor may not revoke one of them; then none is.
            Conflict: an office would lose its last holder, or consent to an auditor's loss is missing.
        """
        with self._acts.write(actor, "key:revoke", f"key/{key_id}") as desk:
            key = self._mine_or_administered(desk, key_id, revoking=True)
            others = [one for one in sql.made_with(desk.connection, key.key_id) if one.is_live(desk.now_s)]
            for one in others if made else ():
                self._mine_or_administered(desk, one.key_id, revoking=True)
                sql.save_key(desk.connection, replace(one, revoked_s=desk.now_s))
                sql.end_consents(desk.connection, one.owner)
            if made:
                desk.detail.update(made=" ".join(one.key_id for one in others))
            if key.revoked_s is None:
                key = replace(key, revoked_s=desk.now_s)
                sql.save_key(desk.connection, key)
                sql.end_consents(desk.connection, key.owner)  # a thief may have given them
        return Revoked(record=key, made=tuple(one.key_id for one in others))

    def _mine_or_administered(self, desk: Desk, key_id: str, *, revoking: bool = False) -> KeyRecord:
        """Return a key that the actor may replace: the one in use, any own one if the actor's rights are not
        narrowed, or one that the actor administers."""
        principal = desk.principal
        key = sql.find_key(desk.connection, key_id)
        if key is not None and key.owner == principal.id and key_id == principal.key_id:
            desk.require(KEY_ROTATE_OWN, f"key/{key_id}")
            return key
        if key is None or key.is_first:
            desk.require(ACCESS_WRITE, f"key/{key_id}")
            raise NotFound(f"there is no key {key_id[:40]!r}", hint="list the keys with `ashore access key list`")
        account = sql.find_account(desk.connection, key.owner)
        administered = f"tenant/{key.tenant}/key/{key.owner}"
        if account is not None and key.owner == principal.id:
            if not desk.allows(ACCESS_WRITE, administered):
                keep_own_rights(desk, account, KEY_ROTATE_OWN, f"key/{key_id}")
                return key
            if not revoking:
                keep_own_rights(desk, account, ACCESS_WRITE, administered)
        desk.require(ACCESS_WRITE, administered)
        if account is not None and not revoking:
            keep_administrators_keys(desk, account)
        return key


def issue(desk: Desk, account: Account, wish: KeyWish) -> NewKey:
    """Create a key within an open act; the caller has authorised it."""
    scope = check_scope(wish.scope)
    if wish.expires_in_s is not None and not 0 < wish.expires_in_s <= LONGEST_LIFE_S:
        raise InvalidRequest(
            f"the lifetime of the key is {wish.expires_in_s} s; expected 1 to {LONGEST_LIFE_S}", param="expires_in_s"
        )
    secret = new_key()
    while sql.find_key(desk.connection, secret[:PREFIX_CHARS]) is not None:
        secret = new_key()
    record = KeyRecord(
        key_id=secret[:PREFIX_CHARS],
        prefix=secret[:PREFIX_CHARS],
        digest=digest_of(secret).sha256.hex(),
        owner=account.id,
        owner_kind=account.kind,
        tenant=account.tenant,
        title=check_title(wish.title),
        scope=scope,
        created_s=desk.now_s,
        created_by=desk.principal.id,
        made_with=desk.principal.key_id,
        expires_s=None if wish.expires_in_s is None else desk.now_s + wish.expires_in_s,
    )
    sql.save_key(desk.connection, record)
    desk.detail.update(new=record.key_id, owner=account.subject)
    return NewKey(secret=secret, record=record)


def _no_account(desk: Desk, owner: str) -> NotFound:
    if owner == desk.principal.id:
        return NotFound(
            f"there is no account {owner[:100]!r} that a key could belong to",
            hint=f"ask a security officer to create it: `ashore access user create {owner[:100]} --no-key`",
            param="owner",
        )
    hint = "list the accounts with `ashore access user list`"
    return NotFound(f"there is no account {owner[:100]!r}", hint=hint, param="owner")


def check_scope(scope: KeyScope) -> KeyScope:
    """Check a key's scope and return it.

    Raises:
        InvalidRequest: a pattern, an action or a network is malformed.
    """
    if max(len(scope.models), len(scope.actions), len(scope.networks)) > MAX_PATTERNS:
        raise InvalidRequest(
            f"a key has at most {MAX_PATTERNS} models, actions and networks each",
            hint="use patterns such as deepseek-*",
        )
    for model in scope.models:
        if not model or not _MODEL.fullmatch(model):
            raise InvalidRequest(
                f"{model[:100]!r} is not an alias or a pattern of aliases",
                hint="write chat or deepseek-*",
                param="models",
            )
    for action in scope.actions:
        if not any(matches_action(action, one.name) for one in ACTIONS):
            raise InvalidRequest(
                f"{action[:100]!r} names no action",
                hint=did_you_mean(action[:100], [one.name for one in ACTIONS]),
                param="actions",
            )
    networks = []
    for network in scope.networks:
        try:
            networks.append(str(ipaddress.ip_network(network)))
        except ValueError as fault:
            raise InvalidRequest(
                f"{network[:60]!r} is not a network: {fault}", hint="10.1.0.0/16", param="networks"
            ) from (fault)
    return replace(scope, networks=tuple(networks))


def keep_administrators_keys(desk: Desk, account: Account) -> None:
    """Check that the actor may get a way to act as this account: a key, or a log-in.

    Raises:
        PermissionDenied: the account holds an office, has a live key, and is not the actor's.
    """
    if account.id == desk.principal.id or not is_officer(desk.compiled, account):
        return
    live = [k for k in sql.list_keys(desk.connection, owner=account.id, limit=10_000) if k.is_live(desk.now_s)]
    if live:
        raise PermissionDenied(
            f"{account.subject} is an administrator with the key {live[0].key_id}; only they may create keys",
            hint=f"rotate it with itself: `ashore access key rotate {live[0].key_id}`; if it is lost, revoke it first",
            action=ACCESS_WRITE,
            resource=f"tenant/{account.tenant}/key/{account.id}",
            rule="a key is known to its creator",
        )
