"""The home of a site: its store, its releases, its switch, and what the supervisor would do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_workshop import MemoryWorkshop
from release_house import House
from site_parts import ToldServer
from tiny_models import make_tiny_model

from ashore.control.sites import Parts
from ashore.control.sites import switch as switching
from ashore.control.sites.model import Serve
from ashore.control.sites.parts import SiteParts
from ashore.control.sites.rows import SITE, SiteRows
from ashore.control.sites.switch import Switch, local_reference, may_begin, missing
from ashore.core.clock import ManualClock
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_state
from ashore.kit.store import ModelCopy, ModelStore

ALIASES = ("chat", "sort")


def tiny_store(root: Path, seeds: range) -> ModelStore:
    """Return a store with versions of a tiny model, `tiny0`, `tiny1`."""
    store = ModelStore(root / "store", root / "run", ManualClock())
    for seed in seeds:
        store.pull(str(make_tiny_model(root / f"tiny{seed}", "llama", seed=seed, layers=1)), name=f"tiny{seed}")
    return store


@dataclass
class Site:
    """One home: its store, its releases, and what the supervisor would do."""

    root: Path
    parcels: dict[str, tuple[ModelCopy, Path]]
    wrong: dict[str, str] = field(default_factory=dict)
    """By digest: what the probe finds."""
    free: int = 1 << 40
    wrap: Callable[[Any], Any] = lambda one: one
    config: str = '[sites]\nrole = "site"\ntakes = ["cache", "budgets", "pairs"]\n'
    """Its ashore.toml."""

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.clock = ManualClock()
        database = open_state("", default=self.root / "state.db", snapshots=self.root / "snapshots", clock=self.clock)
        needed = {local_reference("tiny", digest): 1 << 20 for digest in self.parcels}
        self.house = House(database, self.clock, MemoryRecorder(), MemoryWorkshop(needed=needed, free=self.free))
        self.store = ModelStore(self.root / "store", self.root / "run", self.clock)
        if not self.house.office.book(SITE).aliases:
            self.house.up(*(f"{alias}=fake:echo" for alias in ALIASES))
        rows = SiteRows(database, self.house.recorder, self.clock)
        self.server = ToldServer(self.root, self.config)
        self.parts = SiteParts(self.root, self.house.recorder, rows, self.server.ask)
        self.switch = self.fresh()

    def fresh(self) -> Switch:
        def probe(release: str, beside: str) -> str:
            plan = self.house.office.book(SITE).releases[release].plan
            found = [why for digest, why in self.wrong.items() if plan.name.endswith(digest[7:19])]
            return found[0] if found else ""

        return Switch(
            self.wrap(self.house.office), self.wrap(self.store), self.root / "switch.json", clock=self.clock,
            probe=probe, in_use=lambda: self.house.office.book(SITE).manifests, parts=self.wrap(self.parts),
        )  # fmt: skip

    def want(self, sequence: int, told: Parts | None = None, **digests: str) -> bool:
        """Begin to apply a want; return whether there was something to do.

        Args:
            sequence: Of it.
            told: Its parts of ashore.toml; None: those in force.
            digests: By alias.
        """
        if not may_begin(self.switch.journal, self.assigned(**digests), sequence):
            return False
        parts = self.switch.other_parts(self.parts.now() if told is None else told)
        found = missing(self.switch.journal, self.assigned(**digests))
        if found or parts is not None:
            self.switch.begin(found, sequence, self.staged, parts)
        return bool(found) or parts is not None

    def staged(self, digest: str) -> tuple[ModelCopy, Path]:
        copy, folder = self.parcels[digest]
        reference = local_reference("tiny", digest)
        return ModelCopy(**{name: getattr(copy, name) for name in ("digest", "tagged", "created_s", "blobs")},
                         name=reference, variant=""), folder  # fmt: skip

    @staticmethod
    def assigned(**digests: str) -> list[Serve]:
        return [Serve(alias=alias, model=digest, name="tiny") for alias, digest in digests.items()]

    def supervise(self) -> None:
        """Load what should be loaded."""
        for course in self.house.office.book(SITE).courses.values():
            if course.state == "warming":
                self.house.keeper.warmed(course.release)

    def settle(self) -> None:
        """Go on until nothing is left to do, as time passes."""
        for _ in range(20):
            if not self.switch.advance():
                return
            self.supervise()
            self.clock.advance(switching.JUDGE_S / 2)
        raise AssertionError(f"still {self.switch.journal}")

    def serving(self) -> dict[str, str]:
        """Return the model of the release that alone answers, by alias."""
        book = self.house.office.book(SITE)
        found = {}
        for alias in ALIASES:
            (release,) = book.aliases[alias].releases
            assert book.courses[release].state == "live"
            found[alias] = book.releases[release].plan.name
        return found


def stage(root: Path, seeds: range) -> dict[str, tuple[ModelCopy, Path]]:
    """Return versions of a tiny model by digest, as they are staged at a site: blobs named by their hashes."""
    found = {}
    for seed in seeds:
        store = ModelStore(root / f"store{seed}", root / "run", ManualClock())
        store.pull(str(make_tiny_model(root / f"tiny{seed}", "llama", seed=seed, layers=1)), name="tiny")
        (copy,) = store.copies()
        staged = root / f"staged{seed}"
        staged.mkdir()
        for blob in copy.blobs:
            os.link(store.blob_path(blob.digest), staged / blob.digest.removeprefix("sha256:"))
        found[str(copy.digest)] = (copy, staged)
    return found
