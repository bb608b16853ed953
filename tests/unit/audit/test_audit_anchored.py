"""An anchor that takes nothing shows: since when, and what it says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ashore.cli.main import main
from ashore.cli.status import SilentAnchor, silent_anchors
from ashore.control.audit import AuditService, Notary, open_anchor, read_anchors
from ashore.core.clock import ManualClock
from ashore.data.audit import Checkpoints
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Home


class Rig:
    """A home whose one anchor is a folder that can be taken away."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(root=folder / "home")
        self.anchor = folder / "anchor"
        self.anchor.mkdir(parents=True)
        self.clock = ManualClock(now_s=1_800_000_000)
        self.recorder = MemoryRecorder()
        self.checkpoints = Checkpoints(self.home.audit, self.home.audit_keys)
        self.checkpoints.make(1, force=True)
        self.notary = self.notary_of(self.anchor)

    def notary_of(self, *places: Path) -> Notary:
        anchors = [open_anchor(str(place), self.checkpoints.home) for place in places]
        return Notary(
            self.home.audit, self.checkpoints, anchors=anchors, recorder=self.recorder, clock=self.clock, every_s=30
        )

    def sign(self) -> None:
        self.checkpoints.make(int(self.clock.now_s() * 1e6), force=True)

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.sign()
        self.notary.tick()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_silent_anchor_says_since_when_and_why_and_comes_back(rig: Rig) -> None:
    rig.notary.tick()
    (well,) = read_anchors(rig.home.audit)
    assert (well.place, well.failures, well.error) == (str(rig.anchor), 0, "") and well.number > 0
    assert well.good_us == 1_800_000_000_000_000 and silent_anchors(rig.home.audit) == []
    rig.anchor.rename(rig.anchor.with_name("away"))
    for _ in range(3):
        rig.tick(30)
    (dead,) = read_anchors(rig.home.audit)
    assert (dead.number, dead.good_us, dead.failures) == (well.number, well.good_us, 3)
    assert dead.silent_us == 1_800_000_030_000_000, "the first round that failed, not the last"
    assert "source_unreachable" in dead.error and str(rig.anchor) in dead.error
    assert silent_anchors(rig.home.audit) == [
        SilentAnchor(place=str(rig.anchor), since=1_800_000_030, error=dead.error)
    ]
    assert [act.outcome for act in rig.recorder.acts if act.action == "audit:anchor"] == ["failed"]
    rig.anchor.with_name("away").rename(rig.anchor)
    rig.tick(30)
    (back,) = read_anchors(rig.home.audit)
    assert (back.failures, back.silent_us, back.error) == (0, 0, "") and back.number >= well.number + 4
    (file,) = rig.anchor.iterdir()
    assert len(file.read_bytes().splitlines()) == 1 + back.number - well.number, "it got what it had missed"


def test_an_anchor_out_of_use_is_not_shown_and_is_remembered(rig: Rig) -> None:
    rig.notary.tick()
    rig.notary = rig.notary_of()
    rig.tick(30)
    assert read_anchors(rig.home.audit) == ()
    rig.notary = rig.notary_of(rig.anchor)
    rig.tick(30)
    (file,) = rig.anchor.iterdir()
    assert len(file.read_bytes().splitlines()) >= 3


def test_the_file_of_an_earlier_ashore_is_read(rig: Rig) -> None:
    rig.notary.tick()
    (rig.home.audit / "anchored.json").write_bytes(msgspec.json.encode({str(rig.anchor): 2}))
    assert read_anchors(rig.home.audit) == ()
    rig.sign()
    rig.tick(30)
    (file,) = rig.anchor.iterdir()
    assert len(file.read_bytes().splitlines()) >= 3


def test_the_command_and_the_call_show_it(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.notary.tick()
    monkeypatch.setenv("ASHORE_HOME", str(rig.home.root))
    assert main(["audit", "status"]) == 0
    assert f"anchor {rig.anchor}: has every checkpoint up to " in capsys.readouterr().out
    rig.anchor.rename(rig.anchor.with_name("away"))
    rig.tick(30)
    assert main(["audit", "status"]) == 0
    assert f"anchor {rig.anchor}: FAILING since 2027-" in capsys.readouterr().out
    service = AuditService(rig.home.audit, rig.home.audit_keys, rig.recorder)
    assert service.anchoring() == service.status().anchors == read_anchors(rig.home.audit)
