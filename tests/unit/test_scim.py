"""SCIM: what Entra ID and Okta send, what it changes, and what is out of its reach."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from access_house import House

from ashore.control.access import AccountWish, KeyWish
from ashore.control.faces.scim import _answered, _object
from ashore.control.scim import ENTERPRISE, ScimOffice, sql
from ashore.control.scim import office as office_module
from ashore.control.scim.bodies import MOST_CHARS, MOST_MEMBERS, patched
from ashore.control.scim.section import ScimSection
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, Conflict, InvalidRequest, NotFound, PermissionDenied
from ashore.data.authority import SYSTEM, Account, Actor, Acts, Binding, keep_first_key, new_key
from ashore.data.authority import sql as access_sql
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_database

BASE = "https://ai.corp.example/scim/v2"
ALICE = {"userName": "Alice@corp.example", "externalId": "a-1", "displayName": "Alice", "active": True}


@dataclass
class Rig:
    house: House
    office: ScimOffice
    actor: Actor

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        place, _, query = path.partition("?")
        parameters = dict(one.partition("=")[::2] for one in query.split("&")) if query else {}
        return _answered(self.office, self.actor, method, place.split("/"), body or {}, parameters, BASE)

    def make(self, **more: Any) -> str:
        return str(self.ask("POST", "Users", {**ALICE, **more})[1]["id"])

    def patch(self, path: str, *operations: dict[str, Any]) -> dict[str, Any]:
        return self.ask("PATCH", path, {"Operations": [*operations]})[1]

    def account(self, name: str = "corp:alice@corp.example") -> Account:
        with self.house.database.read() as connection:
            found = access_sql.find_account(connection, name)
        assert found is not None
        return found

    def acts(self) -> list[str]:
        return [one.action for one in self.house.recorder.acts if one.action.startswith("scim:")]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    key = new_key()
    with database.write() as connection:
        keep_first_key(connection, key, created_s=1)
    house = House(database, ManualClock(), MemoryRecorder(), key)
    house.three()
    house.people.create_account(SYSTEM, AccountWish(id="entra", kind="service", roles=("provisioner",)))
    secret = house.keyring.create(SYSTEM, "entra", KeyWish()).secret
    section = ScimSection(enabled=True, issuer="corp", map={"ml": "ML Engineers"})
    office = ScimOffice(Acts(database, house.recorder, house.clock), lambda: section)
    yield Rig(house, office, house.actor(secret))
    database.close()


def test_a_person_is_looked_up_made_disabled_and_found_again(rig: Rig) -> None:
    status, found = rig.ask("GET", 'Users?filter=userName eq "alice@corp.example"')
    assert (status, found["totalResults"]) == (200, 0), "nobody is no error"
    status, made = rig.ask("POST", "Users", {**ALICE, "password": "secret", ENTERPRISE: {"department": "ml"}})
    assert status == 201 and made["meta"]["location"] == f"{BASE}/Users/{made['id']}" and "password" not in made
    assert rig.account().title == "Alice" and not rig.account().is_out
    with pytest.raises(Conflict) as caught:
        rig.ask("POST", "Users", {**ALICE, "userName": "ALICE@corp.example"})
    assert caught.value.param == "uniqueness"
    assert rig.ask("GET", 'Users?filter=externalId eq "a-1"')[1]["totalResults"] == 1
    rig.patch(f"Users/{made['id']}", {"op": "Replace", "path": "active", "value": "False"})
    assert rig.account().shut_s and rig.acts() == ["scim:create", "scim:disable"]
    rig.patch(f"Users/{made['id']}", {"op": "replace", "value": {"active": True}})
    assert not rig.account().shut_s and rig.acts()[-1] == "scim:enable"


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        ({"op": "Replace", "path": "active", "value": "False"}, {"active": False}),
        ({"op": "replace", "value": {"active": False}}, {"active": False}),
        ({"op": "remove", "path": "active"}, {"active": False}),
        ({"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "b"}, {ENTERPRISE: {"manager": "b"}}),
        ({"op": "Add", "path": ENTERPRISE, "value": {"department": "x"}}, {ENTERPRISE: {"department": "x"}}),
        (
            {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "n@corp.example"},
            {"emails": [{"type": "work", "value": "n@corp.example"}]},
        ),
        ({"op": "Add", "value": {"name.givenName": "B"}}, {"name": {"givenName": "B"}}),
        ({"op": "add", "path": "name", "value": {"familyName": "C"}}, {"name": {"familyName": "C"}}),
        ({"op": "replace", "path": "displayName", "value": "New"}, {"displayName": "New"}),
        ({"op": "add", "path": "unheard", "value": 1}, {"displayName": "Alice"}),
    ],
)
def test_what_entra_and_okta_send_about_people(rig: Rig, operation: dict[str, Any], shown: dict[str, Any]) -> None:
    found = rig.patch(f"Users/{rig.make()}", operation)
    assert {name: found[name] for name in shown} == shown


def test_what_they_send_about_groups(rig: Rig) -> None:
    alice, bob = rig.make(), rig.make(userName="bob", externalId="b-1")
    group = rig.ask("POST", "Groups", {"displayName": "ml engineers"})[1]["id"]
    one, two = {"value": alice}, {"value": bob}

    def held() -> list[str]:
        found = rig.ask("GET", f"Groups/{group}")[1].get("members", [])
        return ["ab"[[alice, bob].index(row["value"])] for row in found]

    rig.patch(f"Groups/{group}", {"op": "Add", "path": "members", "value": [{"$ref": None, **one}, two]})
    assert held() == ["a", "b"] and rig.account().given_groups == {"ml"} == rig.account("corp:bob").given_groups
    assert rig.ask("GET", f"Users/{alice}")[1]["groups"][0]["display"] == "ml engineers"
    rig.patch(f"Groups/{group}", {"op": "Remove", "path": "members", "value": [one]})
    assert held() == ["b"] and not rig.account().given_groups, "by values beside the path, one alone"
    rig.patch(f"Groups/{group}", {"op": "add", "path": "members", "value": one})
    rig.patch(f"Groups/{group}", {"op": "remove", "path": f'members[value eq "{bob}"]'})
    assert held() == ["a"] and not rig.account("corp:bob").given_groups
    rig.patch(f"Groups/{group}", {"op": "replace", "value": {"id": group, "displayName": "Others"}})
    assert not rig.account().given_groups, "a group of another name is not mapped"
    rig.patch(f"Groups/{group}", {"op": "replace", "path": "displayName", "value": "ML Engineers"})
    assert rig.account().given_groups == {"ml"}
    found = rig.ask("GET", 'Groups?excludedAttributes=members&filter=displayName eq "ml engineers"')[1]
    assert found["totalResults"] == 1 and "members" not in found["Resources"][0]
    assert rig.ask("GET", f'Groups?filter=members eq "{alice}"')[1]["totalResults"] == 1
    assert rig.ask("DELETE", f"Groups/{group}")[0] == 204 and not rig.account().given_groups


def test_deleting_disables_and_nobody_inherits_the_account(rig: Rig) -> None:
    first = rig.make()
    assert rig.ask("DELETE", f"Users/{first}")[0] == 204
    with pytest.raises(NotFound):
        rig.ask("GET", f"Users/{first}")
    assert rig.account().shut_s
    rig.make()
    assert rig.account().shut_s and not rig.account("corp:alice@corp.example+2").shut_s


def test_an_officer_who_disabled_somebody_is_not_overruled(rig: Rig) -> None:
    alice = rig.make()
    rig.house.people.change_account(SYSTEM, "user", "corp:alice@corp.example", disabled=True)
    rig.patch(f"Users/{alice}", {"op": "replace", "value": {"active": False}})
    rig.patch(f"Users/{alice}", {"op": "replace", "value": {"active": True}})
    assert rig.account().disabled and rig.account().is_out


def test_what_is_out_of_reach(rig: Rig) -> None:
    alice = rig.make()
    rig.house.book.grant(SYSTEM, add=[Binding("user/corp:alice@corp.example", "security-officer")])
    for method, body in (("DELETE", None), ("PATCH", {"Operations": [{"op": "remove", "path": "active"}]})):
        with pytest.raises(PermissionDenied, match="holds an office"):
            rig.ask(method, f"Users/{alice}", body)
    assert not rig.account().is_out and rig.ask("GET", f"Users/{alice}")[1]["active"], "nothing of it happened"
    rig.house.people.create_account(SYSTEM, AccountWish(id="corp:olga"))
    rig.house.book.grant(SYSTEM, add=[Binding("user/corp:olga", "system-administrator")])
    with pytest.raises(PermissionDenied, match="holds an office"):
        rig.make(userName="olga")
    rig.house.book.grant(SYSTEM, add=[Binding("group/ml", "developer")])
    for actor in (replace(rig.actor, principal=replace(rig.actor.principal, id="dev")),):
        with pytest.raises(PermissionDenied):
            replace(rig, actor=actor).ask("GET", "Users")


def test_a_provisioner_has_one_right(rig: Rig) -> None:
    for action, resource in (
        ("access:write", "tenant/default/user/x"),
        ("infer", "model/chat"),
        ("role:grant", "role/x"),
    ):
        with pytest.raises(PermissionDenied), rig.office._acts.read(rig.actor, action, resource):
            pass


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"Operations": [{"op": "boil", "path": "active"}]}, "invalidSyntax"),
        ({"Operations": [{"op": "add", "path": "active", "value": "maybe"}]}, "invalidValue"),
        ({"Operations": [{"op": "add", "path": "a[b", "value": 1}]}, "invalidPath"),
        ({"Operations": [{"op": "add", "path": "id", "value": "x"}]}, "mutability"),
        ({"Operations": [{"op": "remove"}]}, "noTarget"),
        ({"Operations": [{"op": "remove", "path": "userName"}]}, "invalidValue"),
        ({"Operations": [{"op": "add", "value": 1}] * 201}, "invalidSyntax"),
        ({"Operations": "all"}, "invalidSyntax"),
        ({}, "invalidSyntax"),
    ],
)
def test_what_is_not_understood_changes_nothing(rig: Rig, body: dict[str, Any], kind: str) -> None:
    alice = rig.make()
    before = rig.ask("GET", f"Users/{alice}")[1]
    with pytest.raises(InvalidRequest) as caught:
        rig.ask("PATCH", f"Users/{alice}", body)
    assert caught.value.param == kind and rig.ask("GET", f"Users/{alice}")[1] == before


@pytest.mark.parametrize(
    "text",
    [
        'userName eq "\\q"',
        'userName eq "\\ud800"',
        'externalId eq "\\u0000"',
        'userName sw "a"',
        'userName eq "' + "a" * 400 + '"',
        "((((",
        'password eq "x"',
    ],
)
def test_a_filter_that_is_not_understood_is_an_error(rig: Rig, text: str) -> None:
    with pytest.raises(AshoreError):
        rig.ask("GET", f"Users?filter={text}")


def test_the_documents_and_pages(rig: Rig) -> None:
    assert rig.ask("GET", "ServiceProviderConfig")[1]["patch"] == {"supported": True}
    assert {one["name"] for one in rig.ask("GET", "Schemas")[1]["Resources"]} == {"User", "Group", "EnterpriseUser"}
    assert rig.ask("GET", "ResourceTypes/User")[1]["endpoint"] == "/Users"
    for number in range(5):
        rig.make(userName=f"u{number}")
    page = rig.ask("GET", "Users?startIndex=2&count=2")[1]
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert [one["userName"] for one in rig.ask("GET", "Users?count=0")[1]["Resources"]] == []
    with pytest.raises(NotFound):
        rig.ask("GET", "Bulk")


def test_a_large_group_holds_the_state_in_proportion_and_one_that_is_not_mapped_not_at_all(rig: Rig) -> None:
    """Nothing else is written meanwhile, a revoked key neither."""

    def took_s(name: str, number: int) -> float:
        people = pushed(rig, f"{name}-{number}", number)
        began_s = time.thread_time()
        rig.ask("POST", "Groups", {"displayName": name, "members": [{"value": one} for one in people]})
        return time.thread_time() - began_s

    few, many = took_s("ML Engineers", 400), took_s("ML Engineers", 3_200)
    assert many < 30 * few, "eight times as many; the square would be 64 times as long"
    assert took_s("Others", 3_200) < many / 4


def pushed(rig: Rig, name: str, number: int) -> list[str]:
    """Return the ids of so many users, each with an account."""
    people = [f"{name}-{at}" for at in range(number)]
    with rig.house.database.write() as connection:
        for one in people:
            body = {"userName": one, "active": True}
            user = sql.Resource(id=one, kind="User", tenant="default", account=f"corp:{one}", body=body)
            sql.save(connection, user)
            access_sql.save_account(connection, Account(id=user.account, tenant="default", created_s=1))
    return people


def test_a_large_group_goes_in_and_out_in_parts_and_ends_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction changes more accounts than `MOST_AT_ONCE`, and one that dies leaves what the next request ends."""
    monkeypatch.setattr(office_module, "MOST_AT_ONCE", 10)
    people = pushed(rig, "p", 35)
    written = []  # accounts that are in the group after each transaction

    class Dies(Exception): ...

    quiet_write = rig.office._acts.quiet_write

    def counted(actor: Actor) -> Any:
        written.append(len(inside()))
        if len(written) == dies_at:
            raise Dies
        return quiet_write(actor)

    def inside() -> set[str]:
        with rig.house.database.read() as connection:
            found = (access_sql.find_account(connection, f"corp:{one}") for one in people)
            return {one.id for one in found if one is not None and one.given_groups}

    monkeypatch.setattr(rig.office._acts, "quiet_write", counted)
    dies_at = 0
    rows = [{"value": one} for one in people]
    made = rig.ask("POST", "Groups", {"displayName": "ML Engineers", "members": rows})[1]
    assert written == [0, 10, 20, 30] and len(inside()) == len(made["members"]) == 35

    written.clear()
    swap = [{"op": "replace", "path": "members", "value": rows[30:]}]
    dies_at = 3
    with pytest.raises(Dies):
        rig.patch(f"Groups/{made['id']}", *swap)
    assert len(inside()) == 15, "two parts are out"
    dies_at = 0
    assert len(rig.patch(f"Groups/{made['id']}", *swap)["members"]) == 5
    assert inside() == {f"corp:{one}" for one in people[30:]}

    rig.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": rows})
    written.clear()
    assert rig.ask("DELETE", f"Groups/{made['id']}")[0] == 204
    assert not inside() and max(then - now for then, now in pairwise([*written, 0])) == 10
    with pytest.raises(NotFound):
        rig.ask("GET", f"Groups/{made['id']}")


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"": value}
    return value


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "title", "value": "x" * MOST_CHARS["User"]},
        {"op": "add", "path": "title", "value": nested(400)},
        {"op": "add", "path": "title", "value": [[[[[[[[[["x"]]]]]]]]]]},
        {"op": "add", "value": nested(400)},
        {"op": "add", "path": "externalId", "value": "x" * 301},
        {"op": "add", "path": "externalId", "value": "a\0b"},
        {"op": "replace", "path": 'emails[type eq "work"].value', "value": "x" * 1_000},
        {"op": "add", "value": {f"a{number}": 1 for number in range(201)}},
    ],
    ids=["long", "deep", "deep list", "deep names", "long externalId", "NUL", "one text in many rows", "many names"],
)
def test_a_person_has_bounds_in_sum(rig: Rig, operation: dict[str, Any]) -> None:
    alice = rig.make(emails=[{"type": "work"} for _ in range(100)])
    before = rig.ask("GET", f"Users/{alice}")[1]
    with pytest.raises(InvalidRequest):
        rig.patch(f"Users/{alice}", operation)
    assert rig.ask("GET", f"Users/{alice}")[1] == before


