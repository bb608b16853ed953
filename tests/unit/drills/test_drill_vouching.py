"""Whether a report is the one that the audit log has, also when old records left for an archive."""

from __future__ import annotations

from pathlib import Path

from audit_notes import an_act

from ashore.control.audit import Follower
from ashore.control.drills.calls import REPORT_ACTION, Vouching
from ashore.control.drills.model import Report
from ashore.data.audit import ChainName, ChainWriter
from ashore.data.audit.segments import segment_path
from ashore.data.audit.writer import DAY_US, Draft


def report(day: int) -> Report:
    return Report(
        id=f"host-killed-{day}", drill="host-killed", title="", verdict="pass", why="", on="twin", production=False,
        began_s=day * DAY_US / 1e6, fault_at_s=1, fault_for_s=1, felt="", recovered_s=1, noticed=(), phases={},
        checks=(), outcomes=(), actor="os:root", consent="", versions={},
    )  # fmt: skip


def test_a_report_is_as_recorded_or_not_or_its_record_may_be_in_the_archive(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path, ChainName("cli"), segment_bytes=600)
    for day in (1, 2, 3):
        act = an_act(day, action=REPORT_ACTION, resource=f"drill/host-killed-{day}", detail={"sha256": f"digest-{day}"})
        writer.append([Draft(day * DAY_US + 1, day, act)])
    writer.close()
    acts = Follower(tmp_path, REPORT_ACTION)
    said = Vouching(acts)
    assert [said(report(day), f"digest-{day}") for day in (1, 2, 3)] == ["as recorded"] * 3
    assert (said(report(1), "another"), said(report(4), "any")) == ("not as recorded", "not in the log")
    segment_path(tmp_path, ChainName("cli"), 1).unlink()
    said = Vouching(Follower(tmp_path, REPORT_ACTION))
    assert (said(report(1), "digest-1"), said(report(3), "digest-3")) == ("in the archive", "as recorded")
    assert said(report(4), "any") == "not in the log"
