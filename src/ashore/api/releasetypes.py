"""What the calls of releases take and give over HTTP and gRPC. Shares are percent; times are seconds, or since the Unix
epoch. The names are those of `proto/ashore/v1/releases.proto`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(max_length=200)]
Why = Annotated[str, msgspec.Meta(max_length=300)]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=31_536_000)]
Version = Annotated[int, msgspec.Meta(ge=0)] | None
MAX_ITEMS = 64
Names = Annotated[list[Name], msgspec.Meta(max_length=MAX_ITEMS)]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that needs no more than what it is about."""


class ListIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which releases are listed."""

    alias: Name = ""
    """Empty: those of every alias."""


class HistoryIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far back a history goes."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    """Events, the newest first."""


class ReleaseIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release to make."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    """Name in the store, `smollm2@int4`."""
    alias: Name
    name: Name = ""
    """Empty: the alias and the next number."""
    engine: Name = ""
    """Empty: what suits the model."""
    options: Annotated[dict[str, str | int | float | bool], msgspec.Meta(max_length=MAX_ITEMS)] = {}
    adapters: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_ITEMS)] = {}
    """Folder of each, by name, beside those of what is live."""
    drop_adapters: Names = []
    """Adapters of what is live that it is to lack."""
    replicas: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """0: as many as what is live has."""
    override: Why = ""
    """Why it is made although its evaluation failed."""


class ShadowIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release is shadowed."""

    share_percent: Percent = 10.0
    """Of the live requests, copied."""
    automatic: bool = True
    """Whether it ends by itself where it is found worse."""
    why: Why = ""
    version: Version = None
    """Of the alias as the operator saw it."""


class CanaryIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release becomes a canary, or how much of one it is."""

    share_percent: Percent = 5.0
    steps_percent: Annotated[list[Percent], msgspec.Meta(max_length=MAX_ITEMS)] = []
    """Shares that follow."""
    every_s: Seconds = 0
    then_promote: bool = False
    """Whether it goes live after the last step, once it is found no worse."""
    automatic: bool = True
    drop_adapters: Names = []
    """With `then_promote`: adapters that answer now and may be refused once it is live."""
    why: Why = ""
    version: Version = None


class PromoteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release goes live."""

    standby_s: Seconds = 3600
    """How long the one before stays warm; 0: not at all."""
    cold_standby: bool = False
    """Where there is no memory for two: what is live ends first, and requests wait."""
    automatic: bool = True
    """Whether it is taken back by itself while the one before is warm."""
    override: Why = ""
    """Why it goes live although it was found worse, or never compared with what is live."""
    drop_adapters: Names = []
    """Adapters that answer now and may be refused from then on."""
    why: Why = ""
    version: Version = None


class RollbackIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far back an alias goes."""

    to: Name = ""
    """An earlier release; empty: the candidate ends, or the release before answers, loaded again where it has ended."""
    cold_standby: bool = False
    """Where one has to load and there is no memory for two: what is live ends first. Where that was loaded so itself,
    this is meant."""
    why: Why = ""
    version: Version = None


class RetireIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a release ends."""

    why: Why = ""


class AliasIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias is to lead."""

    weights_percent: Annotated[dict[str, Percent], msgspec.Meta(max_length=MAX_ITEMS)]
    sticky: Literal["conversation", "key"] | None = None
    why: Why = ""
    version: Version = None


class ReleaseOut(msgspec.Struct, frozen=True, kw_only=True):
    """A release and where it stands."""

    name: str
    alias: str
    model: str
    engine: str
    replicas: int
    state: str
    goal: str | None
    share_percent: float
    steps_percent: list[float]
    until: int | None
    """When its time is over or its next step is due."""
    since: int
    why: str
    automatic: bool
    weights_percent: dict[str, float]
    """By alias: how much of it this release answers."""
    needed_bytes: int
    gate: str
    content: str
    parts: dict[str, str]
    options: dict[str, str | int | float | bool]
    adapters: dict[str, str]
    created_at: int
    created_by: str
    load_s: float | None
    """How long its hosts took to load, the last time."""
    gate_verdict: str | None = None
    """How the evaluation of its model stands now: `passed`, `failed: WHY` or `none`; null in lists and after
    moves."""


class ReleaseList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/releases`."""

    items: list[ReleaseOut]


class AliasOut(msgspec.Struct, frozen=True, kw_only=True):
    """An alias."""

    name: str
    weights_percent: dict[str, float]
    sticky: str
    before: str
    """The release that answered before, and that one goes back to; empty: there was none."""
    version: int
    changed_at: int
    changed_by: str


class AliasList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/aliases`."""

    items: list[AliasOut]


class AliasStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/aliases/{alias}/status`."""

    alias: AliasOut
    releases: list[ReleaseOut]
    """Those that have hosts, or are getting them."""


class AliasRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `DELETE /admin/v1/aliases/{alias}`."""

    name: str
    removed: bool = True


class FindingOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison with what is live says by now."""

    stage: str
    verdict: str
    """`no worse`, `worse` or `go on`."""
    e_value: float
    """Evidence that it is worse; 20 is enough."""
    requests: int
    measure: str
    """What speaks loudest against it, and in which slice."""
    slice: str
    details: dict[str, str | int | float]
    needed: int
    """About how many requests it takes until it is no worse, as they were so far; 0: that cannot be said."""
    summary: str
    """All of it in one sentence."""


class FindingList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/releases/{release}/evidence`."""

    items: list[FindingOut]


class BurnOut(msgspec.Struct, frozen=True, kw_only=True):
    """How fast an objective of `[release.slo]` is used up: 1 uses up just what it allows."""

    objective: str
    """`errors` or `ttft`."""
    allowed_percent: float
    taken_back_from: float
    """A rate from which on, in both windows, a canary is taken back."""
    long_window_s: int
    long_rate: float
    short_window_s: int
    short_rate: float
    requests: int
    """In the long window."""
    bad: int
    alone: bool
    """Whether only that counts which the release alone is to blame for, by which one that is live is taken back."""


class BurnList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/releases/{release}/burn`; empty where nothing is promised, or nobody asked."""

    items: list[BurnOut]


class PairOut(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of a shadow and of what was live to one request. Whatever is found of persons in it is masked."""

    at: int
    distance: float
    """From 0, the same answer, to 1."""
    meaning: float | None
    """Cosine distance in what they say; null where no embedder is loaded."""
    tenant: str
    route: str
    turns: int
    """Messages of the conversation; the last one is shown."""
    prompt: str
    live: str
    candidate: str
    candidate_failed: bool


class PairList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/releases/{release}/pairs`, the most different one first."""

    items: list[PairOut]


class EventOut(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the history of an alias."""

    at: float
    alias: str
    release: str
    verb: str
    state: str
    actor: str
    why: str
    evidence: dict[str, str | int | float]


class EventList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/aliases/{alias}/history`, the newest first."""

    items: list[EventOut]
