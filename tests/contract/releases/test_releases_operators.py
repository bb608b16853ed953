"""Operators of releases, on every database: two at once, what each may do, what they name by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from release_house import House

from ashore.control.access import AccountWish, KeyWish, People, PolicyBook
from ashore.core.errors import AshoreError, Conflict, InvalidRequest, NotFound, PermissionDenied
from ashore.core.ids import TenantId
from ashore.data.authority import SYSTEM, Actor, KeyScope, Principal, Role, parse_rule
from ashore.data.releases import ReleaseWish, Way


def test_of_two_who_promote_different_releases_one_wins_and_nothing_is_half(house: House) -> None:
    house.up("chat=fake:echo")
    second, third = house.make(), house.make()
    for _ in range(4):
        results: dict[str, str] = {}
        ready = threading.Barrier(2)

        def promote(name: str, results: dict[str, str], ready: threading.Barrier) -> None:
            ready.wait()
            try:
                house.office.roll_out(SYSTEM, name, Way(goal="live"), override="a trial")
                results[name] = "won"
            except Conflict as told:
                results[name] = told.message

        threads = [threading.Thread(target=promote, args=(name, results, ready)) for name in (second, third)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = [name for name, result in results.items() if result == "won"]
        (lost,) = results.keys() - {won}
        assert results[lost].startswith(f"chat already has a candidate, {won}, which is warming")
        assert house.state(won) == "warming" and house.state(lost) in ("created", "retired")
        assert house.weights() == {"chat-1": 1000}
        house.office.roll_back(SYSTEM, "chat")


def test_of_two_operators_one_wins_and_the_other_is_told(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", standby_s=600)
    third = house.make()
    seen = house.office.alias(SYSTEM, "chat").version
    results: list[str] = []

    def operate(move: Callable[[], object]) -> None:
        try:
            move()
            results.append("won")
        except Conflict as told:
            results.append(told.message)

    threads = [
        threading.Thread(target=operate, args=(move,))
        for move in (
            lambda: house.office.roll_out(SYSTEM, "chat-1", Way(goal="live"), seen=seen),
            lambda: house.office.roll_back(SYSTEM, "chat", seen=seen),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result == "won" for result in results) == [False, True]
    assert f"you read version {seen}" in next(result for result in results if result != "won")
    house.office.roll_out(SYSTEM, third, Way(goal="shadow", share=10))
    fourth = house.make()
    with pytest.raises(Conflict, match="chat already has a candidate, chat-3, which is warming"):
        house.office.roll_out(SYSTEM, fourth, Way(goal="live"))


def test_releases_do_not_change_and_bad_words_are_told(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.make(name="chat-blue") == "chat-blue"
    with pytest.raises(Conflict, match="never change"):
        house.make(name="chat-blue")
    with pytest.raises(InvalidRequest):
        house.make(name="two words")
    with pytest.raises(NotFound) as unknown:
        house.office.create(SYSTEM, ReleaseWish(model="fake:echo", alias="chta"))
    assert "chat" in unknown.value.hint
    for call in (house.office.standing, house.office.retire):
        with pytest.raises(NotFound):
            call(SYSTEM, "chat-99")
    with pytest.raises(InvalidRequest):
        house.office.roll_out(SYSTEM, "chat-blue", Way(goal="canary", share=0))
    with pytest.raises(InvalidRequest, match="schedule"):
        house.office.roll_out(SYSTEM, "chat-blue", Way(goal="canary", share=10, steps=(20,)))
    with pytest.raises(InvalidRequest):
        house.office.retire(SYSTEM, "chat-blue", why="x" * 301)
    with pytest.raises(Conflict, match="answers for chat"):
        house.office.retire(SYSTEM, "chat-1")


def test_aliases_by_hand(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    alias = house.office.set_alias(SYSTEM, "chat-prod", {"chat-1": 250, "chat-2": 750}, sticky="key")
    assert alias.sticky == "key" and house.state("chat-1") == "live"
    house.office.roll_back(SYSTEM, "chat", to="chat-1")
    assert house.state("chat-2") == "live", "chat-prod still leads there"
    house.office.set_alias(SYSTEM, "chat-prod", {"chat-1": 1000}, seen=1)
    assert house.state("chat-2") == "standby"
    with pytest.raises(Conflict, match="you read version 1"):
        house.office.set_alias(SYSTEM, "chat-prod", {"chat-2": 1000}, seen=1)
    with pytest.raises(Conflict, match="engine hosts"):
        house.office.remove_alias(SYSTEM, "chat")
    house.office.remove_alias(SYSTEM, "chat-prod")
    with pytest.raises(NotFound):
        house.office.alias(SYSTEM, "chat-prod")


def test_the_authority_decides_on_the_state(house: House) -> None:
    house.up("chat=fake:echo")
    people = People(house.acts)
    for user, role in (("owner", "model-owner"), ("dev", "developer")):
        people.create_account(SYSTEM, AccountWish(id=user, roles=(role,), key=KeyWish()))
    owner, dev = (Actor(principal=Principal(id=u, tenant=TenantId("default"))) for u in ("owner", "dev"))
    house.office.create(owner, ReleaseWish(model="fake:random", alias="chat"))
    for refused in (
        lambda: house.office.create(dev, ReleaseWish(model="fake:random", alias="chat")),
        lambda: house.office.roll_out(dev, "chat-2", Way(goal="live")),
        lambda: house.office.roll_back(dev, "chat"),
        lambda: house.office.standings(dev),
        lambda: house.office.set_alias(dev, "x", {"chat-1": 1000}),
    ):
        with pytest.raises(PermissionDenied):
            refused()
    assert house.state("chat-2") == "created"


def test_a_name_of_ones_own_opens_neither_another_alias_nor_another_release(house: House) -> None:
    house.up("chat=fake:echo", "mine=fake:echo")
    people, book = People(house.acts), PolicyBook(house.acts)
    for user, rules in (
        ("mallory", ("release:write on release/mine*", "release:write on alias/mine*")),
        ("aliases", ("release:write on alias/*",)),
        ("releases", ("release:write on release/*",)),
        ("both", ("release:write on alias/chat", "release:write on release/*")),
    ):
        book.put_role(SYSTEM, Role(name=f"role-{user}", rules=tuple(map(parse_rule, rules))))
        people.create_account(SYSTEM, AccountWish(id=user, roles=(f"role-{user}",), key=KeyWish()))
    mallory, aliases, releases, both = (
        Actor(principal=Principal(id=u, tenant=TenantId("default"))) for u in ("mallory", "aliases", "releases", "both")
    )
    office, theirs = house.office, ReleaseWish(model="fake:random", alias="chat")
    assert office.create(both, theirs, name="mine-9").release.alias == "chat"
    office.create(both, theirs)
    moves: list[tuple[str, Callable[[Actor], object]]] = [
        ("alias/chat", lambda who: office.create(who, theirs, name="mine-8")),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="shadow", share=10))),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="canary", share=10))),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="live"))),
        ("alias/chat", lambda who: office.retire(who, "mine-9")),
        ("alias/chat", lambda who: office.roll_back(who, "chat")),
        ("release/chat-1", lambda who: office.set_alias(who, "mine-too", {"chat-1": 1000})),
        ("release/chat-2", lambda who: office.retire(who, "chat-2")),
    ]
    for missing, move in moves:
        with pytest.raises(PermissionDenied) as refused:
            move(mallory)
        assert refused.value.resource == missing and missing in refused.value.message
    for who, lacks in ((aliases, "release/"), (releases, "alias/")):
        for _, move in moves[:5]:
            with pytest.raises(PermissionDenied) as refused:
                move(who)
            assert refused.value.resource.startswith(lacks)
    with pytest.raises(PermissionDenied, match="release/chat-1"):
        office.set_alias(aliases, "x", {"chat-1": 1000})
    assert house.weights() == {"chat-1": 1000} and house.state("mine-9") == "created"
    assert office.roll_out(both, "mine-9", Way(goal="shadow", share=10)).course.state == "warming"


def test_a_release_that_somebody_may_not_read_is_in_no_list(house: House) -> None:
    house.up("chat=fake:echo", "secret=fake:echo")
    rules = tuple(map(parse_rule, ("release:read on *", "deny release:read on release/secret*")))
    PolicyBook(house.acts).put_role(SYSTEM, Role(name="most", rules=rules))
    People(house.acts).create_account(SYSTEM, AccountWish(id="reader", roles=("most",), key=KeyWish()))
    reader = Actor(principal=Principal(id="reader", tenant=TenantId("default")))
    assert [one.release.name for one in house.office.standings(reader)] == ["chat-1"]
    assert {event.release for event in house.office.history(reader)} == {"chat-1"}
    assert house.office.standing(reader, "chat-1").course.state == "live"
    with pytest.raises(PermissionDenied):
        house.office.standing(reader, "secret-1")


def test_a_key_for_some_models_moves_no_other_alias(house: House) -> None:
    house.up("chat=fake:echo", "mine=fake:echo")
    people = People(house.acts)
    people.create_account(SYSTEM, AccountWish(id="owner", roles=("model-owner",), key=KeyWish()))
    narrow = Actor(principal=Principal(id="owner", tenant=TenantId("default"), scope=KeyScope(models=("mine*",))))
    with pytest.raises(PermissionDenied, match="allows only the models"):
        house.office.create(narrow, ReleaseWish(model="fake:random", alias="chat"))
    with pytest.raises(PermissionDenied, match="allows only the models"):
        house.office.set_alias(narrow, "other", {"mine-1": 1000})
    assert house.office.create(narrow, ReleaseWish(model="fake:random", alias="mine")).release.name == "mine-2"


def test_nothing_of_a_move_is_kept_when_it_breaks_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine dies at each write of a promotion in turn: afterwards all of it is there, or nothing."""
    from ashore.data.releases import sql

    house.up("chat=fake:echo")
    house.send(house.make(), "shadow", share=10)
    real, count = sql.execute, 0
    for dies_at in range(1, 40):
        count = 0

        def counted(*args: object, **values: object) -> object:
            nonlocal count
            count += 1
            if count == dies_at:  # noqa: B023 - called inside this turn of the loop
                raise Dies
            return real(*args, **values)  # type: ignore[arg-type]

        monkeypatch.setattr(sql, "execute", counted)
        try:
            house.office.roll_out(SYSTEM, "chat-2", Way(goal="live"), override="a trial")
        except Dies:
            monkeypatch.setattr(sql, "execute", real)
            assert house.weights() == {"chat-1": 1000}
            assert (house.state("chat-1"), house.state("chat-2")) == ("live", "shadow")
            continue
        break
    monkeypatch.setattr(sql, "execute", real)
    assert dies_at > 5 and house.weights() == {"chat-2": 1000} and house.state("chat-1") == "standby"


