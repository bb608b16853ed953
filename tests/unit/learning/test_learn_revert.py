"""What `ashore learn revert` goes back from, what it leaves alone, and what `ashore learn status` prints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ashore.cli import learn
from ashore.control.feedback.calls import LearningStatus, NextOut
from ashore.control.feedback.scheduled import next_turn
from ashore.core.errors import Conflict
from ashore.data.feedback.turns import When
from ashore.data.jobs.schedule import Turn


class Asked:
    """A server whose alias leads to `smollm2-2`."""

    def __init__(self, runs: list[Any], made_of: str = "smollm2@int8") -> None:
        self.done: list[str] = []
        self._answers: dict[str, Any] = {
            "status": SimpleNamespace(items=runs),
            "rollback": SimpleNamespace(items=[SimpleNamespace(name="smollm2-1")]),
            "pause": None,
        }
        self._shown = {
            "alias": SimpleNamespace(version=7, weights_percent={"smollm2-2": 100.0}),
            "release": SimpleNamespace(model=made_of),
        }

    def ask(self, call: Any, asked: Any) -> Any:
        if call.word in ("rollback", "pause"):
            self.done.append(call.word)
        return self._shown[call.noun] if call.word == "show" else self._answers[call.word]


@pytest.mark.parametrize(
    ("run", "made_of"),
    [
        (SimpleNamespace(release="smollm2-2", candidate="smollm2-a1"), "smollm2-a1@int8"),
        (SimpleNamespace(release="", candidate="smollm2-a1"), "smollm2-a1@int8"),
    ],
)
def test_what_was_learned_is_gone_back_from(run: Any, made_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Asked([run], made_of)
    monkeypatch.setattr(learn, "Server", lambda **_: server)
    learn.revert("smollm2")
    assert server.done == ["rollback", "pause"]


@pytest.mark.parametrize("runs", [[], [SimpleNamespace(release="", candidate=""),
                                       SimpleNamespace(release="smollm2-9", candidate="smollm2-a1")]])  # fmt: skip
def test_a_release_that_nobody_learned_stays(runs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Asked(runs)
    monkeypatch.setattr(learn, "Server", lambda **_: server)
    with pytest.raises(Conflict, match="nothing that was learned answers under smollm2: smollm2-2 does"):
        learn.revert("smollm2")
    assert server.done == []


def test_status_says_once_how_runs_begin_and_that_learning_is_paused(capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = next_turn(Turn(name="learn run smollm2", seen_ms=0), When(), fresh=3, now_ms=0)
    alone = NextOut(model="smollm2", due_s=by_hand.due_ms, why=by_hand.why)
    paused = NextOut(model="smollm2", due_s=None, why="paused: learn revert (erin)")
    learn._show_status(LearningStatus(items=[], paused={}, begins="by hand", next=[alone]))
    learn._show_status(
        LearningStatus(items=[], paused={"smollm2": "learn revert (erin)"}, begins="by hand", next=[paused])
    )
    learn._show_status(LearningStatus(items=[], paused={}, begins="by hand"))
    assert capsys.readouterr().out.splitlines() == [
        "no runs",
        "smollm2: next run by hand: [learning] has neither at nor at_examples",
        "no runs",
        "smollm2: paused: learn revert (erin)",
        "no runs",
        "runs begin by hand",
    ]
