"""The action for each kind, by tenant and model. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from ashore.data.privacy.model import IDENTIFIERS, KINDS, Action
from ashore.kit.section import Section, toml

T = TypeVar("T")

EVERY: Final = "*"
"""Any kind, tenant or alias."""

AnswerAction = Literal["allow", "mask", "block"]
"""What is done with what the model utters by itself."""
DetectorName = Literal["own", "presidio"]
TraceContent = Literal["off", "masked"]
LabelMode = Literal["off", "metadata", "notice"]
"""off. metadata: the answer says in its metadata that it was generated. notice: its text says so too."""

PROMPT_DEFAULTS: Final[Mapping[str, Action]] = dict.fromkeys(IDENTIFIERS, "mask")
"""What a home does that nobody has told otherwise: see docs/adr/0010-masking.md."""

STRICTER: Final[tuple[Action, ...]] = ("allow", "pseudonymise", "mask", "block")
"""Each action is stricter than the ones before it."""
LABELS: Final[tuple[LabelMode, ...]] = ("off", "metadata", "notice")
"""Each label says more than the ones before it."""


class Expression(Section, frozen=True, kw_only=True):
    """A kind of the operator's own, by an expression in RE2's syntax."""

    kind: Annotated[str, Meta(examples=['"contract"'])]
    """Name of the kind."""
    pattern: Annotated[str, Meta(examples=["'C-[0-9]{6}'"])]
    """Expression that finds it."""
    ignore_case: bool = False
    """Whether capital and small letters are the same."""


class Dictionary(Section, frozen=True, kw_only=True):
    """A kind of the operator's own, by its words."""

    kind: Annotated[str, Meta(examples=['"project"'])]
    """Name of the kind."""
    words: Annotated[tuple[str, ...], Meta(examples=['["Blue Heron"]'])]
    """Words and phrases that are of it."""
    ignore_case: bool = True
    """Whether capital and small letters are the same."""


class PrivacyActions(Section, frozen=True, kw_only=True):
    """Actions for one tenant, one alias, or one tenant at one alias."""

    tenant: str = EVERY
    """Tenant that it holds for; `*`: every one."""
    alias: str = EVERY
    """Alias that it holds for; `*`: every one."""
    prompts: dict[str, Action] = msgspec.field(default_factory=dict)
    """What is done with what prompts contain, by kind; `*` is any that is not named."""
    answers: dict[str, AnswerAction] = msgspec.field(default_factory=dict)
    """What is done with what the model utters by itself, by kind."""


class PrivacyRoute(PrivacyActions, frozen=True, kw_only=True):
    """What holds for one tenant, one alias, or one tenant at one alias."""

    label: LabelMode | None = None
    """Left out: as for everybody."""
    trace_content: TraceContent | None = None
    """Left out: as for everybody."""


class PrivacyFloor(PrivacyActions, frozen=True, kw_only=True):
    """The least that is done, whatever the other rules say. Where several are about a request, the strictest counts."""


