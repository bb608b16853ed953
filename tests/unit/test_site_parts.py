"""What a centre may set of a site's ashore.toml: allowed parts alone, valid as a whole, and masking only stricter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.control.sites import ROWS, merged, read_parts
from ashore.control.sites.parts import SETTABLE, write_parts
from ashore.core.clock import ManualClock
from ashore.core.errors import CorruptBlob, InvalidSpec, PermissionDenied
from ashore.data.privacy import Privacy, PrivacyDesk, PrivacyPolicy, rules_for
from ashore.data.privacy.policy import PrivacyFloor, PrivacyRoute
from ashore.data.privacy.sql import save_policy
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.section import keys_of, read_section
from ashore.kit.state import open_state
from ashore.kit.textfile import parse_toml
from ashore.machine.config import Listening, Spec

FILE = """
[sites]
role = "site"
takes = ["cache", "privacy"]
[cache]
ttl_s = 60
[[cache.route]]
alias = "chat"
[[privacy.floor]]
prompts = { email = "mask" }
"""


def spec(parts: dict[str, str], text: str = FILE) -> Spec:
    return read_section(Spec, merged(parse_toml(text, "ashore.toml"), parts), "ashore.toml")


def test_a_key_of_the_centre_replaces_the_file_s_and_a_floor_is_added() -> None:
    found = spec({"cache": "ttl_s = 30", "privacy": '[[floor]]\nprompts = { iban = "block" }'})
    assert (found.cache.ttl_s, found.cache.routes[0].alias) == (30, "chat")
    assert [dict(one.prompts) for one in found.privacy.floors] == [{"email": "mask"}, {"iban": "block"}]


def test_a_section_that_the_officer_does_not_allow_any_more_has_no_effect() -> None:
    parts = {"cache": "ttl_s = 30", "admission": "max_waiting = 1"}
    assert spec(parts).admission.max_waiting == Spec().admission.max_waiting
    assert spec(parts, FILE.replace('"cache", ', "")).cache.ttl_s == 60
    assert spec(parts, FILE.replace("takes", "#")).cache.ttl_s == 60


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("max_bytes = 1", PermissionDenied),
        ('[[route]]\nalias = "chat"\npublic = true', PermissionDenied),
        ("ttl_s = -1", InvalidSpec),
        ("ttl_s = { from_file = '/etc/shadow' }", PermissionDenied),
        ("ttl_s 30", InvalidSpec),
    ],
)
def test_a_part_that_is_broken_or_reaches_further_is_refused(part: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        spec({"cache": part})


@pytest.mark.parametrize("floor", ['floor = "none"', "floor = {}", "floor = [1]"])
def test_a_floor_of_the_file_cannot_be_replaced(floor: str) -> None:
    with pytest.raises(InvalidSpec):
        spec({"privacy": floor})


def test_a_centre_may_set_no_place_and_nothing_that_needs_a_restart() -> None:
    sections = {key.name: key.table for key in keys_of(Listening)}
    for name in SETTABLE.keys() - ROWS:
        table, settable = sections[name], SETTABLE[name]
        assert table is not None
        known = {key.name: key for key in keys_of(table)}
        assert all(not known[key].kept and not known[key].holds for key in settable)
    assert not {"egress", "http", "grpc", "edge", "jobs", "sites", "sealing", "state", "fleet"} & set(SETTABLE)


def test_floors_make_every_rule_stricter_and_none_looser() -> None:
    policy = PrivacyPolicy(
        prompts={"*": "allow", "iban": "block"},
        routes=(PrivacyRoute(tenant="acme", alias="chat", prompts={"email": "allow", "card": "pseudonymise"}),),
    )
    floor = PrivacyFloor(alias="chat", prompts={"*": "mask", "iban": "allow"}, answers={"email": "block"})
    held = PrivacyPolicy(prompts=policy.prompts, routes=policy.routes, floors=(floor, PrivacyFloor(tenant="other")))
    order = ("allow", "pseudonymise", "mask", "block")
    for tenant in ("acme", "other"):
        for alias, behind in (("chat", ()), ("chat:legal", ()), ("front", ("chat",)), ("else", ())):
            before, after = (rules_for(one, tenant, alias, behind=behind) for one in (policy, held))
            for kind, action in before.prompts.items():
                least = "allow" if alias == "else" or kind == "iban" else "mask"
                assert after.prompts[kind] == max(action, least, key=order.index)
            assert after.answers["email"] == ("allow" if alias == "else" else "block")


def test_parts_are_kept_whole_and_damage_is_not_read_as_none(tmp_path: Path) -> None:
    assert read_parts(tmp_path) == {}
    write_parts(tmp_path, {"cache": "ttl_s = 1"})
    assert read_parts(tmp_path) == {"cache": "ttl_s = 1"}
    (tmp_path / "parts.json").write_text("{")
    with pytest.raises(CorruptBlob):
        read_parts(tmp_path)


def test_a_policy_of_the_state_does_not_lift_the_floors_of_ashore_toml(tmp_path: Path) -> None:
    clock = ManualClock()
    database = open_state("", default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)
    try:
        with database.write() as connection:
            save_policy(connection, PrivacyPolicy(prompts={"*": "allow"}), replaces=0, who="admin", now_s=1)
        file = PrivacyPolicy(floors=(PrivacyFloor(prompts={"iban": "block"}),))
        desk = PrivacyDesk(Privacy(file, secret=b"s" * 32), file, database, clock=clock, recorder=MemoryRecorder())
        desk.refresh()
        rules = rules_for(desk.privacy.now.policy, "acme", "chat")
        assert (rules.prompts["iban"], rules.prompts["email"]) == ("block", "allow")
        desk.take_file(PrivacyPolicy())
        assert rules_for(desk.privacy.now.policy, "acme", "chat").prompts["iban"] == "allow"
    finally:
        database.close()
