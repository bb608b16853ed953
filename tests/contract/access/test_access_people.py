"""Users, tenants and groups on every database, and which names they may have."""

from __future__ import annotations

from typing import Any

import pytest
from access_house import House

from ashore.control.access import AccountWish, KeyWish
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, Unauthenticated
from ashore.data.authority import SYSTEM, Account, Binding, Role, SqlNames, parse_rule
from ashore.data.authority import sql as access_sql
from ashore.data.authority.budgets import BudgetRule, check_names
from ashore.data.jobs import Conversation, SqlConversations
from ashore.kit.state import execute


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


def test_what_a_removed_user_stored_is_not_found_by_a_later_one_of_that_name(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "legal")
    for name in ("dev", "amy"):
        house.make(sec, name, "developer", groups=("legal",))
    kept = SqlConversations(house.database)
    fields = {"tenant": "default", "models": "*", "metadata": "{}", "created_ms": 0, "expires_ms": 1 << 50}
    with house.database.write() as connection:
        for name in ("dev", "amy"):
            statement = "INSERT INTO assistant VALUES ('default', :name, 'clerk', '', 'p', 'legal', 0)"
            execute(connection, statement, name=name)
    for name in ("dev", "amy"):
        kept.create(Conversation(conversation_id=f"conv_{name}", account=name, **fields), [])  # type: ignore[arg-type]
    house.people.remove_account(sec, "user", "dev")
    house.make(sec, "dev", "developer")
    assert kept.of("dev", limit=9) == [] and len(kept.of("amy", limit=9)) == 1
    found = kept.get("conv_dev")
    assert found is not None and found.account.startswith("dev (removed ")
    house.people.remove_group(sec, "legal")
    with house.database.read() as connection:
        rows = execute(connection, "SELECT owner, shared FROM assistant").all()
    assert [tuple(row) for row in rows] == [("amy", "")]


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
    assert {one.id for one, _ in house.people.accounts(desk, "user", tenant="bank-a")} == {"alice", "dee"}
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
    with pytest.raises(InvalidRequest, match=r"the title has the invisible character U\+000A"):
        house.people.create_account(SYSTEM, AccountWish(id="eve", title="x\n2026-11-24 INFO all is well"))


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


def test_what_a_directory_says_is_shown_and_is_not_undone_here(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "ml")
    house.make(sec, "corp:al")
    with house.database.write() as connection:
        given = Account(id="corp:al", tenant="default", given_groups=frozenset({"ml"}), shut_s=1)
        access_sql.save_accounts(connection, [given])
    assert house.people.groups(sec)[0][1] == ("corp:al",)
    with pytest.raises(Conflict, match="says that it is in ml"):
        house.people.change_members(sec, "ml", remove=["corp:al"])
    with pytest.raises(Conflict, match="has it no more"):
        house.people.change_account(sec, "user", "corp:al", disabled=False)
    assert house.people.change_account(sec, "user", "corp:al", title="Al").given_groups == {"ml"}
    house.people.remove_group(sec, "ml")
    assert not house.people.account(sec, "user", "corp:al")[0].given_groups


def test_keys_are_listed_newest_first_by_state_and_by_a_text_and_in_pages(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.make(sec, "alice")
    titles = ("Old laptop", "50% off", "robot")
    for title in titles:
        house.clock.advance(60)
        house.keyring.create(sec, "alice", KeyWish(title=title, expires_in_s=9 if title == "robot" else None))

    def titled(**wanted: Any) -> list[str]:
        return [one.title for one in house.keyring.keys(sec, owner="alice", **wanted)]

    assert titled() == ["robot", "50% off", "Old laptop", ""]
    assert titled(search="LAPTOP") == titled(search="old l") == ["Old laptop"]
    assert titled(search="%") == ["50% off"] and titled(search="_ld") == [], "they are no wild cards"
    house.clock.advance(60)
    assert titled(state="ended") == ["robot"] and titled(state="valid") == ["50% off", "Old laptop", ""]
    assert titled(state="unused") == []
    house.clock.advance(30 * 86_400)
    assert titled(state="unused") == ["50% off", "Old laptop", ""]
    paged, after = [], ""
    while page := house.keyring.keys(sec, after=after, limit=2):
        paged += page
        after = page[-1].key_id
    assert paged == [*house.keyring.keys(sec)] and len(paged) > 6
    with pytest.raises(InvalidRequest, match="no page ends with the key 'ash_gone'"):
        house.keyring.keys(sec, after="ash_gone")


def test_accounts_are_listed_with_their_roles_by_a_text_and_by_whether_they_are_disabled(house: House) -> None:
    _, security, _ = house.three()
    sec = house.actor(security)
    house.people.create_group(sec, "night")
    house.book.grant(sec, add=[Binding("group/night", "viewer")])
    house.make(sec, "li.wei", "developer", title="Wei from Night Shift", groups=("night",))
    house.make(sec, "zoe")

    def listed(**wanted: Any) -> dict[str, tuple[str, ...]]:
        return {one.id: roles for one, roles in house.people.accounts(sec, "user", **wanted)}

    assert listed(search="night shift") == listed(search="LI.W") == {"li.wei": ("developer", "viewer")}
    assert listed(disabled=True) == {}
    house.people.change_account(sec, "user", "zoe", disabled=True)
    assert listed(disabled=True) == {"zoe": ()} == listed(search="zo", disabled=True, after="li.wei", limit=1)
