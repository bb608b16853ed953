"""Keys on every database: told once, bounded, rotated, revoked, read again."""

from __future__ import annotations

import pytest
from access_house import House

from ashore.access import (
    SYSTEM,
    AccountWish,
    Compiled,
    KeyScope,
    KeyWish,
    digest_of,
)
from ashore.access import sql as access_sql
from ashore.errors import Conflict, InvalidRequest, PermissionDenied, Unauthenticated
from ashore.state import read_epochs


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