class PrivacyPolicy(Section, frozen=True, kw_only=True):
    """What is masked, for whom; also the body of `/admin/v1/privacy/policy`."""

    detector: DetectorName = "own"
    """What finds personal data: our own detectors, or Presidio where it is installed."""
    prompts: Annotated[dict[str, Action], Meta(extra={"absent": "as built in"})] = msgspec.field(default_factory=dict)
    """What is done with what prompts contain, by kind; `*` is any that is not named."""
    answers: Annotated[dict[str, AnswerAction], Meta(extra={"absent": "as built in"})] = msgspec.field(
        default_factory=dict
    )
    """What is done with what the model utters by itself, by kind."""
    label: LabelMode = "off"
    """Whether answers say that they were generated: `metadata`, or `notice` in the text too."""
    trace_content: TraceContent = "off"
    """Whether traces (`[otel]`) carry prompts and answers: `masked`, with everything masked that is found, also what
    the model may see."""
    routes: Annotated[tuple[PrivacyRoute, ...], toml("route")] = ()
    expressions: Annotated[tuple[Expression, ...], toml("expression")] = ()
    dictionaries: Annotated[tuple[Dictionary, ...], toml("dictionary")] = ()
    floors: Annotated[tuple[PrivacyFloor, ...], toml("floor")] = ()

    def custom_kinds(self) -> tuple[str, ...]:
        """Return the operator's own kinds, each once."""
        return tuple(dict.fromkeys([*(one.kind for one in self.expressions), *(one.kind for one in self.dictionaries)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one request."""

    prompts: Mapping[str, Action]
    """Of every kind that may be found."""
    answers: Mapping[str, AnswerAction]
    label: LabelMode
    trace_content: TraceContent = "off"
    reads_answers: bool = field(init=False)
    """Whether anything is done with what the model utters by itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads_answers", any(action != "allow" for action in self.answers.values()))

    def is_as_strict_as(self, other: Rules) -> bool:
        """Return whether these rules do at least what others do, for every kind and with every answer."""
        return (
            all(_rank(self.prompts, kind) >= _rank(other.prompts, kind) for kind in other.prompts)
            and all(_rank(self.answers, kind) >= _rank(other.answers, kind) for kind in other.answers)
            and LABELS.index(self.label) >= LABELS.index(other.label)
            and (self.trace_content == "off" or other.trace_content != "off")
        )


def rules_for(
    policy: PrivacyPolicy, tenant: str, alias: str, kinds: Iterable[str] = KINDS, *, behind: Sequence[str] = ()
) -> Rules:
    """Return the rules of a tenant at an alias: for each kind, the most specific route decides.

    The order is: tenant at the alias, tenant, alias, everybody. If the alias leads to models of other names (`behind`),
    their routes count as its own, after those that name it. Floors make the result stricter, never looser.
    """
    names = (alias, *behind)
    levels = [
        route
        for wanted in (
            *((tenant, name) for name in names),
            (tenant, EVERY),
            *((EVERY, name) for name in names),
            (EVERY, EVERY),
        )
        for route in policy.routes
        if route.tenant == wanted[0] and _is_alias(route.alias, wanted[1])
    ]
    prompts: dict[str, Action] = {}
    answers: dict[str, AnswerAction] = {}
    for kind in kinds:
        prompts[kind] = _first(
            kind, [route.prompts for route in levels] + [policy.prompts], PROMPT_DEFAULTS.get(kind, _unnamed(kind))
        )
        answers[kind] = _first(kind, [route.answers for route in levels] + [policy.answers], "allow")
    for floor in policy.floors:
        if floor.tenant in (EVERY, tenant) and (
            floor.alias == EVERY or any(_is_alias(floor.alias, name) for name in names)
        ):
            for kind in prompts:
                prompts[kind] = max(prompts[kind], _first(kind, [floor.prompts], "allow"), key=STRICTER.index)
                answers[kind] = max(answers[kind], _first(kind, [floor.answers], "allow"), key=STRICTER.index)
    label = next((route.label for route in levels if route.label is not None), policy.label)
    traced = next((route.trace_content for route in levels if route.trace_content is not None), policy.trace_content)
    return Rules(prompts=prompts, answers=answers, label=label, trace_content=traced)


def hidden_kinds(policy: PrivacyPolicy, alias: str) -> tuple[str, ...]:
    """Return the kinds that no prompt at an alias shows to its model, of callers whom no rule of a tenant is about."""
    rules = rules_for(policy, EVERY, alias, (*KINDS, *policy.custom_kinds()))
    return tuple(sorted(kind for kind, action in rules.prompts.items() if action != "allow"))


def stamp_of(policy: PrivacyPolicy, finder: str) -> bytes:
    """Return a stamp that changes with the policy or the detectors."""
    return hashlib.blake2b(
        finder.encode() + b"\n" + msgspec.json.encode(policy, order="deterministic"), digest_size=16
    ).digest()


def _is_alias(named: str, alias: str) -> bool:
    """Return whether a route's alias matches; a route of a model also applies to its adapters, `ALIAS:NAME`."""
    return named == alias or alias.startswith(named + ":")


def _rank(actions: Mapping[str, Action] | Mapping[str, AnswerAction], kind: str) -> int:
    return STRICTER.index(actions.get(kind, "allow"))


def _unnamed(kind: str) -> Action:
    """The operator's own kinds without an action are masked by default."""
    return "allow" if kind in KINDS else "mask"


def _first(kind: str, levels: Iterable[Mapping[str, T]], default: T) -> T:
    for level in levels:
        found = level.get(kind, level.get(EVERY))
        if found is not None:
            return found
    return default
