"""Keys on every database: told once, bounded, rotated, revoked, read again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from access_house import House

from ashore.control.access import AccountWish, KeyWish
from ashore.control.access.ownkeys import MOST_OWN
from ashore.control.sessions.keeper import narrow
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, Unauthenticated
from ashore.core.principal import WIDE
from ashore.data.authority import (
    OFFICERS,
    SYSTEM,
    Actor,
    Binding,
    Claims,
    Compiled,
    KeyScope,
    Role,
    digest_of,
    parse_rule,
)
from ashore.data.authority import sql as access_sql
from ashore.data.authority.budgets import BudgetRule
from ashore.data.authority.budgets import SqlAuthority as SqlBudgets
from ashore.kit.state import read_epochs


def test_a_key_is_told_once_and_only_its_digest_is_kept(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service"))
    new = house.keyring.create(SYSTEM, "app", KeyWish(title="batch"))
    assert new.secret.startswith(new.record.key_id) and new.secret not in repr(new)
    assert new.record.digest == digest_of(new.secret).sha256.hex()
    with house.database.read() as connection:
        row = access_sql.find_key(connection, new.record.key_id)
    assert row is not None and new.secret not in repr(row) and row.digest not in repr(row)
    assert house.who(new.secret).kind == "service"
    for wrong in (new.secret[:-1], new.secret + "x", new.secret[:12] + "_" + "A" * 43, new.record.key_id, ""):
        with pytest.raises(Unauthenticated):
            house.who(wrong)
    told = [act for act in house.recorder.acts if act.action == "key:create"]
    assert told and new.secret not in repr(told) and told[0].detail["new"] == new.record.key_id


def test_scope_expiry_and_networks_of_a_key(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service", roles=("developer", "viewer")))
    scope = KeyScope(models=("chat",), actions=("infer",), networks=("10.0.0.0/8",))
    key = house.keyring.create(SYSTEM, "app", KeyWish(scope=scope, expires_in_s=60)).secret
    principal = house.who(key, "10.1.1.1")
    compiled = Compiled(house.book.show(SYSTEM))
    assert compiled.decide(principal, "infer", "model/chat").allowed
    assert not compiled.decide(principal, "infer", "model/other").allowed
    assert not compiled.decide(principal, "metrics:read", "server").allowed
    with pytest.raises(PermissionDenied, match="may not be used from 11"):
        house.who(key, "11.0.0.1")
    house.clock.advance(60)
    with pytest.raises(Unauthenticated, match="has expired"):
        house.who(key, "10.1.1.1")


@pytest.mark.parametrize(
    "wish",
    [
        KeyWish(scope=KeyScope(models=("a b",))),
        KeyWish(scope=KeyScope(models=("*x",))),
        KeyWish(scope=KeyScope(actions=("infr",))),
        KeyWish(scope=KeyScope(networks=("10.0.0.1/8",))),
        KeyWish(scope=KeyScope(networks=("example.com",))),
        KeyWish(expires_in_s=0),
        KeyWish(expires_in_s=-1),
        KeyWish(title="a\x00b"),
    ],
)
def test_keys_that_cannot_be(house: House, wish: KeyWish) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service"))
    with pytest.raises(InvalidRequest):
        house.keyring.create(SYSTEM, "app", wish)


def test_rotation_overlaps_and_then_the_old_key_ends(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service", roles=("developer",)))
    old = house.keyring.create(SYSTEM, "app", KeyWish(scope=KeyScope(models=("chat",))))
    actor = house.actor(old.secret)
    new = house.keyring.rotate(actor, old.record.key_id, overlap_s=3600)
    assert new.record.scope == old.record.scope and new.secret != old.secret
    assert house.who(old.secret).id == house.who(new.secret).id == "app"
    house.clock.advance(3600)
    with pytest.raises(Unauthenticated, match="expired"):
        house.who(old.secret)
    assert house.who(new.secret).id == "app"
    with pytest.raises(Conflict, match="no longer valid"):
        house.keyring.rotate(SYSTEM, old.record.key_id, overlap_s=0)
    with pytest.raises(InvalidRequest, match="overlap"):
        house.keyring.rotate(SYSTEM, new.record.key_id, overlap_s=31 * 86_400)


def test_a_narrow_key_does_not_rotate_itself_into_a_wide_one(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service", roles=("developer",)))
    wide = house.keyring.create(SYSTEM, "app", KeyWish())
    narrow = house.keyring.create(SYSTEM, "app", KeyWish(scope=KeyScope(models=("chat",))))
    other = house.make(SYSTEM, "eve", "developer")
    for key in (narrow.secret, other):
        with pytest.raises(PermissionDenied):
            house.keyring.rotate(house.actor(key), wide.record.key_id, overlap_s=0)
        with pytest.raises(PermissionDenied):
            house.keyring.revoke(house.actor(key), wide.record.key_id)
    house.keyring.revoke(house.actor(wide.secret), narrow.record.key_id)
    with pytest.raises(Unauthenticated, match="revoked"):
        house.who(narrow.secret)


# --- keys that people make for themselves


def test_people_make_rotate_and_revoke_keys_of_their_own(house: House) -> None:
    house.three()
    for role in (*OFFICERS, "model-owner", "developer", "viewer"):
        me = house.actor(house.make(SYSTEM, f"a-{role}", role))
        made = house.keyring.create(me, "", KeyWish(title="laptop", expires_in_s=900))
        assert made.record.owner == made.record.created_by == me.principal.id
        assert house.who(made.secret).subjects == me.principal.subjects and made.record.expires_s is not None
        new = house.keyring.rotate(me, made.record.key_id, overlap_s=0)
        with pytest.raises(Unauthenticated):
            house.who(made.secret)
        house.keyring.revoke(me, new.record.key_id)
        with pytest.raises(Unauthenticated, match="revoked"):
            house.who(new.secret)
        assert (me.principal.id, "done") in house.acts("key:create")


def test_nobody_makes_a_key_for_somebody_else_or_learns_who_there_is(house: House) -> None:
    house.make(SYSTEM, "ada", "developer")
    dev = house.actor(house.make(SYSTEM, "dev", "developer"))
    for owner in ("ada", "nobody"):
        with pytest.raises(PermissionDenied, match="may not access:write"):
            house.keyring.create(dev, owner, KeyWish())
    roleless = house.actor(house.make(SYSTEM, "new"))
    with pytest.raises(PermissionDenied, match="key:create-own"):
        house.keyring.create(roleless, "", KeyWish())
    with pytest.raises(PermissionDenied, match="first-key may not key:create-own"):
        house.keyring.create(house.actor(house.first_key), "", KeyWish())
    deny = parse_rule("deny key:create-own on *")
    house.book.put_role(SYSTEM, Role(name="issued", rules=(deny,)))
    house.book.grant(SYSTEM, add=[Binding("everyone", "issued")])
    with pytest.raises(PermissionDenied, match="key:create-own"):
        house.keyring.create(dev, "dev", KeyWish())


@pytest.mark.parametrize(
    "scope",
    [KeyScope(models=("chat",)), KeyScope(networks=("10.0.0.0/8",)), KeyScope(actions=("infer", "key:*"))],
)
def test_a_restricted_key_makes_no_key_that_lacks_its_restriction(house: House, scope: KeyScope) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", roles=("model-owner",)))
    narrow = house.keyring.create(SYSTEM, "app", KeyWish(scope=scope)).secret
    me = Actor(principal=house.who(narrow, "10.0.0.9"))
    for wish in (KeyWish(), KeyWish(scope=scope)):
        with pytest.raises(PermissionDenied, match="does not open all that a key of user/app would"):
            house.keyring.create(me, "", wish)


def test_what_narrows_nothing_stands_in_nobodys_way(house: House) -> None:
    """A session of somebody who holds no office lacks what belongs to an office, which they lack anyhow."""
    house.make(SYSTEM, "dev", "developer")
    mine = replace(house.directory().of_account("dev"), scope=narrow(fresh=True))
    assert house.keyring.create(Actor(principal=mine), "", KeyWish()).record.scope == WIDE
    stale = replace(mine, scope=narrow())
    with pytest.raises(PermissionDenied, match="key:create-own"):
        house.keyring.create(Actor(principal=stale), "", KeyWish())
    house.three()
    officer = replace(house.directory().of_account("sam"), scope=narrow(fresh=True))
    with pytest.raises(PermissionDenied, match="this session does not open"):
        house.keyring.create(Actor(principal=officer), "", KeyWish())


def test_what_a_token_denies_is_no_longer_denied_to_a_key_and_so_there_is_none(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="corp:eve", roles=("developer",)))
    claims = Claims(issuer="corp", subject="eve", tenant="default", groups=frozenset(), expires_s=9e9)
    assert house.keyring.create(Actor(principal=house.directory().of_claims(claims)), "", KeyWish()).secret
    house.people.create_group(SYSTEM, "interns", "")
    house.book.put_role(SYSTEM, Role(name="no-large", rules=(parse_rule("deny infer on model/large"),)))
    house.book.grant(SYSTEM, add=[Binding("group/interns", "no-large")])
    intern = house.directory().of_claims(replace(claims, groups=frozenset(["interns"])))
    with pytest.raises(PermissionDenied, match="deny infer on model/large"):
        house.keyring.create(Actor(principal=intern), "", KeyWish())
    stranger = house.directory().of_claims(replace(claims, subject="bob", roles=frozenset(["developer"])))
    with pytest.raises(NotFound, match="corp:bob"):
        house.keyring.create(Actor(principal=stranger), "", KeyWish())


def test_a_key_that_ends_makes_none_that_lasts_longer(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="tmp", roles=("developer",)))
    key = house.keyring.create(SYSTEM, "tmp", KeyWish(expires_in_s=3600))
    me = house.actor(key.secret)
    house.clock.advance(600)
    assert house.keyring.create(me, "", KeyWish()).record.expires_s == key.record.expires_s
    assert house.keyring.create(me, "", KeyWish(expires_in_s=60)).record.expires_s == int(house.clock.now_s()) + 60
    with pytest.raises(InvalidRequest, match="valid for 3600 s"):
        house.keyring.create(me, "", KeyWish(expires_in_s=3600))


@pytest.mark.parametrize("counted", ["*", "this"])
def test_a_key_that_a_budget_counts_apart_makes_none_that_escapes_it(house: House, counted: str) -> None:
    me = house.actor(house.make(SYSTEM, "dev", "developer"))
    key = me.principal.key_id if counted == "this" else "*"
    SqlBudgets(house.database).put_rule(BudgetRule(kind="tokens", window="day", cap=9, user="dev"))
    assert house.keyring.create(me, "", KeyWish()).secret, "that of the user counts every key"
    SqlBudgets(house.database).put_rule(BudgetRule(kind="tokens", window="day", cap=9, key=key))
    with pytest.raises(Conflict, match="counts the key"):
        house.keyring.create(me, "", KeyWish())
    by_session = Actor(principal=house.directory().of_account("dev"))
    assert house.keyring.create(by_session, "", KeyWish()).secret


def test_keys_of_ones_own_are_bounded_and_a_revoked_one_makes_room(house: House) -> None:
    me = house.actor(house.make(SYSTEM, "dev", "developer"))
    made = [house.keyring.create(me, "", KeyWish()).record.key_id for _ in range(MOST_OWN)]
    with pytest.raises(Conflict, match=f"has created {MOST_OWN} keys that are still valid"):
        house.keyring.create(me, "", KeyWish())
    house.keyring.rotate(me, made[0], overlap_s=60)
    house.keyring.create(SYSTEM, "dev", KeyWish())
    for key in made[:3]:
        house.keyring.revoke(me, key)
    assert house.keyring.create(me, "", KeyWish()).secret


def test_whoever_revokes_a_stolen_key_hears_of_what_was_made_with_it_and_ends_that_too(house: House) -> None:
    """A thief makes a key, another with that one, and a successor, before the owner notices."""
    stolen = house.actor(house.make(SYSTEM, "dev", "developer"))
    first = house.keyring.create(stolen, "", KeyWish())
    second = house.keyring.create(house.actor(first.secret), "", KeyWish())
    third = house.keyring.rotate(house.actor(second.secret), second.record.key_id, overlap_s=3600)
    other = house.keyring.create(Actor(principal=house.directory().of_account("dev")), "", KeyWish())
    assert (first.record.made_with, other.record.made_with) == (stolen.principal.key_id, "")
    made = {one.record.key_id for one in (first, second, third)}
    gone = house.keyring.revoke(SYSTEM, stolen.principal.key_id)
    assert set(gone.made) == made and house.who(third.secret).id == "dev", "told, and not taken from who rotated"
    again = house.keyring.revoke(house.actor(other.secret), stolen.principal.key_id, made=True)
    assert set(again.made) == made and again.record.revoked_s == gone.record.revoked_s
    for one in (first, second, third):
        with pytest.raises(Unauthenticated, match="revoked"):
            house.who(one.secret)
    assert house.who(other.secret).id == "dev"
    act = house.recorder.acts[-1]
    assert act.action == "key:revoke" and set(str(act.detail["made"]).split()) == made
    assert house.keyring.revoke(SYSTEM, stolen.principal.key_id).made == ()


def test_nobody_revokes_with_their_own_what_is_not_theirs(house: House) -> None:
    _, security, _ = house.three()
    house.make(SYSTEM, "dev", "developer")
    new = house.keyring.create(house.actor(security), "sec", KeyWish())
    with house.database.write() as connection:  # as if an officer had made it with a key that became somebody else's
        access_sql.save_key(connection, replace(new.record, key_id="ash_made", digest="0", made_with="ash_dev"))
        access_sql.save_key(connection, replace(new.record, key_id="ash_dev", digest="1", owner="dev"))
    dev = house.actor(house.keyring.create(SYSTEM, "dev", KeyWish()).secret)
    with pytest.raises(PermissionDenied, match="access:write"):
        house.keyring.revoke(dev, "ash_dev", made=True)
    with house.database.read() as connection:
        assert {access_sql.find_key(connection, one).revoked_s for one in ("ash_dev", "ash_made")} == {None}  # type: ignore[union-attr]
    assert house.keyring.revoke(dev, "ash_dev").made == ("ash_made",)


def test_a_restricted_key_of_an_officer_makes_them_no_wide_one(house: House) -> None:
    """One that may make keys of everybody else would be a way to all that its owner may do."""
    _, security, _ = house.three()
    sec = house.actor(security)
    scope = KeyScope(actions=("access:*",), networks=("10.0.0.0/8",))
    narrowed = Actor(principal=house.who(house.keyring.create(sec, "sec", KeyWish(scope=scope)).secret, "10.0.0.9"))
    house.make(SYSTEM, "dev", "developer")
    assert house.keyring.create(narrowed, "dev", KeyWish()).secret
    for wish in (KeyWish(), KeyWish(scope=scope)):
        with pytest.raises(PermissionDenied, match="does not open all"):
            house.keyring.create(narrowed, "", wish)
    with pytest.raises(PermissionDenied, match="does not open all"):
        house.keyring.rotate(narrowed, sec.principal.key_id, overlap_s=0)
    assert house.keyring.create(sec, "", KeyWish()).secret


def test_a_key_that_ends_makes_no_lasting_one_of_another(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="tmp", roles=("developer",)))
    lasting = [house.keyring.create(SYSTEM, "tmp", KeyWish(expires_in_s=one)).record for one in (None, 60, 90_000)]
    ends = house.keyring.create(SYSTEM, "tmp", KeyWish(expires_in_s=3600))
    house.clock.advance(30)
    now_s = int(house.clock.now_s())
    found = [house.keyring.rotate(house.actor(ends.secret), one.key_id, overlap_s=0).record for one in lasting]
    assert [one.expires_s for one in found] == [ends.record.expires_s, now_s + 60, ends.record.expires_s]
    own = house.keyring.rotate(house.actor(ends.secret), ends.record.key_id, overlap_s=0).record
    assert own.expires_s == now_s + 3600, "with itself it is prolonged, as ever"


def test_a_key_does_not_leave_its_budget_behind_by_being_rotated(house: House) -> None:
    me = house.actor(house.make(SYSTEM, "dev", "developer"))
    other = house.keyring.create(SYSTEM, "dev", KeyWish()).record.key_id
    budgets = SqlBudgets(house.database)
    budgets.put_rule(BudgetRule(kind="tokens", window="day", cap=9, key=other))
    house.keyring.rotate(me, me.principal.key_id, overlap_s=3600)
    with pytest.raises(Conflict, match=f"counts the key {other} apart"):
        house.keyring.rotate(me, other, overlap_s=0)
    budgets.put_rule(BudgetRule(kind="tokens", window="day", cap=9, key="*"))
    with pytest.raises(Conflict, match="has created one within a day"):
        house.keyring.rotate(me, me.principal.key_id, overlap_s=3600)
    house.clock.advance(86_401)
    again = house.actor(house.keyring.create(SYSTEM, "dev", KeyWish()).secret)
    new = house.keyring.rotate(again, again.principal.key_id, overlap_s=0)
    with pytest.raises(Conflict, match="has created one within a day"):
        house.keyring.rotate(house.actor(new.secret), new.record.key_id, overlap_s=0)
    assert house.keyring.rotate(SYSTEM, other, overlap_s=0).secret


def test_an_expired_key_is_revoked_so_that_no_clock_brings_it_back(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service"))
    key = house.keyring.create(SYSTEM, "app", KeyWish(expires_in_s=10)).secret
    later = int(house.clock.now_s()) + 11
    with house.database.write() as connection:
        assert access_sql.has_expired(connection, later) and access_sql.expire_keys(connection, later) == 1
        assert not access_sql.has_expired(connection, later)
    with pytest.raises(Unauthenticated):  # the clock still shows a time before
        house.who(key)


def test_the_last_use_is_kept_and_never_goes_back(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service"))
    key_id = house.keyring.create(SYSTEM, "app", KeyWish()).record.key_id
    with house.database.write() as connection:
        access_sql.note_uses(connection, {key_id: 50, "ash_nothing": 9})
        access_sql.note_uses(connection, {key_id: 40})
        found = access_sql.find_key(connection, key_id)
    assert found is not None and found.last_used_s == 50


def test_only_what_changed_is_read_again(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service"))
    keys = [house.keyring.create(SYSTEM, "app", KeyWish()).record.key_id for _ in range(3)]
    with house.database.read() as connection:
        seen = read_epochs(connection)["keys"]
        assert access_sql.changed_keys(connection, seen) == ()
    house.keyring.revoke(SYSTEM, keys[1])
    with house.database.read() as connection:
        assert [key.key_id for key in access_sql.changed_keys(connection, seen)] == [keys[1]]
