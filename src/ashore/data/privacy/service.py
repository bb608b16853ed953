"""Masking state of one process: the policy in force, the finder, the pseudonym secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ashore.core.errors import InvalidSpec, MissingExtra
from ashore.core.wanted import check_wanted
from ashore.data.privacy.custom import CustomFinder
from ashore.data.privacy.detect import Detectors
from ashore.data.privacy.model import Action, Entity, Finder
from ashore.data.privacy.policy import PrivacyPolicy, Rules, rules_for, stamp_of
from ashore.data.privacy.table import Table, conversation_key

PIECE_CHARS: Final = 65_536
"""Of which entities begin in one piece."""
BEFORE_CHARS: Final = 512
"""Context before a piece: no finder looks further back."""
BEHIND_CHARS: Final = 24_576
"""Context after a piece: the longest entity, a private key or a token, ends within."""
MakeFinder = Callable[[PrivacyPolicy], Finder]
MOST_REMEMBERED: Final = 4_096
"""Pairs of tenant and alias whose rules are remembered; with more, all are forgotten."""


class InPieces:
    """A finder that passes one piece at a time to another one. Short texts are passed whole."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def kinds(self) -> tuple[str, ...]:
        return self._finder.kinds

    @property
    def name(self) -> str:
        return self._finder.name

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps.

        Raises:
            NoLongerWanted: the caller has gone.
        """
        check_wanted()
        if len(text) <= PIECE_CHARS + BEHIND_CHARS:
            return self._finder.find(text)
        found: list[Entity] = []
        end = 0
        for start in range(0, len(text), PIECE_CHARS):
            check_wanted()
            first = max(0, start - BEFORE_CHARS)
            for one in self._finder.find(text[first : start + PIECE_CHARS + BEHIND_CHARS]):
                begin = first + one.start
                if max(start, end) <= begin < start + PIECE_CHARS:
                    end = first + one.end
                    found.append(Entity(one.kind, begin, end))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the policy makes of a text."""

    entities: tuple[Entity, ...]
    actions: Mapping[str, Action]
    """Actions of every kind."""
    masked: str
    blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A policy with its compiled parts. Replaced as a whole."""

    policy: PrivacyPolicy
    finder: Finder
    stamp: bytes
    rules: dict[tuple[str, ...], Rules] = field(default_factory=dict)
    """By tenant and alias, cached on first use."""


class Privacy:
    """Masking in one process. `apply` may be called from any thread; a request keeps the policy of its arrival."""

    def __init__(self, policy: PrivacyPolicy, *, secret: bytes, make_finder: MakeFinder | None = None) -> None:
        """Create it.

        Args:
            policy: Policy in force.
            secret: Key of pseudonyms; the same in every process, so that a conversation may continue in another one.
            make_finder: Creates the finder of a policy; default: `finder_of`.

        Raises:
            InvalidSpec: an expression of the operator's cannot be used.
            MissingExtra: the detector is not installed.
        """
        self._secret = secret
        self._make_finder = make_finder or finder_of
        self.now = self._prepare(policy)
        """Policy in force."""

    def apply(self, policy: PrivacyPolicy) -> None:
        """Apply another policy. An unusable one changes nothing.

        Raises:
            InvalidSpec: an expression of the operator's cannot be used.
            MissingExtra: the detector is not installed.
        """
        if policy != self.now.policy:
            self.now = self._prepare(policy)

    def check(self, policy: PrivacyPolicy) -> None:
        """Check that a policy could be applied.

        Raises:
            InvalidSpec: an expression of the operator's cannot be used, or the detector is not installed here.
        """
        try:
            self._prepare(policy)
        except MissingExtra as fault:
            raise InvalidSpec(fault.message, hint=fault.hint) from fault

    def examine(self, text: str, *, tenant: str, alias: str, behind: tuple[str, ...] = ()) -> Examination:
        """Return the effect of the policy on a text sent to a model, without sending it."""
        now = self.now
        table, rules = self.table(tenant=tenant, principal="", alias=alias, behind=behind, beginning="", now=now)
        table.reserve(text)
        masked = table.mask(text)
        return Examination(
            entities=now.finder.find(text), actions=rules.prompts, masked=masked, blocked=table.is_blocked
        )

    def rules(self, tenant: str, alias: str, *, behind: tuple[str, ...] = (), now: InForce | None = None) -> Rules:
        """Return the rules of a tenant at an alias, and at the models `behind` it; with `now`, those in force then."""
        now = now or self.now
        known = now.rules.get((tenant, alias, *behind))
        if known is None:
            if len(now.rules) >= MOST_REMEMBERED:
                now.rules.clear()
            known = rules_for(now.policy, tenant, alias, now.finder.kinds, behind=behind)
            now.rules[tenant, alias, *behind] = known
        return known

    def table(
        self,
        *,
        tenant: str,
        principal: str,
        alias: str,
        beginning: str,
        behind: tuple[str, ...] = (),
        now: InForce | None = None,
    ) -> tuple[Table, Rules]:
        """Return an empty table for one request, and its rules.

        Args:
            tenant: Tenant of the principal.
            principal: Calling principal.
            alias: Alias of the model.
            beginning: Beginning of the conversation, equal in all its requests.
            behind: The models that answer, where the alias is not their own name.
            now: Policy to use, so that the caller uses the same one throughout; None: the one in force.
        """
        now = now or self.now
        rules = self.rules(tenant, alias, behind=behind, now=now)
        key = partial(conversation_key, self._secret, tenant, principal, beginning)
        return Table(now.finder, rules, key), rules

    def blacken(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return texts with a placeholder for all personal data, whatever the policy does with it.

        For texts that a third person reads later: equal values have equal placeholders in all of them, and nothing can
        be restored.
        """
        finder = self.now.finder
        table = Table(finder, Rules(prompts=dict.fromkeys(finder.kinds, "mask"), answers={}, label="off"), bytes)
        for text in texts:
            table.reserve(text)
        return tuple(map(table.mask, texts))

    def _prepare(self, policy: PrivacyPolicy) -> InForce:
        finder = self._make_finder(policy)
        return InForce(policy=policy, finder=finder, stamp=stamp_of(policy, finder.name))


def finder_of(policy: PrivacyPolicy) -> Finder:
    """Return the finder of the policy's detector, combined with the operator's dictionaries and expressions.

    Raises:
        InvalidSpec: an expression cannot be used.
        MissingExtra: the detector is not installed.
    """
    finder: Finder = Detectors()
    if policy.detector == "presidio":
        from ashore.data.privacy.presidio import PresidioFinder

        finder = PresidioFinder(finder)
    return with_custom(finder, policy)


def with_custom(finder: Finder, policy: PrivacyPolicy) -> Finder:
    """Return a finder combined with the operator's dictionaries and expressions, which reads long texts in pieces.

    Raises:
        InvalidSpec: an expression cannot be used.
    """
    return InPieces(CustomFinder(finder, policy) if policy.custom_kinds() else finder)
