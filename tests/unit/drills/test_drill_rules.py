"""What a drill comes to, whether it may start, and what its report says: pure."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ashore.control.drills.catalog import all_drills
from ashore.control.drills.faults import MAKERS
from ashore.control.drills.guard import Situation, is_production, refusal
from ashore.control.drills.load import code_of
from ashore.control.drills.model import Drill, Outcome, Report
from ashore.control.drills.report import chart, digest_of, encoded, markdown, page
from ashore.control.drills.rules import WELL, is_well, lost_check, phase_of, should_abort, steady, verdict_of
from ashore.control.drills.section import DrillsSection, is_open
from ashore.core.errors import InvalidSpec

GOOD = Outcome(at_s=1.0, first_s=0.01, took_s=0.1, ok=True, status=200)
REFUSED = Outcome(at_s=1.0, took_s=0.1, ok=False, status=503, code="audit_unavailable")
CUT = Outcome(at_s=1.0, first_s=0.01, took_s=0.1, ok=False, status=200, code="host_died")
SILENT = replace(CUT, code="", silent_cut=True)
NOBODY = Outcome(at_s=1.0, took_s=0.1, ok=False, code="ConnectionRefusedError")
BY_NAME = all_drills()
DRILLS = tuple(BY_NAME.values())
ONE = BY_NAME["host-killed"]
TUESDAY_11 = 1_795_518_000.0


def test_the_catalogue_is_whole() -> None:
    assert len(DRILLS) == len(BY_NAME) >= 15
    for one in DRILLS:
        assert one.maker in MAKERS
        assert one.steady and one.fault and one.expects and one.recovery_s > 0
        assert one.hold_s < one.most_s <= 120
        assert set(one.lines) <= set(one.twin.neighbours)
        assert bool(one.twin.neighbours) <= one.twin_only, "lines lie between a twin and its neighbours"
    assert {one.maker for one in DRILLS} == set(MAKERS)
    asked = "host-killed host-hung worker-killed supervisor-killed edge-killed cache-killed cache-hung postgres-gone "
    asked += "disk-full disk-slow disk-failing network-slow network-lossy servers-cut-off clock-stepped "
    asked += "backup-node-lost corrupt-shard memory-short processor-stolen certificate-expired bad-release overload "
    asked += "centre-cut-off power-lost-in-a-switch directory-hung siem-away mail-refused"
    assert set(asked.split()) <= set(BY_NAME)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ([GOOD] * 200, ""),
        ([GOOD] * 200 + [REFUSED], ""),
        ([GOOD] * 20 + [REFUSED], "1 of 21"),
        ([GOOD] * 3, "3 requests"),
    ],
)
def test_a_server_that_was_not_steady_before_makes_a_drill_unfit(before: list[Outcome], why: str) -> None:
    assert why in steady(before) and bool(steady(before)) == bool(why)


@pytest.mark.parametrize(
    ("loss", "during", "held"),
    [
        ("none", [GOOD], True),
        ("none", [GOOD, REFUSED], False),
        ("refused", [GOOD, REFUSED, NOBODY], True),
        ("refused", [GOOD, CUT], False),
        ("in-flight", [CUT] * 4 + [REFUSED] * 9, True),
        ("in-flight", [CUT] * 5, False),
        ("in-flight", [SILENT], False),
        ("begun", [CUT] * 50, True),
        ("begun", [CUT, REFUSED], False),
        ("begun", [SILENT], False),
        ("any", [CUT] * 50 + [SILENT], True),
    ],
)
def test_no_more_is_lost_than_the_drill_allows(loss: str, during: list[Outcome], held: bool) -> None:
    check = lost_check(replace(ONE, loss=loss), during)
    assert check.held is held
    assert verdict_of([check])[0] == ("pass" if held else "fail")


def test_a_server_is_well_after_several_answers_in_a_row_that_began_after_the_fault() -> None:
    def at(second: float, ok: bool = True) -> Outcome:
        return replace(GOOD, at_s=second, ok=ok)

    begun_before = [at(0.5)] * 9
    assert is_well(begun_before, 1.0) is None
    row = [at(1 + n / 10) for n in range(WELL)]
    assert is_well([*begun_before, *row], 1.0) == pytest.approx(1.5)
    assert is_well([*row[:4], at(1.45, ok=False), *[at(2 + n / 10) for n in range(WELL)]], 1.0) == pytest.approx(2.5)


def test_a_drill_that_allows_no_loss_ends_where_half_of_the_requests_fail() -> None:
    strict = replace(ONE, loss="none")
    bad = [replace(REFUSED, at_s=8.0)] * 6 + [replace(GOOD, at_s=8.0)] * 4
    assert "6 of 10" in should_abort(strict, bad, 9.0)
    assert should_abort(ONE, bad, 9.0) == "", "this one allows it"
    assert should_abort(strict, bad, 60.0) == "", "that was long ago"


SERVER = Situation(on_twin=False, production=False, now_s=TUESDAY_11)
LIVE = Situation(on_twin=False, production=True, reason="yearly", consents=("sec",), now_s=TUESDAY_11)
ANY = DrillsSection()


@pytest.mark.parametrize(
    ("drill", "section", "now", "why"),
    [
        ("host-killed", ANY, SERVER, ""),
        ("disk-full", ANY, SERVER, "on a twin alone"),
        ("disk-full", ANY, Situation(on_twin=True, production=True), ""),
        ("host-killed", ANY, LIVE, ""),
        ("host-killed", ANY, Situation(on_twin=False, production=True, reason="x"), "no security officer consented"),
        ("host-killed", ANY, Situation(on_twin=False, production=True, consents=("sec",)), "no reason"),
        ("host-killed", ANY, Situation(on_twin=False, production=False, candidates=("m-2",)), "being compared"),
        ("host-killed", ANY, Situation(on_twin=False, production=False, backup_runs=True), "a backup runs"),
        ("host-killed", ANY, Situation(on_twin=False, production=False, replicas=1), "needs a model with 2 replicas"),
        ("host-killed", ANY, Situation(on_twin=False, production=False, replicas=2), ""),
        ("jobs-killed", ANY, Situation(on_twin=False, production=False, replicas=1), ""),
        ("host-killed", DrillsSection(window="wed 10:00-12:00"), SERVER, "in the window"),
        ("host-killed", DrillsSection(window="mon,tue 10:00-12:00"), SERVER, ""),
    ],
)
def test_who_may_start_a_drill_where_and_when(drill: str, section: DrillsSection, now: Situation, why: str) -> None:
    said, do = refusal(BY_NAME[drill], section, now)
    assert why in said and bool(said) == bool(why) == bool(do)


def test_a_server_is_production_once_it_was_handed_over_or_its_file_says_so() -> None:
    assert is_production(DrillsSection(), ()) and not is_production(DrillsSection(), ("auditor",))
    assert is_production(DrillsSection(production="yes"), ("auditor",))
    assert not is_production(DrillsSection(production="no"), ())


def test_a_window_is_of_days_and_minutes() -> None:
    assert [is_open("tue,thu 10:00-12:00", *at) for at in ((1, 600), (1, 719), (1, 720), (2, 600), (3, 660))] == [
        True, True, False, False, True,
    ]  # fmt: skip
    with pytest.raises(InvalidSpec):
        DrillsSection(window="at noon").checked("[drills]")


def test_the_code_of_an_error_is_read_and_anything_else_is_none() -> None:
    assert code_of(b'{"error": {"code": "host_died"}}') == "host_died"
    assert [code_of(one) for one in (b"[1]", b"<html>", b'{"choices": []}', b"")] == [""] * 4


def report(drill: Drill = ONE) -> Report:
    return Report(
        id="host-killed-20261128T100000", drill=drill.name, title=drill.title, verdict="fail", why="it <b>broke</b>",
        on="twin", production=False, began_s=1e9, fault_at_s=1.0, fault_for_s=2.0, felt="process 7 is gone",
        phases={"before": phase_of([GOOD] * 9), "during": phase_of([GOOD, CUT])}, outcomes=(GOOD, CUT),
        checks=(lost_check(replace(drill, loss="none"), [CUT]),), actor="os:root",
    )  # fmt: skip


def test_a_report_is_for_people_and_its_digest_changes_with_every_byte() -> None:
    one = report()
    text = markdown(one, ONE)
    assert text.startswith("# An engine host is killed: fail") and "| **no** |" in text and "host_died 1" in text
    html = page(one, ONE, digest_of(encoded(one)))
    assert "<script" not in html and "http" not in html and "&lt;b&gt;" in html and "<svg" in html
    assert digest_of(encoded(one)) in html
    assert digest_of(encoded(replace(one, verdict="pass"))) != digest_of(encoded(one))
    assert chart((), 0, 0) == ""
