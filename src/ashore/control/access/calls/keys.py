"""Calls about keys. A secret is in one answer only: that of the creating call."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ashore.control.access.calls.desk import AccessDesk, Argument, Page, Search, Several, Title
from ashore.control.access.keyring import LONGEST_LIFE_S, LONGEST_OVERLAP_S, KeyWish, NewKey
from ashore.core.names import Names
from ashore.data.authority import KeyRecord, KeyScope, sql
from ashore.data.authority.actions import ACCESS_WRITE, KEY_CREATE_OWN
from ashore.data.authority.keys import key_id_in
from ashore.kit.call import Actor, Call
from ashore.kit.copied import copied


class KeysIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys to list."""

    owner: str = ""
    """List only keys of this account, given by its id: alice."""
    tenant: str = ""
    """List only keys of this tenant."""
    search: Search = ""
    """List only keys whose id, owner or title contains this text."""
    state: sql.KeyState = ""
    """List only these keys. unused: valid, but not used for 30 days; ended: revoked or expired."""
    after: str = ""
    limit: Page = 100


class KeyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to create, with its restrictions. An empty list restricts nothing."""

    title: Title = ""
    """Purpose of the key, for people."""
    models: Annotated[Several, msgspec.Meta(extra={"flag": "model"})] = []
    """Aliases the key may use, as names or patterns: chat, deepseek-*. Default: all that its owner may use."""
    actions: Annotated[Several, msgspec.Meta(extra={"flag": "action"})] = []
    """Actions the key may perform, as names or patterns: infer, budget:*. Default: all that its owner may perform."""
    networks: Annotated[Several, msgspec.Meta(extra={"flag": "network"})] = []
    """Networks the key may be used from: 10.1.0.0/16. Default: anywhere."""
    expires_in_s: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=LONGEST_LIFE_S)] | None,
        msgspec.Meta(extra={"flag": "expires", "span": True}),
    ] = None
    """Lifetime of the key: 90d, 12h. Default: it never expires."""


class OwnedKeyIn(KeyIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to create for an account."""

    owner: Argument = ""
    """Id of the user or service account: alice. Default: yourself."""


class OneKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key."""

    key: str
    """Id of the key: ash_ and eight characters."""

    def __post_init__(self) -> None:
        """Keep the id alone of a whole key, so that no question, refusal or record repeats a secret."""
        msgspec.structs.force_setattr(self, "key", key_id_in(self.key))


class RevokeIn(OneKey, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key to revoke."""

    made: bool = False
    """Also revoke the keys that were made with it, and with those: for a key that was stolen."""


class RotateIn(OneKey, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is replaced."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_OVERLAP_S, extra={"flag": "overlap", "span": True})] = (
        86_400
    )
    """How long the old key stays valid: 24h, 7d, 0s."""


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key. The secret is shown when the key is created, and never again."""

    id: str
    owner: str
    tenant: str
    title: str
    models: Annotated[list[str], msgspec.Meta(extra={"absent": "all"})]
    """Models that it is limited to; empty: all that its owner may use."""
    actions: Annotated[list[str], msgspec.Meta(extra={"absent": "all"})]
    """Actions that it is limited to; empty: all that its owner may do."""
    networks: Annotated[list[str], msgspec.Meta(extra={"absent": "all"})]
    """Networks that it may be used from; empty: all."""
    created_at: int
    created_by: str
    made_with: str
    """Key that was used to create it. Empty if it was created in the console."""
    expires_at: Annotated[int | None, msgspec.Meta(extra={"absent": "never"})]
    revoked_at: Annotated[int | None, msgspec.Meta(extra={"absent": "no"})]
    last_used_at: int | None
    """Accurate to half a minute. Null if the key was never used, or only before ashore recorded uses."""


class RevokedOut(KeyOut, frozen=True, kw_only=True):
    """A key that was revoked."""

    made: list[str]
    """Keys that were made with it. They stay valid, unless `made` was given: a thief may have made them."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys."""

    items: list[KeyOut]
    next: str | None
    """Value of `after` for the next page; null on the last page."""


class NewKeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A new key. The secret is shown only in this response."""

    key: str
    record: KeyOut
    unmatched_models: list[str] = []
    """Of the models that the key is limited to, those that match no alias now."""


def list_keys(desk: AccessDesk, actor: Actor, asked: KeysIn) -> KeyList:
    """List keys with owner, last use and expiry, the newest first. Everyone may list their own keys with --owner."""
    found = desk.keyring.keys(actor, **msgspec.structs.asdict(asked))
    return KeyList(items=[key_out(one) for one in found], next=found[-1].key_id if len(found) == asked.limit else None)


def show_key(desk: AccessDesk, actor: Actor, asked: OneKey) -> KeyOut:
    """Show one key with its restrictions, last use and expiry. Everyone may see their own keys."""
    return key_out(desk.keyring.key(actor, asked.key))


def create_key(desk: AccessDesk, actor: Actor, asked: OwnedKeyIn) -> NewKeyOut:
    """Create a key of your own, or for a user or service account. The secret is shown only once.

    A key of your own opens no more than you may do now: nobody widens a restricted key, or outlives one that expires,
    by creating another. It is counted in the budgets of your account and tenant.
    """
    new = new_key_out(desk.keyring.create(actor, asked.owner, key_wish(asked)))
    return msgspec.structs.replace(new, unmatched_models=_unmatched(desk.names, asked.models))


def rotate_key(desk: AccessDesk, actor: Actor, asked: RotateIn) -> NewKeyOut:
    """Replace a key with a new one. Both are valid until the overlap ends. Everyone may rotate their own keys."""
    return new_key_out(desk.keyring.rotate(actor, asked.key, overlap_s=asked.overlap_s))


def revoke_key(desk: AccessDesk, actor: Actor, asked: RevokeIn) -> RevokedOut:
    """Revoke a key. It stops working everywhere within one second, and cannot be restored. Everyone may revoke their
    own keys.

    The answer names the keys that were made with it. If the key was stolen, revoke them too with `made`.
    """
    gone = desk.keyring.revoke(actor, asked.key, made=asked.made)
    return RevokedOut(**msgspec.structs.asdict(key_out(gone.record)), made=[*gone.made])


LIST_KEYS: Final = Call("access key", "list", "GET", "/keys", "", list_keys)
SHOW_KEY: Final = Call("access key", "show", "GET", "/keys/{key}", "", show_key)
CREATE_KEY: Final = Call("access key", "create", "POST", "/keys", ACCESS_WRITE, create_key, own=KEY_CREATE_OWN)
ROTATE_KEY: Final = Call("access key", "rotate", "POST", "/keys/{key}/rotate", "", rotate_key)
REVOKE_KEY: Final = Call(
    "access key", "revoke", "DELETE", "/keys/{key}", "", revoke_key, sure="revoke the key {key} for good"
)


def key_wish(asked: KeyIn) -> KeyWish:
    """Return what the use cases take for a new key."""
    scope = KeyScope(models=tuple(asked.models), actions=tuple(asked.actions), networks=tuple(asked.networks))
    return KeyWish(title=asked.title, scope=scope, expires_in_s=asked.expires_in_s)


def key_out(key: KeyRecord) -> KeyOut:
    """Return a key without its digest."""
    return copied(
        KeyOut,
        key,
        id=key.key_id,
        models=[*key.scope.models],
        actions=[*key.scope.actions],
        networks=[*key.scope.networks],
        created_at=key.created_s,
        expires_at=key.expires_s,
        revoked_at=key.revoked_s,
        last_used_at=key.last_used_s,
    )


def _unmatched(names: Names, patterns: list[str]) -> list[str]:
    """Return the patterns that match no alias; none where nobody keeps names."""
    known = names.some("model")
    if not known:
        return [one for one in patterns if not one.endswith("*") and not names.has("model", one)]
    matched = {one for one in patterns if one.endswith("*") and any(name.startswith(one[:-1]) for name in known)}
    return [one for one in patterns if one not in matched and (one.endswith("*") or not names.has("model", one))]


def new_key_out(new: NewKey) -> NewKeyOut:
    """Return a new key with its secret."""
    return NewKeyOut(key=new.secret, record=key_out(new.record))
