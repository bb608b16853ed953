"""The first key and the three offices on every database: nobody raises themselves, somebody can always administer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from access_house import House

from ashore.control.access import AccountWish, KeyWish, Revived, revive_first_key
from ashore.core.errors import Conflict, InvalidRequest, PermissionDenied, Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import (
    ACTIONS,
    Acts,
    Binding,
    Compiled,
    Doorkeeper,
    KeyScope,
    Policy,
    Principal,
    Role,
    keep_first_key,
    new_key,
    parse_rule,
)
from ashore.data.authority import sql as access_sql
from ashore.data.authority.records import Group


def test_the_first_key_makes_the_three_administrators_and_dies(house: House) -> None:
    first = house.actor(house.first_key)
    assert house.may(house.first_key, "infer", "model/chat")
    system = house.make(first, "sam", "system-administrator")
    security = house.make(first, "sec", "security-officer")
    assert house.may(house.first_key, "infer", "model/chat")
    auditor = house.make(first, "ann", "auditor")
    with pytest.raises(Unauthenticated, match="three administrators exist") as caught:
        house.who(house.first_key)
    assert "ASHORE_API_KEY" in caught.value.hint
    assert house.may(system, "model:pull", "server") and not house.may(system, "access:write", "server")
    assert house.may(security, "role:grant", "role/x") and not house.may(security, "audit:search", "server")
    assert house.may(auditor, "audit:search", "server") and not house.may(auditor, "infer", "model/chat")
    with house.database.write() as connection:
        assert not keep_first_key(connection, house.first_key, created_s=1)
        assert not keep_first_key(connection, new_key(), machine="another", created_s=1)
    with pytest.raises(Unauthenticated):
        house.who(house.first_key)


def test_homes_that_share_a_state_have_a_first_key_each_and_a_home_may_get_another_name(house: House) -> None:
    keys = [new_key(), new_key()]
    with house.database.write() as connection:
        for number, key in enumerate(keys):
            assert keep_first_key(connection, key, machine=f"node:/home/{number}", created_s=1)
        assert keep_first_key(connection, keys[0], machine="renamed:/home/0", created_s=1)
    for key in (house.first_key, *keys):
        assert house.may(key, "infer", "model/chat")


@pytest.mark.parametrize(
    "wish",
    [
        AccountWish(id="eve"),
        AccountWish(id="eve", key=KeyWish()),
        AccountWish(id="eve", roles=("developer",), key=KeyWish()),
        AccountWish(id="eve", roles=("auditor",)),
        AccountWish(id="eve", roles=("auditor", "developer"), key=KeyWish()),
        AccountWish(id="eve", roles=("security-officer", "auditor"), key=KeyWish()),
        AccountWish(id="eve", kind="service", roles=("auditor",), key=KeyWish()),
        AccountWish(id="eve", roles=("system-administrator",), key=KeyWish()),
    ],
)
def test_the_first_key_makes_nothing_else_and_says_what_is_next(house: House, wish: AccountWish) -> None:
    first = house.actor(house.first_key)
    house.make(first, "sam", "system-administrator")
    with pytest.raises(PermissionDenied) as caught:
        house.people.create_account(first, wish)
    assert "ashore access user create NAME --role security-officer" in caught.value.hint
    assert [one.id for one, _ in house.people.accounts(first, "user")] == ["sam"], "it reads what it may not change"
    assert house.book.show(first).bindings and house.keyring.keys(first) and house.people.groups(first) == ()
    for action in (one.name for one in ACTIONS if one.is_read):
        assert house.may(house.first_key, action, "server"), action
    for action in ("stored:show", "release:pairs", "audit:search", "release:write", "budget:write"):
        assert not house.may(house.first_key, action, "server"), action
    for forbidden in (
        lambda: house.people.create_tenant(first, "bank-b"),
        lambda: house.people.create_group(first, "g"),
        lambda: house.keyring.create(first, "sam", KeyWish()),
        lambda: house.keyring.revoke(first, "first-key"),
        lambda: house.book.grant(first, add=[Binding("user/sam", "viewer")]),
        lambda: house.book.apply(first, Policy(), base_version=0),
        lambda: house.people.remove_account(first, "user", "sam"),
    ):
        with pytest.raises(PermissionDenied):
            forbidden()


def test_where_an_office_has_lost_its_keys_a_new_first_key_makes_its_holder(house: House, tmp_path: Path) -> None:
    _, security, auditor = house.three()
    acts, path = Acts(house.database, house.recorder, house.clock), tmp_path / "first-key"
    with pytest.raises(Conflict, match="every office"):
        revive_first_key(acts, path)
    assert not path.exists()
    with house.database.write() as connection:  # the keys of the auditor have expired
        found = access_sql.find_key(connection, house.who(auditor).key_id)
        assert found is not None
        access_sql.save_key(connection, replace(found, revoked_s=1))
    assert revive_first_key(acts, path) == Revived(missing=("auditor",), taken_away=())
    first = house.actor(path.read_text().strip())
    with pytest.raises(PermissionDenied):
        house.make(first, "eve", "security-officer")
    house.make(first, "ann2", "auditor")
    for dead in (path.read_text().strip(), house.first_key):
        with pytest.raises(Unauthenticated):
            house.who(dead)
    assert house.acts("first-key:revive") == [("system", "failed"), ("system", "done")]
    assert house.may(security, "role:grant", "role/x")


def test_lost_keys_are_revoked_and_a_new_first_key_makes_three_administrators_again(
    house: House, tmp_path: Path
) -> None:
    _, security, _ = lost = house.three()
    dev = house.make(house.actor(security), "dev", "developer")
    acts, path = Acts(house.database, house.recorder, house.clock), tmp_path / "first-key"
    revived = revive_first_key(acts, path, lost=True)
    assert revived.missing == ("system-administrator", "security-officer", "auditor") and len(revived.revoked) == 3
    for key in lost:
        with pytest.raises(Unauthenticated, match="was revoked"):
            house.who(key)
    assert house.may(dev, "infer", "model/chat"), "the keys of others stay"
    first = house.actor(path.read_text().strip())
    for name, role in zip(("sam2", "sec2", "ann2"), revived.missing, strict=True):
        made = house.make(first, name, role)
    assert house.may(made, "audit:search", "server")
    with pytest.raises(Unauthenticated, match="three administrators exist"):
        house.who(path.read_text().strip())
    act = next(act for act in house.recorder.acts if act.action == "first-key:revive")
    assert [part.split(" of ")[1] for part in str(act.detail["lost"]).split(", ")] == ["ann", "sam", "sec"]
    assert act.outcome == "done"


def test_a_hint_names_the_first_key_only_while_it_opens_something(house: House) -> None:
    def hint(token: str | None) -> str:
        with pytest.raises(Unauthenticated) as caught:
            Doorkeeper(house.directory(), house.clock, house.recorder).authenticate(token)
        return caught.value.hint

    assert all("the first key is in the file first-key" in hint(token) for token in (None, new_key()))
    house.three()
    assert all("a security officer creates keys" in hint(token) for token in (None, new_key()))
    assert "revive --lost" in hint(house.first_key)


SHUT_OUT = (
    ("deny * on *",),
    ("deny policy:write on *",),
    ("deny access:write on tenant/*",),
    ("deny role:grant on role/security-officer",),
    ("deny policy:* on policy", "budget:read on *"),
)
"""Rules that shut everybody out of administering, when everybody has them."""


@pytest.mark.parametrize("rules", SHUT_OUT)
def test_no_policy_leaves_nobody_who_can_change_it(house: House, rules: tuple[str, ...]) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    den = Role(name="den", rules=tuple(parse_rule(rule) for rule in rules))
    house.book.put_role(sec, den)
    with pytest.raises(Conflict, match=r"this would leave nobody with a valid key .* who may policy:write on policy"):
        house.book.grant(sec, add=[Binding("everyone", "den")])
    current = house.book.show(sec)
    whole = replace(current, bindings=(*current.bindings, Binding("tenant/default", "den")))
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="who may"):
            house.book.apply(sec, whole, base_version=current.version, dry_run=dry_run)
    house.book.put_role(sec, replace(den, rules=()))
    house.book.grant(sec, add=[Binding("everyone", "den")])
    with pytest.raises(Conflict, match="who may"):
        house.book.put_role(sec, den)
    assert house.may(security, "policy:write", "policy")


def test_what_nobody_could_ever_undo_is_refused_and_what_another_officer_can_undo_is_not(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_tenant(sec, "bank-b")
    house.book.put_role(sec, Role(name="den", rules=(parse_rule("deny access:write on tenant/bank-b/*"),)))
    house.book.put_role(sec, Role(name="mute", rules=(parse_rule("deny infer on model/x"),)))
    with pytest.raises(Conflict, match=r"valid key who may access:write on tenant/bank-b/\*"):
        house.book.grant(sec, add=[Binding("everyone", "den")])
    house.book.grant(sec, add=[Binding("user/sec", "den"), Binding("everyone", "mute")])
    second = house.actor(house.make(sec, "sec2", "security-officer"))
    house.book.grant(second, remove=[Binding("user/sec", "den")])
    house.book.grant(sec, remove=[Binding("everyone", "mute")])  # no officer asks models: it gives them nothing
    assert house.may(security, "access:write", "tenant/bank-b/user/x")


def test_every_way_to_the_last_administrator_is_closed(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    for name in ("officers", "muted"):
        house.people.create_group(sec, name)
    rules = ("policy:write on *", "access:write on *", "role:grant on *", "deny policy:write on policy")
    house.book.put_role(sec, Role(name="boss", rules=tuple(parse_rule(rule) for rule in rules[:3])))
    house.book.put_role(sec, Role(name="den", rules=(parse_rule(rules[3]),)))
    house.book.grant(sec, add=[Binding("group/officers", "boss"), Binding("group/muted", "den")])
    narrow = KeyWish(scope=KeyScope(actions=("infer",)))
    house.people.create_account(sec, AccountWish(id="bob", groups=("officers",), key=narrow))
    for last in (
        lambda: house.people.change_members(sec, "muted", add=["sec"]),
        lambda: house.people.change_account(sec, "user", "sec", disabled=True),
        lambda: house.people.remove_account(sec, "user", "sec"),
        lambda: house.keyring.revoke(sec, house.who(security).key_id),
        lambda: house.book.grant(sec, remove=[Binding("user/sec", "security-officer")]),
    ):
        with pytest.raises(Conflict, match="this would leave nobody with a valid key"):
            last()
    assert house.may(security, "policy:write", "policy")


def test_revive_looks_at_rights_and_mends_a_home_in_which_nobody_administers(house: House, tmp_path: Path) -> None:
    _, security, auditor = house.three()
    acts, path = Acts(house.database, house.recorder, house.clock), tmp_path / "first-key"
    with house.database.write() as connection:  # as an older ashore let it come about
        policy = access_sql.load_policy(connection)
        den = Role(name="den", rules=(parse_rule("deny * on *"),))
        bindings = (*policy.bindings, Binding("everyone", "den"), Binding("user/sec", "den"))
        broken = Policy(roles=(den,), bindings=bindings, version=policy.version + 1)
        access_sql.save_policy(connection, broken, author="sec", comment="", now_s=1)
    assert not house.may(security, "policy:write", "policy")
    revived = revive_first_key(acts, path)
    assert revived == Revived(missing=("security-officer",), taken_away=(Binding("everyone", "den"),))
    second = house.make(house.actor(path.read_text().strip()), "sec2", "security-officer")
    house.book.grant(house.actor(second), remove=[Binding("user/sec", "den")])
    assert house.may(security, "policy:write", "policy") and house.may(auditor, "policy:read", "policy")
    with pytest.raises(Conflict, match="the rights of the office"):
        revive_first_key(acts, path)
    detail = next(act.detail for act in house.recorder.acts if act.action == "first-key:revive")
    assert detail["taken_away"] == "everyone has den"


def test_nobody_raises_their_own_rights(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "dev")
    house.book.grant(sec, add=[Binding("group/dev", "developer")])
    house.book.put_role(sec, Role(name="own", rules=(parse_rule("usage:read on *"),)))
    for raising in (
        lambda: house.book.grant(sec, add=[Binding("user/sec", "developer")]),
        lambda: house.book.grant(sec, add=[Binding("everyone", "developer")]),
        lambda: house.book.grant(sec, add=[Binding("tenant/default", "developer")]),
        lambda: house.people.change_members(sec, "dev", add=["sec"]),
        lambda: house.book.apply(
            sec,
            Policy(bindings=(*house.book.bindings(sec), Binding("user/sec", "developer"))),
            base_version=house.book.show(sec).version,
        ),
    ):
        with pytest.raises(PermissionDenied, match="may not raise their own rights"):
            raising()
    house.make(sec, "sec2", "security-officer")
    with pytest.raises((PermissionDenied, InvalidRequest)):
        house.book.grant(sec, add=[Binding("user/sec", "auditor")])


def test_nobody_gets_two_offices_by_any_way(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "auditors")
    house.book.grant(sec, add=[Binding("group/auditors", "auditor")])
    for way in (
        lambda: house.book.grant(sec, add=[Binding("user/sam", "auditor")]),
        lambda: house.people.change_members(sec, "auditors", add=["sam"]),
        lambda: house.people.create_account(
            sec, AccountWish(id="eve", roles=("system-administrator",), groups=("auditors",))
        ),
    ):
        with pytest.raises(InvalidRequest, match="offices"):
            way()


def test_the_last_holder_of_an_office_stays(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    for way in (
        lambda: house.people.change_account(sec, "user", "sam", disabled=True),
        lambda: house.people.remove_account(sec, "user", "ann"),
        lambda: house.book.grant(sec, remove=[Binding("user/ann", "auditor")]),
        lambda: house.keyring.revoke(sec, house.who(security).key_id),
        lambda: house.book.apply(sec, Policy(), base_version=house.book.show(sec).version),
    ):
        with pytest.raises(Conflict, match="this would leave nobody with a valid key"):
            way()
    house.make(sec, "sam2", "system-administrator")
    house.people.change_account(sec, "user", "sam", disabled=True)


def test_an_auditor_is_silenced_by_nobody_alone(house: House) -> None:
    system, security, auditor = house.three()
    sec, sam, ann = house.actor(security), house.actor(system), house.actor(auditor)
    house.make(sec, "ann2", "auditor")
    ways = (
        lambda: house.people.change_account(sec, "user", "ann", disabled=True),
        lambda: house.people.remove_account(sec, "user", "ann"),
        lambda: house.book.grant(sec, remove=[Binding("user/ann", "auditor")]),
        lambda: house.keyring.revoke(sec, house.who(auditor).key_id),
    )
    for way in ways:
        with pytest.raises(Conflict, match="needs the consent of a system administrator") as caught:
            way()
        assert "ashore access consent ann" in caught.value.hint
    for wrong in (sec, ann):
        with pytest.raises(PermissionDenied):
            house.people.consent(wrong, "ann")
    with pytest.raises(PermissionDenied):
        house.people.change_account(sam, "user", "ann", disabled=True)
    house.people.consent(sam, "ann")
    house.clock.advance(86_401)
    with pytest.raises(Conflict, match="needs the consent"):
        ways[0]()
    house.people.consent(sam, "ann")
    now = house.book.show(sec)
    without = replace(now, bindings=tuple(one for one in now.bindings if one.subject != "user/ann"))
    assert house.book.apply(sec, without, base_version=now.version, dry_run=True).changes == ("- user/ann has auditor",)
    ways[0]()  # a dry run uses no consent up
    house.people.change_account(sec, "user", "ann", disabled=False)
    with pytest.raises(Conflict, match="needs the consent"):
        ways[0]()
    house.people.consent(sam, "ann")
    ways[0]()
    with pytest.raises(Unauthenticated):
        house.who(auditor)
    told = [act for act in house.recorder.acts if act.action == "user:change" and act.outcome == "done"]
    assert told[-1].detail["consent_of"] == "sam"


def test_a_puppet_does_not_help_to_silence_an_auditor(house: House) -> None:
    system, security, _ = house.three()
    sec, sam = house.actor(security), house.actor(system)
    for name, role in (("ann2", "auditor"), ("puppet", "system-administrator"), ("sec2", "security-officer")):
        key = house.make(sec, name, role)
        if name == "puppet":
            house.people.consent(house.actor(key), "ann")
            rotated = house.keyring.rotate(house.actor(key), house.who(key).key_id, overlap_s=0)
            house.people.consent(house.actor(rotated.secret), "ann")
    for one in (sec, house.actor(key)):
        with pytest.raises(Conflict, match="puppet does not count"):
            house.people.change_account(one, "user", "ann", disabled=True)
    house.people.remove_account(sec, "user", "sam")
    sam = house.actor(house.make(sec, "sam", "system-administrator"))
    house.people.consent(sam, "ann")
    with pytest.raises(Conflict, match="puppet, sam does not count"):
        house.people.change_account(sec, "user", "ann", disabled=True)


@pytest.mark.parametrize("name", ["system", "first-key", "first-key@elsewhere", "internal", "os:root"])
def test_nobody_is_called_what_the_record_calls_ashore(house: House, name: str) -> None:
    sec = house.actor(house.three()[1])
    with pytest.raises(InvalidRequest, match="the audit log uses that name"):
        house.make(sec, name)


def test_one_person_in_two_offices_one_after_the_other_is_still_alone(house: House) -> None:
    system, security, _ = house.three()
    sec = house.actor(security)
    house.make(sec, "sam2", "system-administrator")
    house.make(sec, "ann2", "auditor")
    house.people.consent(house.actor(system), "ann")
    house.book.grant(
        sec,
        add=[Binding("user/sam", "security-officer")],
        remove=[Binding("user/sam", "system-administrator")],
    )
    for one in (house.actor(system), sec):  # for the other one it is of somebody who may not consent any more
        with pytest.raises(Conflict, match="needs the consent"):
            house.people.change_account(one, "user", "ann", disabled=True)


@pytest.mark.parametrize("way", ["disabled", "removed and made again", "office", "denied", "key"])
def test_the_consent_of_somebody_who_may_not_give_it_any_more_does_not_count(house: House, way: str) -> None:
    system, security, _ = house.three()
    sec, sam = house.actor(security), house.actor(system)
    house.make(sec, "sam2", "system-administrator")
    house.make(sec, "ann2", "auditor")
    house.people.consent(sam, "ann")
    match way:
        case "disabled":
            house.people.change_account(sec, "user", "sam", disabled=True)
        case "removed and made again":
            house.people.remove_account(sec, "user", "sam")
            with house.database.write() as connection:  # by a third person, who knows none of the keys
                connection.exec_driver_sql("UPDATE access_account SET removed = 0, disabled = 0 WHERE id = 'sam'")
            house.book.grant(sec, add=[Binding("user/sam", "system-administrator")])
        case "office":
            house.book.grant(sec, remove=[Binding("user/sam", "system-administrator")])
        case "denied":
            house.book.put_role(sec, Role(name="not-ann", rules=(parse_rule("deny auditor:consent on *"),)))
            house.book.grant(sec, add=[Binding("user/sam", "not-ann")])
        case "key":
            house.keyring.revoke(sam, sam.principal.key_id)
    with pytest.raises(Conflict, match="needs the consent"):
        house.people.remove_account(sec, "user", "ann")


def test_nobody_else_gets_a_key_of_an_administrator(house: House) -> None:
    _, security, auditor = house.three()
    sec = house.actor(security)
    with pytest.raises(PermissionDenied, match="administrator with the key"):
        house.keyring.create(sec, "ann", KeyWish())
    with pytest.raises(PermissionDenied, match="administrator with the key"):
        house.keyring.rotate(sec, house.who(auditor).key_id, overlap_s=0)
    assert house.keyring.rotate(house.actor(auditor), house.who(auditor).key_id, overlap_s=0).secret


def test_who_may_not_grant_an_office_gives_it_to_nobody_by_any_way(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_tenant(sec, "bank-a")
    for group in ("owners", "readers"):
        house.people.create_group(sec, group)
    rules = ("access:write on tenant/bank-a/*", "access:write on group/*", "role:grant on role/developer")
    house.book.put_role(sec, Role(name="bank-a-desk", rules=tuple(parse_rule(rule) for rule in rules)))
    desk = house.actor(house.make(sec, "dee", "bank-a-desk", tenant="bank-a"))
    house.make(sec, "olga", "model-owner", tenant="bank-a")
    house.make(sec, "omar", "model-owner", tenant="bank-a")
    house.make(desk, "alice", "developer", tenant="bank-a")
    ahead = [Binding("user/corp:zoe", "security-officer"), Binding("group/owners", "model-owner")]
    house.book.grant(sec, add=ahead)
    current = house.book.show(sec)
    later = (Binding("service/nightly", "auditor"), Binding("user/future", "viewer"))
    house.book.apply(sec, replace(current, bindings=(*current.bindings, *later)), base_version=current.version)
    (olgas,) = house.keyring.keys(sec, owner="olga")
    house.keyring.revoke(desk, olgas.key_id)
    house.people.change_account(desk, "user", "omar", disabled=True)
    wish = AccountWish(id="corp:zoe", tenant="bank-a", key=KeyWish())
    ways = (
        lambda who: house.people.create_account(who, wish),
        lambda who: house.people.create_account(who, replace(wish, id="nightly", kind="service")),
        lambda who: house.people.create_account(who, replace(wish, id="future")),
        lambda who: house.people.create_account(who, replace(wish, id="corp:yan")),
        lambda who: house.keyring.create(who, "olga", KeyWish()),
        lambda who: house.people.change_account(who, "user", "omar", disabled=False),
        lambda who: house.people.change_members(who, "owners", add=["alice"]),
        lambda who: house.people.create_account(who, AccountWish(id="mia", tenant="bank-a", groups=("owners",))),
    )
    for way in ways:
        with pytest.raises(PermissionDenied):
            way(desk)
    house.people.change_members(desk, "readers", add=["alice"])
    assert house.keyring.create(desk, "alice", KeyWish())
    for way in ways:
        way(sec)


def test_what_an_act_costs_does_not_grow_with_the_policy_and_the_groups(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    for number in range(20):
        house.people.create_group(sec, f"g{number}")
    house.make(sec, "alice", groups=("g1", "g2"))
    house.people.accounts(sec, "user")  # knows the policy from now on
    read: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        real = getattr(access_sql, name)
        return lambda *given, **named: (read.append(name), real(*given, **named))[1]

    for name in ("load_policy", "members"):
        monkeypatch.setattr(access_sql, name, noted(name))
    assert dict(house.people.groups(sec))[Group(name="g2", created_s=int(house.clock.now_s()))] == ("alice",)
    (key,) = house.keyring.keys(sec, owner="alice")
    house.keyring.revoke(sec, key.key_id)
    assert read == ["members"]
    house.book.grant(sec, add=[Binding("user/alice", "developer")])
    assert house.book.can(sec, "user/alice", "infer", "model/chat")[0].allowed
    assert read == ["members", "load_policy"]  # another policy is read, once
    held = Compiled(Policy()).roles_of(Principal(id="x", tenant=TenantId("t"), roles=frozenset(("auditor",))))[0][0]
    assert held.offices is held.offices