class Dies(AshoreError):
    """The machine is gone."""

    code = "dies"


def narrowed(house: House, user: str, *rules: str) -> Actor:
    """Return a new user with these rules alone."""
    PolicyBook(house.acts).put_role(SYSTEM, Role(name=f"role-{user}", rules=tuple(map(parse_rule, rules))))
    People(house.acts).create_account(SYSTEM, AccountWish(id=user, roles=(f"role-{user}",), key=KeyWish()))
    return Actor(principal=Principal(id=user, tenant=TenantId("default")))


MINE = ("release:write on release/mine*", "release:write on alias/mine", "infer on model/mine")


@pytest.mark.parametrize("model", ["big", "big@int8", "tuned", "copied"])
def test_a_release_opens_no_model_that_its_maker_may_not_ask(house: House, model: str) -> None:
    """Whatever its maker calls it: a variant of the model, one made from it, the same bytes under another name."""
    house.workshop.needed = {**house.workshop.needed, "big@int8": 0, "tuned": 0, "copied": 0}
    house.workshop.origins = {"tuned": ("big", "tuned"), "copied": ("big", "copied")}
    house.up("hr=big", "mine=fake:echo")
    wish = ReleaseWish(model=model, alias="mine")
    asks = "infer on model/hr"
    for user, rules, missing in (
        ("neither", MINE, "model/hr"),
        ("writes", (*MINE, "release:write on alias/hr"), "model/hr"),
        ("asks", (*MINE, asks), "alias/hr"),
        ("denied", (*MINE, "infer on *", "release:write on *", "deny infer on model/big"), "model/big"),
    ):
        with pytest.raises(PermissionDenied) as refused:
            house.office.create(narrowed(house, user, *rules), wish)
        assert refused.value.resource == missing
    both = narrowed(house, "both", *MINE, asks, "release:write on alias/hr")
    assert house.office.create(both, wish, name="mine-2").course.state == "created"
    neither = Actor(principal=Principal(id="neither", tenant=TenantId("default")))
    for goal in ("shadow", "live"):
        with pytest.raises(PermissionDenied, match="model/hr"):
            house.office.roll_out(neither, "mine-2", Way(goal=goal, share=10), override="why")  # type: ignore[arg-type]
    assert house.office.create(neither, ReleaseWish(model="new", alias="mine")).release.name == "mine-3"


