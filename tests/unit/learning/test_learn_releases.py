"""What a run of learning has a server do with the model that it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ashore.cli.bootstrap.operations import learning as learn
from ashore.data.feedback import LearningSection
from ashore.data.releases.betting import BY_NAME
from ashore.kit.call import Call


@dataclass
class Server:
    """Answers what releases are asked, and writes down what it is told to do."""

    worse: str = ""
    told: dict[str, Any] = field(default_factory=dict)

    def ask(self, call: Call, asked: Any) -> Any:
        self.told[call.word] = asked
        found = SimpleNamespace(stage="shadow", verdict="worse", measure=self.worse, summary=f"{self.worse} is worse")
        return {
            "create": SimpleNamespace(name="chat-2"),
            "show": SimpleNamespace(version=7, state="shadow"),
            "evidence": SimpleNamespace(items=[found] if self.worse else []),
        }.get(call.word)


def follow(server: Server, **section: Any) -> str:
    releases = learn.ServerReleases(server.ask, LearningSection(step_s=1, **section))  # type: ignore[arg-type]
    name = releases.shadow("chat", "learned", why="learn r")
    return releases.follow("chat", name, why="learn r", stop=lambda: False)


@pytest.mark.parametrize("worse", ["", learn.UNLIKE])
def test_a_shadow_that_answers_as_it_was_taught_is_promoted_by_itself(
    worse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "LOOK_EVERY_S", 0.1)
    assert learn.UNLIKE in BY_NAME, "a measure of releases"
    server = Server(worse=worse)
    assert "is a canary" in follow(server, promote="automatic")
    assert not server.told["shadow"].automatic, "nothing takes it back for not saying what the live release says"
    assert server.told["canary"].automatic and server.told["canary"].then_promote


def test_a_shadow_that_is_worse_in_anything_else_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "LOOK_EVERY_S", 0.1)
    server = Server(worse="errors")
    assert follow(server, promote="automatic") == "chat-2 stays a shadow: errors is worse"
    assert "canary" not in server.told
    assert "ashore release promote chat-2" in follow(Server(), promote="ask")
