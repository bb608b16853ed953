"""Releases, their states, and the aliases that lead to them. Immutable; moves create new objects."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from ashore.data.engines import ModelPlan

_encode = msgspec.json.Encoder(order="sorted").encode
KEPT: Final = 64
"""Answers of a level that the state keeps: enough to begin with."""
FORGOTTEN_S: Final = 86_400
ReleaseState = Literal["created", "warming", "shadow", "canary", "live", "standby", "retired", "failed"]
Goal = Literal["shadow", "canary", "live", "standby"]
"""Where a release goes once its hosts have loaded."""
Sticky = Literal["conversation", "key"]
"""What always gets the same release while weights stand: a conversation by its beginning, or everything of one key."""

RUNG: Final = "rung "
WHOLE: Final = 1000
"""Weights and shares are in thousandths."""
HOSTED: Final[frozenset[ReleaseState]] = frozenset({"warming", "shadow", "canary", "live", "standby"})
"""States in which a release has engine hosts, or is getting them."""
WARM: Final[frozenset[ReleaseState]] = frozenset({"shadow", "canary", "live", "standby"})
"""States in which its hosts have loaded, so that requests may go there at once."""
CANDIDATE: Final[frozenset[ReleaseState]] = frozenset({"warming", "shadow", "canary"})
"""States of a release that is on its way. An alias has one of them at most."""
STANDBY_S: Final = 3600
"""How long the release before stays warm, unless the operator says otherwise."""


def digest_of_value(value: object) -> str:
    """Return the digest of any value that msgspec can encode as JSON."""
    return "sha256:" + hashlib.sha256(_encode(value)).hexdigest()


def content_of_parts(parts: Mapping[str, str]) -> str:
    """Return one digest over all parts."""
    return digest_of_value(dict(parts))


def spec_content(plan: ModelPlan) -> str:
    """Return the digest of an entry of ashore.toml: model, engine and options, adapters, replicas.

    Threads and cache size depend on the machine and are left out.
    """
    options = plan.options
    asked = (plan.reference, options.kind, options.context_tokens, sorted(options.extra.items()), plan.adapters)
    return digest_of_value((*asked, plan.replicas))


def engine_digest(plan: ModelPlan) -> str:
    """Return the digest of the engine and of every option that may change an answer."""
    options = plan.options
    return digest_of_value((options.kind, options.context_tokens, sorted(options.extra.items())))


@dataclass(frozen=True, slots=True)
class Given:
    """One answer of a release, as stored."""

    at_s: float
    """Monotonic in a worker; of the calendar in the state."""
    failed: bool
    per_token_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLevel:
    """Answers at one level of load."""

    level: int
    count: int
    failed: int
    late: int
    kept: tuple[Given, ...]
    """The last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release: immutable."""

    name: str
    """`chat-2`; goes out as `x-ashore-release`."""
    alias: str
    """The alias that it is meant for, on which its rollout acts."""
    plan: ModelPlan
    """Model, engine and options, adapters, replicas."""
    parts: Mapping[str, str]
    """Digests of what decides the answers: `weights`, `tokenizer`, `template`, `engine`, `masking`, `cache`, of each
    adapter `adapter NAME`, and of each less exact variant that may compute in its place `rung NAME`."""
    content: str
    """One digest over all of that."""
    needed_bytes: int = 0
    """Memory that its hosts need: weights and KV cache of every replica; 0 where nothing is needed here."""
    origins: tuple[str, ...] = ()
    """Names in the store of its model and of each model that was made from; empty: an older ashore made the release."""
    gate: str = ""
    """How its evaluation stood when it was made: `passed`, `overridden: WHY`, `not evaluated`."""
    created_s: int = 0
    created_by: str = ""

    @property
    def manifests(self) -> frozenset[str]:
        """Manifests of the store that it is loaded from."""
        return frozenset(one for part, one in self.parts.items() if part == "weights" or part.startswith(RUNG))

    @property
    def models(self) -> frozenset[str]:
        """The names of its model and of the models that it was made from."""
        return frozenset((self.plan.name, *self.origins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The current state of a release."""

    release: str
    state: ReleaseState = "created"
    goal: Goal | None = None
    """While it warms up."""
    share: int = 0
    """Thousandths of the live requests that are copied to it (shadow), or that it answers (canary)."""
    steps: tuple[int, ...] = ()
    """Shares that follow in a canary, one every `step_s`, as long as nothing speaks against it."""
    step_s: int = 0
    then_promote: bool = False
    """Whether it goes live by itself after the last step, once the test says `no worse`."""
    automatic: bool = True
    """Whether it is rolled back automatically on the verdict `worse`."""
    cold: bool = False
    """Whether it was loaded where there is no memory for two: what was live ended first, and the way back loads."""
    standby_s: int = STANDBY_S
    """How long what it replaces stays warm."""
    replaced: str = ""
    """live: the release whose place it was promoted to; it is rolled back to that one automatically while that is warm.
    Empty: it came there by a rollback, by a fall, by ashore.toml or by hand, and nothing takes it back for what it
    answers: so no two releases give way to each other in turns."""
    until_s: int = 0
    """standby: when its hosts end. canary: when the next step is due. 0: at no time by itself."""
    since_s: int = 0
    load_s: float = 0.0
    """How long its hosts took to load, the last time; 0: they never did."""
    why: str = ""
    """What brought it here, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name that clients request, and the releases that answer."""

    name: str
    weights: tuple[tuple[str, int], ...]
    """Releases with thousandths, which come to 1000 together; those of a canary in it."""
    sticky: Sticky = "conversation"
    before: str = ""
    """The release that answered before; one goes back to it, warm or not. Empty: there was none."""
    spec_content: str = ""
    """What ashore.toml said last, so that a change there is noticed and anything else is not undone. Empty: it was made
    by command, and ashore.toml has no say."""
    homes: tuple[str, ...] = ()
    """Which of several homes on one state declare it; empty where a home has its state alone."""
    version: int = 1
    """Grows with every change, so that of two operators who saw the same, one is told."""
    changed_s: int = 0
    changed_by: str = ""

    @property
    def releases(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.weights)

    def weight(self, release: str) -> int:
        """Return the thousandths of a release; 0 where the alias does not lead there."""
        return dict(self.weights).get(release, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step in the history of an alias, stored permanently."""

    alias: str
    release: str
    verb: str
    """`create`, `warm`, `shadow`, `canary`, `promote`, `rollback`, `standby`, `retire`, `fail`, `alias`."""
    state: str
    """Where the release stood after it."""
    actor: str = ""
    why: str = ""
    at_ms: int = 0
    evidence: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """All releases and aliases at one moment."""

    releases: Mapping[str, Release] = field(default_factory=lambda: MappingProxyType({}))
    courses: Mapping[str, Course] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def manifests(self) -> frozenset[str]:
        """Manifests of the store that releases refer to. Failed releases do not count: there is no way back to them."""
        return frozenset(
            digest
            for release in self.releases.values()
            if release.plan.in_store and self.courses[release.name].state != "failed"
            for digest in release.manifests
        )

    def candidate_of(self, alias: str) -> Course | None:
        """Return the candidate of an alias; None if there is none."""
        return next((c for c in self._of(alias) if c.state in CANDIDATE), None)

    def standby_of(self, alias: str) -> Course | None:
        """Return the release that was replaced last and is still warm; None if there is none."""
        warm = [c for c in self._of(alias) if c.state == "standby"]
        return max(warm, key=lambda c: (c.since_s, c.release), default=None)

    def live_of(self, alias: str) -> tuple[Course, ...]:
        """Return the releases that answer for an alias, without a canary."""
        found = self.aliases.get(alias)
        if found is None:
            return ()
        return tuple(c for name in found.releases if (c := self.courses.get(name)) is not None and c.state == "live")

    def guarded_of(self, alias: str) -> Course | None:
        """Return the live release if it is rolled back automatically when worse than its warm predecessor; else
        None.
        """
        live, standby = self.live_of(alias), self.standby_of(alias)
        if len(live) != 1 or standby is None:
            return None
        course = live[0]
        is_due = course.automatic and course.replaced == standby.release
        return course if is_due and not self.named_by(standby.release) else None

    def named_by(self, release: str, *, but: str = "") -> tuple[str, ...]:
        """Return the aliases that lead to a release, except one."""
        return tuple(a.name for a in self.aliases.values() if a.name != but and release in a.releases)

    def _of(self, alias: str) -> tuple[Course, ...]:
        return tuple(c for c in self.courses.values() if self.releases[c.release].alias == alias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The changes of a move: written together or not at all."""

    courses: tuple[Course, ...] = ()
    aliases: tuple[Alias, ...] = ()
    removed: tuple[str, ...] = ()
    """Aliases that are no more; their history stays."""
    events: tuple[Event, ...] = ()
