"""The use cases of the access room on every database: who there is, keys, the policy, the three offices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from postgres_server import fresh_database

from ashore.access import (
    ACTIONS,
    OFFICERS,
    SYSTEM,
    AccountWish,
    Actor,
    Acts,
    Binding,
    Compiled,
    Directory,
    Group,
    Keyring,
    KeyScope,
    KeyWish,
    NewKey,
    People,
    Policy,
    PolicyBook,
    Principal,
    Revived,
    Role,
    SqlNames,
    digest_of,
    keep_first_key,
    new_key,
    parse_rule,
    revive_first_key,
)
from ashore.access import sql as access_sql
from ashore.access.budgets import BudgetRule, check_names
from ashore.core import ManualClock, MemoryRecorder, TenantId
from ashore.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, Unauthenticated
from ashore.state import Database, open_state, read_epochs


@dataclass
class House:
    """Everything on one database, and what a process knows of it."""

    database: Database
    clock: ManualClock
    recorder: MemoryRecorder
    first_key: str

    def __post_init__(self) -> None:
        acts = Acts(self.database, self.recorder, self.clock)
        self.people, self.keyring, self.book = People(acts), Keyring(acts), PolicyBook(acts)

    def who(self, key: str, origin: str = "") -> Principal:
        """Return whose key it is, as a process would that has read everything."""
        return self.directory().of_key(key, digest_of(key).sha256.hex(), origin, self.clock.now_s())[0]

    def directory(self) -> Directory:
        directory = Directory()
        with self.database.read() as connection:
            accounts, gone = access_sql.changed_accounts(connection, -1)
            directory.take(
                tenants=access_sql.list_tenants(connection),
                accounts=accounts,
                gone=gone,
                keys=access_sql.changed_keys(connection, -1),
                whole=True,
            )
        return directory

    def actor(self, key: str) -> Actor:
        return Actor(principal=self.who(key), origin="10.0.0.9", request_id="req")

    def may(self, key: str, action: str, resource: str) -> bool:
        with self.database.read() as connection:
            compiled = Compiled(access_sql.load_policy(connection))
        return compiled.decide(self.who(key), action, resource).allowed

    def make(self, actor: Actor, name: str, *roles: str, **wish: object) -> str:
        """Make a user with a key and return the key."""
        _, new = self.people.create_account(
            actor,
            AccountWish(id=name, roles=roles, key=KeyWish(), **wish),  # type: ignore[arg-type]
        )
        assert new is not None
        return new.secret

    def three(self) -> tuple[str, str, str]:
        """Make the three administrators with the first key; return their keys: system, security, audit."""
        first = self.actor(self.first_key)
        return tuple(self.make(first, name, role) for name, role in zip(("sam", "sec", "ann"), OFFICERS, strict=True))  # type: ignore[return-value]

    def acts(self, action: str) -> list[tuple[str, str]]:
        return [(act.actor, act.outcome) for act in self.recorder.acts if act.action == action]


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    url = ""
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres_url"), "access_contract")
    made: list[Database] = []

    def once() -> Database:
        made.append(
            open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
        )
        return made[-1]

    yield once
    for database in made:
        database.close()


@pytest.fixture
def house(opened: Callable[[], Database]) -> House:
    database, key = opened(), new_key()
    with database.write() as connection:
        assert keep_first_key(connection, key, created_s=1)
    return House(database, ManualClock(), MemoryRecorder(), key)


# --- the first key


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
    assert [one.id for one in house.people.accounts(first, "user")] == ["sam"], "it reads what it may not change"
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


# --- somebody can always change the policy and who there is

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
    with pytest.raises(Conflict, match=r"nobody with a valid key would be left .* who may policy:write on policy"):
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
    with pytest.raises(Conflict, match=r"left who may access:write on tenant/bank-b/\*"):
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
        with pytest.raises(Conflict, match="nobody with a valid key would be left"):
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


# --- people


def test_a_user_of_a_tenant_with_a_group_gets_what_each_of_them_has(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_tenant(sec, "bank-a", "Bank A")
    house.people.create_group(sec, "dev")
    house.book.put_role(sec, Role(name="reader", rules=(parse_rule("infer on model/chat"),)))
    house.book.grant(sec, add=[Binding("group/dev", "reader"), Binding("tenant/bank-a", "viewer")])
    key = house.make(sec, "alice", tenant="bank-a", groups=("dev",))
    assert house.may(key, "infer", "model/chat") and not house.may(key, "infer", "model/other")
    assert house.may(key, "metrics:read", "server")
    assert house.people.change_members(sec, "dev", remove=["alice"]) == ()
    assert not house.may(key, "infer", "model/chat")
    assert house.people.change_members(sec, "dev", add=["alice"]) == ("alice",)
    assert house.people.groups(sec)[0][1] == ("alice",)
    house.people.remove_group(sec, "dev")
    assert not house.may(key, "infer", "model/chat")
    assert Binding("group/dev", "reader") not in house.book.bindings(sec)
    account, roles = house.people.account(sec, "user", "alice")
    assert (account.groups, roles) == (frozenset(), ("viewer",))


def test_one_who_administers_a_tenant_sees_and_changes_that_tenant_alone(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    for name in ("bank-a", "bank-b"):
        house.people.create_tenant(sec, name)
    rules = ("access:read on tenant/bank-a/*", "access:write on tenant/bank-a/*", "role:grant on role/developer")
    house.book.put_role(sec, Role(name="bank-a-desk", rules=tuple(parse_rule(rule) for rule in rules)))
    desk = house.actor(house.make(sec, "dee", "bank-a-desk", tenant="bank-a"))
    key = house.make(desk, "alice", "developer", tenant="bank-a")
    assert house.may(key, "infer", "model/chat")
    house.make(sec, "bert", tenant="bank-b")
    assert {one.id for one in house.people.accounts(desk, "user", tenant="bank-a")} == {"alice", "dee"}
    assert house.people.account(desk, "user", "alice")[1] == ("developer",)
    assert {one.owner for one in house.keyring.keys(desk, tenant="bank-a")} == {"alice", "dee"}
    for beyond in (
        lambda: house.people.accounts(desk, "user"),
        lambda: house.people.accounts(desk, "user", tenant="bank-b"),
        lambda: house.people.account(desk, "user", "bert"),
        lambda: house.people.account(desk, "user", "nobody"),
        lambda: house.keyring.keys(desk, tenant="bank-b"),
        lambda: house.keyring.create(desk, "bert", KeyWish()),
        lambda: house.people.create_account(desk, AccountWish(id="x", tenant="bank-b")),
        lambda: house.people.create_account(desk, AccountWish(id="x", tenant="bank-a", roles=("auditor",))),
        lambda: house.people.change_account(desk, "user", "bert", disabled=True),
        lambda: house.people.change_tenant(desk, "bank-a", disabled=True),
        lambda: house.people.tenants(desk),
        lambda: house.book.grant(desk, add=[Binding("user/dee", "developer")]),
    ):
        with pytest.raises(PermissionDenied):
            beyond()


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


def test_disabled_accounts_and_tenants_are_let_in_nowhere(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_tenant(sec, "bank-a")
    key = house.make(sec, "alice", "developer", tenant="bank-a")
    house.people.change_account(sec, "user", "alice", disabled=True)
    with pytest.raises(Unauthenticated, match="alice is disabled"):
        house.who(key)
    house.people.change_account(sec, "user", "alice", disabled=False)
    house.people.change_tenant(sec, "bank-a", disabled=True)
    with pytest.raises(Unauthenticated, match="bank-a is disabled"):
        house.who(key)
    house.people.change_tenant(sec, "bank-a", disabled=False)
    assert house.who(key).tenant == "bank-a"
    with pytest.raises(Conflict, match="holds an office"):
        house.people.change_tenant(sec, "default", disabled=True)


def test_a_removed_account_takes_its_keys_and_bindings_along(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    key = house.make(sec, "alice", "developer")
    house.people.remove_account(sec, "user", "alice")
    with pytest.raises(Unauthenticated):
        house.who(key)
    with pytest.raises(NotFound):
        house.people.account(sec, "user", "alice")
    again = house.make(sec, "alice")  # a namesake inherits nothing
    assert not house.may(again, "infer", "model/chat")
    with pytest.raises(Unauthenticated):
        house.who(key)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/b", "../x", "x" * 129, "a'; DROP TABLE access_key; --", "{{7*7}}", "a\nb", "张三", "-x", "a#key=x"],
)
def test_names_that_could_mean_something_else_are_refused(house: House, name: str) -> None:
    for make in (
        lambda: house.people.create_account(SYSTEM, AccountWish(id=name)),
        lambda: house.people.create_tenant(SYSTEM, name),
        lambda: house.people.create_group(SYSTEM, name),
        lambda: house.book.put_role(SYSTEM, Role(name=name)),
    ):
        with pytest.raises(InvalidRequest):
            make()


def test_strings_that_are_kept_as_they_are(house: House) -> None:
    title = "Robert'); DROP TABLE access_account; -- {{7*7}} 张三 %s"
    house.people.create_account(SYSTEM, AccountWish(id="bob", title=title))
    assert house.people.account(SYSTEM, "user", "bob")[0].title == title
    with pytest.raises(InvalidRequest, match=r"the title has the character U\+000A"):
        house.people.create_account(SYSTEM, AccountWish(id="eve", title="x\n2026-11-24 INFO all is well"))


# --- keys


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
    with pytest.raises(Conflict, match="opens nothing"):
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


# --- nobody raises their own rights, nobody silences the auditor


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
        with pytest.raises(Conflict, match="nobody with a valid key would be left"):
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
        with pytest.raises(Conflict, match="nobody silences one alone") as caught:
            way()
        assert "ashore access consent ann" in caught.value.hint
    for wrong in (sec, ann):
        with pytest.raises(PermissionDenied):
            house.people.consent(wrong, "ann")
    with pytest.raises(PermissionDenied):
        house.people.change_account(sam, "user", "ann", disabled=True)
    house.people.consent(sam, "ann")
    house.clock.advance(86_401)
    with pytest.raises(Conflict, match="alone"):
        ways[0]()
    house.people.consent(sam, "ann")
    now = house.book.show(sec)
    without = replace(now, bindings=tuple(one for one in now.bindings if one.subject != "user/ann"))
    assert house.book.apply(sec, without, base_version=now.version, dry_run=True).changes == ("- user/ann has auditor",)
    ways[0]()  # a dry run uses no consent up
    house.people.change_account(sec, "user", "ann", disabled=False)
    with pytest.raises(Conflict, match="alone"):
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
    with pytest.raises(InvalidRequest, match="would not tell them from"):
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
    with pytest.raises(Conflict, match="alone"):
        house.people.change_account(house.actor(system), "user", "ann", disabled=True)
    house.people.change_account(sec, "user", "ann", disabled=True)


def test_nobody_else_gets_a_key_of_an_administrator(house: House) -> None:
    _, security, auditor = house.three()
    sec = house.actor(security)
    with pytest.raises(PermissionDenied, match="administrator with the key"):
        house.keyring.create(sec, "ann", KeyWish())
    with pytest.raises(PermissionDenied, match="administrator with the key"):
        house.keyring.rotate(sec, house.who(auditor).key_id, overlap_s=0)
    assert house.keyring.rotate(house.actor(auditor), house.who(auditor).key_id, overlap_s=0).secret


# --- the policy


def test_two_administrators_edit_one_policy_and_the_second_is_told_what_changed(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    other = house.actor(house.make(sec, "sec2", "security-officer"))
    base = house.book.show(sec)
    house.book.put_role(other, Role(name="reader", rules=(parse_rule("infer on model/chat"),)))
    mine = replace(base, roles=(Role(name="mine", rules=(parse_rule("infer on model/x"),)),))
    with pytest.raises(Conflict) as caught:
        house.book.apply(sec, mine, base_version=base.version)
    assert "by sec2" in caught.value.message and "+ role reader: infer on model/chat" in caught.value.message
    assert [role.name for role in house.book.show(sec).roles] == ["reader"]
    assert ("sec", "failed") in house.acts("policy:apply")


def test_two_at_the_same_moment_make_one_version_after_the_other(house: House, opened: Callable[[], Database]) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def edit(number: int) -> None:
        book = PolicyBook(Acts(opened(), MemoryRecorder(), ManualClock()))
        policy = Policy(roles=(Role(name=f"r{number}", rules=(parse_rule("infer on *"),)),))
        barrier.wait()
        try:
            book.apply(SYSTEM, policy, base_version=0)
            outcomes.append("done")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict", "conflict", "conflict", "done"]
    assert house.book.show(SYSTEM).version == 1


def test_a_dry_run_shows_the_difference_and_changes_nothing(house: House) -> None:
    policy = Policy(
        roles=(Role(name="reader", rules=(parse_rule("infer on model/chat"),)),),
        bindings=(Binding("everyone", "reader"),),
    )
    shown = house.book.apply(SYSTEM, policy, base_version=0, dry_run=True)
    assert shown.changes == ("+ everyone has reader", "+ role reader", "+ role reader: infer on model/chat")
    assert not shown.in_force and house.book.show(SYSTEM).version == 0
    assert house.book.apply(SYSTEM, policy, base_version=0, comment="begin").in_force
    assert house.book.apply(SYSTEM, policy, base_version=1).changes == ()
    history = house.book.history(SYSTEM)
    assert [(one.version, one.author, one.comment) for one in history] == [(1, "system", "begin")]
    assert house.book.show(SYSTEM, 1).roles == policy.roles
    with pytest.raises(NotFound, match="version 9"):
        house.book.show(SYSTEM, 9)


def test_a_role_that_somebody_has_is_not_removed(house: House) -> None:
    house.book.put_role(SYSTEM, Role(name="reader", rules=(parse_rule("infer on model/chat"),)))
    house.book.grant(SYSTEM, add=[Binding("everyone", "reader")])
    with pytest.raises(Conflict, match="held by everyone"):
        house.book.remove_role(SYSTEM, "reader")
    house.book.grant(SYSTEM, remove=[Binding("everyone", "reader")])
    house.book.remove_role(SYSTEM, "reader")
    for built_in in ("auditor", "developer"):
        with pytest.raises(InvalidRequest, match="built in"):
            house.book.put_role(SYSTEM, Role(name=built_in, rules=(parse_rule("infer on *"),)))
        with pytest.raises(NotFound):
            house.book.remove_role(SYSTEM, built_in)


def test_can_says_which_rule_decides_and_where_it_comes_from(house: House) -> None:
    _, security, auditor = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "dev")
    house.book.grant(sec, add=[Binding("group/dev", "developer")])
    key = house.make(sec, "alice", groups=("dev",))
    decision, roles = house.book.can(house.actor(auditor), "alice", "infer", "model/chat")
    assert decision.allowed and (decision.rule, decision.role, decision.subject) == (
        "infer on *",
        "developer",
        "group/dev",
    )
    assert roles == (("developer", "group/dev"),)
    alice = house.actor(key)
    assert house.book.can(alice, "user/alice", "infer", "model/x")[0].allowed
    with pytest.raises(PermissionDenied):
        house.book.can(alice, "user/sec", "infer", "model/x")
    with pytest.raises(InvalidRequest, match="no action"):
        house.book.can(sec, "alice", "infr", "model/x")
    with pytest.raises(NotFound):
        house.book.can(sec, "nobody", "infer", "model/x")
    house.people.change_account(sec, "user", "alice", disabled=True)
    assert "disabled" in house.book.can(sec, "alice", "infer", "model/chat")[0].why


def test_acts_are_recorded_with_who_from_where_and_how_it_ended(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_tenant(sec, "bank-a")
    with pytest.raises(Conflict):
        house.people.create_tenant(sec, "bank-a")
    assert house.acts("tenant:create") == [("sec", "done"), ("sec", "failed")]
    act = next(act for act in house.recorder.acts if act.action == "tenant:create")
    assert (act.origin, act.request_id, act.resource) == ("10.0.0.9", "req", "tenant/bank-a")
    assert act.detail["key"] == house.who(security).key_id


# --- jobs


def test_a_job_runs_only_while_who_submitted_it_may(house: House) -> None:
    house.people.create_account(SYSTEM, AccountWish(id="app", kind="service", roles=("developer",)))
    new: NewKey = house.keyring.create(SYSTEM, "app", KeyWish(scope=KeyScope(models=("chat",))))
    name = house.who(new.secret).acting_name
    now_s = house.clock.now_s()
    assert house.directory().acting(name, "default", now_s) == house.who(new.secret)
    house.keyring.revoke(SYSTEM, new.record.key_id)
    with pytest.raises(PermissionDenied, match="revoked"):
        house.directory().acting(name, "default", now_s)
    person = Principal(
        id="corp:bob",
        tenant=TenantId("default"),
        issuer="corp",
        groups=frozenset(("a", "b")),
        token_groups=frozenset(("a", "b")),
        roles=frozenset(("viewer",)),
    )
    assert house.directory().acting(person.acting_name, "default", now_s) == person
    house.people.change_account(SYSTEM, "user", "corp:bob", disabled=True)
    with pytest.raises(PermissionDenied, match="disabled"):
        house.directory().acting(person.acting_name, "default", now_s)


# --- names that a budget may be about


def test_the_state_knows_whom_a_budget_can_be_about(house: House) -> None:
    _, security, _ = house.three()
    house.people.create_tenant(house.actor(security), "acme")
    key = house.make(house.actor(security), "alice", tenant="acme").partition("_")
    names = SqlNames(house.database, lambda: ["chat", "fake:echo"])
    key_id = f"ash_{key[2][:8]}"
    for noun, known, unknown in (
        ("tenant", ("default", "acme"), "acne"),
        ("user", ("sam", "alice", "first-key", "corp:bob"), "alcie"),
        ("key", (key_id, "first-key"), "ash_00000000"),
        ("model", ("chat", "chat:tone", "fake:echo"), "chta"),
    ):
        assert all(names.has(noun, name) for name in known), noun  # type: ignore[arg-type]
        assert not names.has(noun, unknown)  # type: ignore[arg-type]
        assert known[0] in names.some(noun) or noun == "key"  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="there is no user 'alcie'") as caught:
        check_names(BudgetRule(kind="tokens", window="total", cap=1, tenant="acme", user="alcie"), names)
    assert caught.value.hint == "did you mean 'alice'?" and caught.value.param == "user"
