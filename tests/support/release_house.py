"""The releases of one database, with everything that acts on them."""

from __future__ import annotations

from dataclasses import dataclass

from memory_workshop import MemoryWorkshop

from ashore.control.releases import ReleaseOffice
from ashore.core.clock import ManualClock
from ashore.data.authority import SYSTEM, Acts
from ashore.data.engines import EngineOptions, Inventory, ModelPlan, Plan
from ashore.data.releases import ReleasePolicy, ReleaseWish, Way
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.data.releases.ports import GateVerdict
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, read_epochs

GIB = 1 << 30


class Gate:
    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        if "new" in reference:
            return GateVerdict(outcome="")
        bad = "bad" in reference
        return GateVerdict(outcome="failed" if bad else "passed", why="perplexity +40 %" if bad else "")


@dataclass
class House:
    database: Database
    clock: ManualClock
    recorder: MemoryRecorder
    workshop: MemoryWorkshop

    def __post_init__(self) -> None:
        self.acts = Acts(self.database, self.recorder, self.clock)
        self.policy = ReleasePolicy()
        self.office = ReleaseOffice(self.acts, self.workshop, Gate(), policy=lambda: self.policy)
        self.keeper = ReleaseKeeper(self.acts, self.workshop)

    def plan(self, *models: str) -> Plan:
        """Return a plan of fakes, `alias=model` or `alias=model@variant`."""
        plans = tuple(
            ModelPlan(
                alias=one.partition("=")[0],
                release="",
                name=one.partition("=")[2].partition("@")[0],
                variant=one.partition("@")[2],
                options=EngineOptions(kind="fake"),
                replicas=1,
                embedder=False,
                in_store=True,
            )
            for one in models
        )
        return Plan(models=plans, inventory=Inventory(cores=2, memory_bytes=0))

    def adopt(self, *models: str) -> tuple[str, ...]:
        """Adopt a plan; return what was forgotten."""
        return self.keeper.adopt(self.keeper.propose(self.plan(*models)))

    def up(self, *models: str, replaced: tuple[str, ...] = ()) -> dict[str, str]:
        """Adopt a plan; return what answers by alias."""
        plan = self.keeper.propose(self.plan(*models), replaced=replaced)
        self.keeper.adopt(plan)
        return {model.alias: model.release for model in plan.models}

    def make(self, model: str = "fake:random", **more: str) -> str:
        return self.office.create(SYSTEM, ReleaseWish(model=model, alias="chat"), **more).release.name

    def send(self, name: str, goal: str, **more: object) -> str:
        """Roll out, and say that the hosts have loaded. What goes live does so without a verdict."""
        override = "a trial" if goal == "live" else ""
        self.office.roll_out(SYSTEM, name, Way(goal=goal, **more), override=override)  # type: ignore[arg-type]
        self.keeper.warmed(name)
        return self.state(name)

    def state(self, name: str) -> str:
        return self.office.standing(SYSTEM, name).course.state

    def weights(self, alias: str = "chat") -> dict[str, int]:
        return dict(self.office.alias(SYSTEM, alias).weights)

    def epoch(self) -> int:
        with self.database.read() as connection:
            return read_epochs(connection).get("aliases", 0)