def test_a_person_does_not_grow_by_many_requests(rig: Rig) -> None:
    alice = rig.make()
    with pytest.raises(InvalidRequest, match="characters in all"):
        for number in range(100):
            rig.patch(f"Users/{alice}", {"op": "add", "path": ENTERPRISE, "value": {f"a{number}": "x" * 1_000}})


def test_a_text_that_an_operation_writes_to_every_member_is_not_multiplied() -> None:
    many = {
        "displayName": "all",
        "members": [{"value": f"m{number}", "type": "User"} for number in range(MOST_MEMBERS)],
    }
    for path in ('members[type eq "User"].display', 'members[type eq "User"]', "members.display"):
        with pytest.raises(InvalidRequest):
            patched("Group", many, [{"op": "replace", "path": path, "value": "x" * 1_000_000}])
    kept = patched(
        "Group", many, [{"op": "add", "path": "members", "value": [{"value": "m0", "display": "x" * 9_000}]}]
    )
    assert len(kept["members"][-1]["display"]) == 300 and len(kept["members"]) == MOST_MEMBERS


def test_many_operations_on_many_members_cost_what_one_does_and_a_little_more() -> None:
    many = {"displayName": "all", "members": [{"value": f"m{number}"} for number in range(20_000)]}

    def took_s(number: int) -> float:
        began_s = time.thread_time()
        pairs = ({"op": "add", "path": "members", "value": [{"value": f"n{at}"}]} for at in range(number))
        gone = ({"op": "remove", "path": f'members[value eq "m{at}"]'} for at in range(number))
        left = patched("Group", many, [*pairs, *gone])
        assert len(left["members"]) == 20_000
        return time.thread_time() - began_s

    assert took_s(100) < 10 * took_s(1), "a pass over all members for each would be 100 times as long"


