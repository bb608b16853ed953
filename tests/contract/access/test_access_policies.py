"""The policy on every database: edited by two, explained, recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from access_house import House

from ashore.control.access import AccountWish, KeyWish, NewKey, PolicyBook
from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from ashore.core.ids import TenantId
from ashore.data.authority import SYSTEM, Acts, Binding, KeyScope, Policy, Principal, Role, parse_rule
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database


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


def test_a_policy_with_a_rule_on_a_resource_of_no_kind_is_still_read(house: House) -> None:
    old = parse_rule("infer on modle/chat")
    house.book.put_role(SYSTEM, Role(name="old", rules=(old,)))
    house.book.put_role(SYSTEM, Role(name="new", rules=(parse_rule("infer on model/chat"),)))
    assert {role.name: role.rules for role in house.book.show(SYSTEM).roles}["old"] == (old,)


def test_a_role_that_somebody_has_is_not_removed(house: House) -> None:
    house.book.put_role(SYSTEM, Role(name="reader", rules=(parse_rule("infer on model/chat"),)))
    house.book.grant(SYSTEM, add=[Binding("everyone", "reader")])
    with pytest.raises(Conflict, match="still granted to everyone"):
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
