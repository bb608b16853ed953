"""Calls of the privacy policy: try it on a text, read it, change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ashore.core.names import check_named
from ashore.data.privacy.model import Action
from ashore.data.privacy.policy import EVERY, AnswerAction, PrivacyPolicy, rules_for
from ashore.kit.call import Actor, Call, Nothing

if TYPE_CHECKING:
    from ashore.data.privacy.desk import PrivacyDesk
    from ashore.data.privacy.service import Examination
    from ashore.data.privacy.sql import StoredPolicy


class DetectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text to check."""

    text: str
    tenant: str = ""
    """Tenant whose policy applies. Default: the caller's tenant."""
    model: str = "*"
    """Alias the text would be sent to."""


class EntityOut(msgspec.Struct, frozen=True):
    """One finding. Positions count characters (Unicode code points) of the text that was sent."""

    kind: str
    start: int
    end: int
    action: str


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """The findings. The values themselves are not repeated."""

    items: list[EntityOut]
    counts: dict[str, int]
    masked: str
    """The text as a model would see it."""
    blocked: bool


class PolicyOut(msgspec.Struct, frozen=True, kw_only=True):
    """The policy in force."""

    version: int
    source: Literal["state", "ashore.toml", "built in"]
    policy: PrivacyPolicy
    in_prompts: dict[str, Action]
    """What is done with each kind found in a prompt, where no route of the policy says otherwise."""
    in_answers: dict[str, AnswerAction]
    """What is done with each kind that the model utters by itself, where no route says otherwise."""
    kinds: list[str]
    """Every kind that can be detected."""


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new policy."""

    replaces: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Version on which the change is based."""
    policy: PrivacyPolicy | None
    """Null to use the policy of ashore.toml again."""
    dry_run: bool = False
    """Validate the policy without changing it."""


def detect(desk: PrivacyDesk, actor: Actor, asked: DetectRequest) -> Detected:
    """Try the privacy policy on a text."""
    check_named(desk.names, "tenant", asked.tenant)
    tenant = asked.tenant or actor.principal.tenant
    behind = desk.behind(asked.model)
    return detected(desk.privacy.examine(asked.text, tenant=tenant, alias=asked.model, behind=behind))


def show_policy(desk: PrivacyDesk, actor: Actor, asked: Nothing) -> PolicyOut:
    """Show the privacy policy in force."""
    return _shown(desk, desk.stored())


def change_policy(desk: PrivacyDesk, actor: Actor, asked: PolicyChange) -> PolicyOut:
    """Change the privacy policy. Takes effect in every process within one second."""
    if asked.dry_run:
        return _shown(desk, desk.would_change(asked.policy, replaces=asked.replaces))
    return _shown(desk, desk.change(asked.policy, replaces=asked.replaces, actor=actor))


DETECT: Final = Call(
    "privacy", "detect", "POST", "/privacy/detect", "privacy:detect", detect, on_server=True, reads_text=True
)
SHOW: Final = Call("privacy policy", "show", "GET", "/privacy/policy", "privacy:read", show_policy, on_server=True)
CHANGE: Final = Call("privacy policy", "set", "PUT", "/privacy/policy", "privacy:write", change_policy, on_server=True)
CALLS: Final = (DETECT, SHOW, CHANGE)


def detected(found: Examination) -> Detected:
    """Return what was found in the form of the interface."""
    counts: dict[str, int] = {}
    for one in found.entities:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return Detected(
        items=[EntityOut(one.kind, one.start, one.end, found.actions[one.kind]) for one in found.entities],
        counts=counts,
        masked=found.masked,
        blocked=found.blocked,
    )


def _shown(desk: PrivacyDesk, stored: StoredPolicy) -> PolicyOut:
    policy = stored.policy or desk.from_file
    kinds = list(dict.fromkeys((*desk.privacy.now.finder.kinds, *policy.custom_kinds())))
    rules = rules_for(policy, EVERY, EVERY, kinds)
    from_file: Literal["ashore.toml", "built in"] = "built in" if policy == PrivacyPolicy() else "ashore.toml"
    return PolicyOut(
        version=stored.version,
        source=from_file if stored.policy is None else "state",
        policy=policy,
        in_prompts=dict(rules.prompts),
        in_answers=dict(rules.answers),
        kinds=kinds,
    )