def test_what_a_model_is_counts_when_it_is_rolled_out_too_and_not_what_its_alias_has_already(house: House) -> None:
    house.up("mine=fake:echo")
    maker = narrowed(house, "maker", *MINE)
    house.office.create(maker, ReleaseWish(model="big", alias="mine"))
    house.up("mine=fake:echo", "hr=big")
    with pytest.raises(PermissionDenied, match="model/hr"):  # nobody answered with it when the release was made
        house.office.roll_out(maker, "mine-2", Way(goal="shadow", share=10))
    house.up("mine=big", "hr=big")
    assert house.office.create(maker, ReleaseWish(model="big", alias="mine")).release.name == "mine-4"


def test_an_alias_that_was_set_by_hand_has_no_release_that_would_wait_for_hosts_for_ever(house: House) -> None:
    house.up("chat=fake:echo", "prod=fake:echo")
    house.office.create(SYSTEM, ReleaseWish(model="fake:random", alias="prod"))
    house.adopt("chat=fake:echo")  # ashore.toml has no `prod` any more
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 1000})
    for refused in (
        lambda: house.office.create(SYSTEM, ReleaseWish(model="fake:random", alias="prod")),
        lambda: house.office.roll_out(SYSTEM, "prod-2", Way(goal="shadow", share=10)),
        lambda: house.office.roll_back(SYSTEM, "prod", to="prod-1"),
    ):
        with pytest.raises(Conflict, match="set by hand") as told:
            refused()
        assert "--alias chat" in told.value.hint
    assert {house.state("prod-1"), house.state("prod-2")} == {"retired", "created"}
    house.up("chat=fake:echo", "prod=fake:echo")
    assert house.send("prod-2", "shadow", share=10) == "shadow", "a [[model]] gives it hosts"
