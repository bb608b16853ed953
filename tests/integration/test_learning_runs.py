"""Runs of learning over a tiny model: killed in every phase, and what the world does meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eval_subjects import Scripted
from memory_workshop import MemoryWorkshop
from release_house import House
from tiny_models import make_tiny_model

from ashore.cli.bootstrap import build_store
from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, DiskFull, InvalidRequest, NotReady
from ashore.data.audit import SqlSubjectKeys
from ashore.data.feedback import LearningSection
from ashore.data.feedback.leases import leased
from ashore.data.feedback.model import Said, Vote
from ashore.data.feedback.runs import Run, end_pause, load_runs, set_pause
from ashore.data.feedback.sql import forget_texts, save_vote
from ashore.data.feedback.texts import SealedTexts, as_text, seal
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Home
from ashore.kit.state.sqlite import open_scratch
from ashore.lab.learning.runner import Learning
from ashore.lab.learning.teaching import Teaching

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

pytest.importorskip("torch")

VOTES = 24


class Killed(BaseException):
    """Ends a run as a signal would, at a moment of the test's choice."""


@dataclass
class Shop:
    """A home with a tiny model that answers, and votes on what it said."""

    root: Path
    says: list[str] = field(default_factory=list)
    on_say: Callable[[str], None] = lambda line: None
    released: list[str] = field(default_factory=list)
    server_is_up: bool = True
    bad: bool = False
    """Whether what is learned is worse."""
    teaching: Teaching | None = field(default_factory=lambda: Teaching(learning_rate=1e-3, rank=4, threads=1))

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.state = open_scratch()
        self.store = build_store(Home(root=self.root / "home"))
        self.store.pull(str(make_tiny_model(self.root / "tiny", "llama")), name="tiny")
        House(self.state, self.clock, MemoryRecorder(), MemoryWorkshop()).up("chat=tiny@int8")
        self.texts = SealedTexts(SqlSubjectKeys(self.state))
        task = self.root / "task.jsonl"
        items = "".join(f'{{"prompt": "q{n}", "answer": "abc"}}\n' for n in range(10))
        task.write_text('{"task": "t", "kind": "classify", "labels": ["abc", "xyz"], "style": "plain"}\n' + items)
        prompts = self.root / "prompts.txt"
        prompts.write_text("".join(f"prompt {n}\n" for n in range(60)))
        self.section = LearningSection(
            feedback=True, tasks=(str(task),), old_skills=(), replay=str(prompts), learning_rate=1e-3
        )
        for number in range(VOTES):
            self.vote(number)

    def vote(
        self, number: int, *, account: str = "alice", voter: str = "erin", said: str = "xyz", better: str = "abc"
    ) -> None:
        """Vote on an answer; up, where nothing is better."""
        key = self.texts.key("default", account)
        asked = as_text((Said("user", f"red {number}: "),))
        vote = Vote(
            feedback_id=f"fb_{number:03d}", tenant="default", account=account, answer_id=str(number), voter=voter,
            model="chat", release="chat-1", rating="down" if better else "up", score=None, tags=(),
            digest=f"d{number}", num_tokens=1, key_id=key.key_id, question=seal(key, asked), answer=seal(key, said),
            correction=better and seal(key, better), preferred="", said=str(number), answered_ms=0,
            created_ms=number * 10_000, changed_ms=number * 10_000,
        )  # fmt: skip
        with self.state.write() as connection:
            save_vote(connection, vote)

    def learning(self) -> Learning:
        return Learning(
            self.state, self.store, self.section, folder=self.root / "runs", adapters=self.root / "adapters",
            texts=self.texts, open_subject=self.subject, prepare=self.prepare, clock=self.clock, say=self.say,
            teaching=self.teaching,
        )  # fmt: skip

    def prepare(self, model: str, variant: str) -> str:
        self.store.resolve(model)
        return f"{model}@{variant}"

    def say(self, line: str) -> None:
        self.says.append(line)
        self.on_say(line)

    @contextmanager
    def subject(self, name: str) -> Iterator[Any]:
        right = ("learned" in name) != self.bad
        one = Scripted(self.root / f"subject-{name}", likes=("abc",) if right else ("xyz",), says="fine")
        one.name = name
        yield one

    def shadow(self, alias: str, model: str, *, why: str) -> str:
        """Implement `Releasing`."""
        if not self.server_is_up:
            raise NotReady("no server is running")
        self.released.append(model)
        return f"{alias}-2"

    def run(self) -> Run:
        return self.learning().run("chat", releasing=self)

    def runs(self) -> list[Run]:
        with self.state.read() as connection:
            return load_runs(connection)

    def learned(self) -> list[str]:
        return [one.name for one in self.store.list() if "learned" in one.name]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.state.close()