def test_a_page_has_a_bound_in_sum_and_the_next_one_goes_on(rig: Rig) -> None:
    rows = [{"value": f"{number:060}"} for number in range(25_000)]
    made = [rig.ask("POST", "Groups", {"displayName": f"g{number}", "members": rows})[1]["id"] for number in range(5)]
    seen: list[str] = []
    while len(seen) < len(made):
        page = rig.ask("GET", f"Groups?startIndex={len(seen) + 1}&count=1000")[1]
        assert page["totalResults"] == 5 and 1 <= page["itemsPerPage"] <= 2, "2.5 million characters each"
        seen += [one["id"] for one in page["Resources"]]
    assert sorted(seen) == sorted(made)
    assert rig.ask("GET", f'Groups?filter=members eq "{7:060}"&count=1')[1]["totalResults"] == 5
    assert rig.ask("GET", 'Groups?filter=members eq "7"')[1]["totalResults"] == 0, "the whole id, no part of one"


def test_a_tenant_pushes_so_many_and_a_deleted_group_makes_room(rig: Rig) -> None:
    rig.office = ScimOffice(rig.office._acts, rig.office._section, most={"User": 2, "Group": 1})
    rig.make(userName="a")
    gone = rig.make(userName="b")
    rig.ask("DELETE", f"Users/{gone}")
    with pytest.raises(InvalidRequest, match="it may push 2"):
        rig.make(userName="c")
    group = rig.ask("POST", "Groups", {"displayName": "one"})[1]["id"]
    with pytest.raises(InvalidRequest, match="it may push 1"):
        rig.ask("POST", "Groups", {"displayName": "two"})
    rig.ask("DELETE", f"Groups/{group}")
    assert rig.ask("POST", "Groups", {"displayName": "two"})[0] == 201


@pytest.mark.parametrize("raw", [b"[" * 9_000, b'{"userName": "\\ud800"}', b"[]", b"\xff", b"{"])
def test_a_body_that_is_no_object_of_json_is_an_error_of_scim(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _object(raw)
    assert caught.value.param == "invalidSyntax" and _object(b"") == {}