def digest_of(run: Run) -> str:
    return hashlib.sha256((Path(run.adapter) / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_a_run_that_is_killed_in_every_phase_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = Shop(tmp_path / "whole")
    undisturbed = whole.run()
    assert (undisturbed.state, undisturbed.release) == ("released", "chat-2")
    assert whole.released == [f"{one}@int8" for one in whole.learned()], "as what answers is served"
    steps = next(line for line in whole.says if line.startswith("step 1 of")).rpartition(" of ")[2].partition(",")[0]
    whole.state.close()

    shop = Shop(tmp_path / "killed")
    phases = [
        "asking the model itself", "learning:", "step 1 of", f"step {steps} of {steps}", "after the model was kept",
        "tiny: t", "tiny: probes", "learned-", "probes", "release",
    ]  # fmt: skip
    left = list(phases)

    def kill(line: str) -> None:
        if left and left[0] in line:
            del left[0]
            raise Killed(line)

    shop.on_say = kill
    add, shadow = shop.store.add_derived, shop.shadow

    def add_and_die(*args: Any, **kwargs: Any) -> Any:
        found = add(*args, **kwargs)
        kill("after the model was kept")
        return found

    def die_and_shadow(*args: Any, **kwargs: Any) -> str:
        kill("release")
        return shadow(*args, **kwargs)

    shop.store.add_derived = add_and_die  # type: ignore[method-assign]
    shop.shadow = die_and_shadow  # type: ignore[method-assign]
    for _ in phases:
        with pytest.raises(Killed):
            shop.run()
    done = shop.run()
    assert not left and done.state == "released"
    assert digest_of(done) == digest_of(undisturbed), "the same bits, whenever it was killed"
    assert shop.learned() == [done.candidate] and shop.released == [f"{done.candidate}@int8"], "one release"
    assert len(shop.runs()) == 1 and not list((tmp_path / "killed" / "runs").glob("*/")), "nothing is left over"
    shop.state.close()


def test_a_run_that_goes_on_keeps_the_precision_that_was_faster_when_it_began(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(line: str) -> None:
        if line.startswith("step 1 of"):
            shop.on_say = lambda line: None
            raise Killed(line)

    faster = ["bfloat16", "float32"]
    monkeypatch.setattr("ashore.lab.learning.runner.faster_precision", lambda *sizes: faster.pop(0))
    shop.teaching, shop.on_say = None, kill
    with pytest.raises(Killed):
        shop.run()
    done = shop.run()
    assert done.state == "released" and faster == ["float32"]
    recipe = shop.store.resolve(done.candidate).recipe
    assert (recipe["learn.precision"], recipe["learn.rank"]) == ("bfloat16", "16")


def test_what_is_worse_is_refused_and_never_released(shop: Shop) -> None:
    shop.bad = True
    done = shop.run()
    assert done.state == "refused" and "gain_min" in done.why and shop.released == []
    with pytest.raises(Conflict, match="exactly these votes"):
        shop.run()


def test_a_release_that_no_server_took_is_made_later_without_learning_again(shop: Shop) -> None:
    shop.server_is_up = False
    with pytest.raises(NotReady):
        shop.run()
    assert shop.runs()[0].state == "passed"
    shop.server_is_up, before = True, list(shop.says)
    assert shop.run().state == "released" and shop.says == [*before, before[-1]] and before[-1].startswith("making ")


def test_a_base_that_is_replaced_is_learned_from_anew(shop: Shop) -> None:
    def replaced(line: str) -> None:
        if line.startswith("step 3 of"):
            shop.on_say = lambda line: None
            shop.store.remove("tiny")
            shop.store.pull(str(make_tiny_model(shop.root / "other", "llama", seed=9)), name="tiny")

    shop.on_say = replaced
    with pytest.raises(Conflict, match="was replaced"):
        shop.run()
    assert shop.learned() == []
    done = shop.run()
    first, second = sorted(shop.runs(), key=lambda one: one.run_id != done.run_id)
    assert first.base != second.base and done.state == "released", "the new base is another run, from its beginning"
    assert not list((shop.root / "runs").glob("*/")), "what the first one had learned so far is gone"


def test_a_tenant_that_withdraws_while_it_learns_gets_no_release(shop: Shop) -> None:
    def withdraw(line: str) -> None:
        if line.startswith("step 3 of"):
            with shop.state.write() as connection:
                forget_texts(connection, "default", bare=True)

    shop.on_say = withdraw
    done = shop.run()
    assert done.state == "stopped" and "withdrew its consent" in done.why and shop.released == []


def test_a_full_disk_and_a_pause_lose_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr("ashore.lab.learning.teaching.save_adapter", full)
        with pytest.raises(DiskFull):
            shop.run()
    assert shop.learned() == [] and shop.runs()[0].state == "running"
    with shop.state.write() as connection:
        set_pause(connection, "chat", why="audit", paused_by="erin", now_ms=1)
    with pytest.raises(InvalidRequest, match="paused"):
        shop.run()
    with shop.state.write() as connection:
        end_pause(connection, "chat")
    assert shop.run().state == "released"


def test_two_runs_at_once_are_one(shop: Shop) -> None:
    def other(line: str) -> None:
        if line.startswith("step 2 of"):
            shop.on_say = lambda line: None
            with pytest.raises(Conflict, match="in this home"):
                shop.run()
            elsewhere = replace_folder(shop)
            with pytest.raises(Conflict, match="under way on"):
                elsewhere.run("chat")

    shop.on_say = other
    assert shop.run().state == "released"
    with leased(shop.state, shop.clock, owner="other", holder="node-b"), pytest.raises(Conflict, match="node-b"):
        shop.run()


def replace_folder(shop: Shop) -> Learning:
    """Return what learns on another node over the same state."""
    return Learning(
        shop.state, shop.store, shop.section, folder=shop.root / "elsewhere", adapters=shop.root / "adapters",
        texts=shop.texts, open_subject=shop.subject, prepare=shop.prepare, clock=shop.clock,
    )  # fmt: skip
