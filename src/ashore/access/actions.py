"""Every action that ashore asks the authority about, and which of the three offices it belongs to.

An action is `noun:verb`, or one word. The three offices are those of the separation of duties: whoever may do an action
of one of them may do none of another's. Actions of no office are for anybody who gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Office = Literal["system", "security", "audit"]

INFER: Final = "infer"
STORED_SHOW: Final = "stored:show"
STORED_REMOVE: Final = "stored:remove"
METRICS_READ: Final = "metrics:read"
ACCESS_READ: Final = "access:read"
ACCESS_WRITE: Final = "access:write"
KEY_ROTATE_OWN: Final = "key:rotate-own"
POLICY_READ: Final = "policy:read"
POLICY_WRITE: Final = "policy:write"
ROLE_GRANT: Final = "role:grant"
AUDITOR_CONSENT: Final = "auditor:consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action."""

    name: str
    protects: str
    """What one may do with it, and on which resources."""
    office: Office | None = None

    @property
    def is_read(self) -> bool:
        """Whether it only shows something."""
        return self.name.endswith(":read")


ACTIONS: Final = (
    Action(
        name=INFER,
        protects="answers, embeddings and token counts of `model/ALIAS`; one's own files, responses and jobs",
    ),
    Action(
        name=STORED_SHOW,
        protects="others' files, batches, stored responses and jobs, with what is in them: `tenant/NAME/stored/OWNER`",
    ),
    Action(
        name=STORED_REMOVE,
        protects="cancelling and deleting others' files, batches, responses and jobs: `tenant/NAME/stored/OWNER`",
    ),
    Action(name=METRICS_READ, protects="`/metrics`, `/openapi.json` and the counters of the cache from elsewhere"),
    Action(name=ACCESS_READ, protects="the list of tenants, users, service accounts, groups and keys (never secrets)"),
    Action(
        name=ACCESS_WRITE,
        protects="tenants, users, service accounts, groups, and the keys of others: `tenant/NAME/…`",
        office="security",
    ),
    Action(name=KEY_ROTATE_OWN, protects="replacing the key that one is using: `key/ID`"),
    Action(name=POLICY_READ, protects="roles, bindings, the history of the policy, and asking what others may do"),
    Action(name=POLICY_WRITE, protects="custom roles and the whole policy: `role/NAME`, `policy`", office="security"),
    Action(name=ROLE_GRANT, protects="giving a role to a subject and taking it away: `role/NAME`", office="security"),
    Action(
        name=AUDITOR_CONSENT,
        protects="agreeing to what a security officer does to an auditor's account: `tenant/NAME/user/ID`",
        office="system",
    ),
    Action(name="budget:read", protects="budgets: `budget/NAME`"),
    Action(name="budget:write", protects="setting budgets: `budget/NAME`", office="system"),
    Action(
        name="usage:read",
        protects="usage by user, model and day: of the own tenant by `server`, of others by `tenant/NAME`",
    ),
    Action(name="audit:search", protects="reading the record", office="audit"),
    Action(name="audit:verify", protects="checking the record", office="audit"),
    Action(name="audit:export", protects="taking the record out, signed", office="audit"),
    Action(name="audit:content", protects="turning the logging of prompts and answers on or off", office="security"),
    Action(name="privacy:detect", protects="trying the masking policy on a text"),
    Action(name="privacy:read", protects="the masking policy"),
    Action(name="privacy:write", protects="changing the masking policy", office="security"),
    Action(name="model:pull", protects="bringing models into the store: `model/NAME`", office="system"),
    Action(name="model:seal", protects="sealing, unsealing and re-keying models: `model/NAME`", office="system"),
    Action(name="model:remove", protects="removing models from the store: `model/NAME`", office="system"),
    Action(
        name="cache:read",
        protects="what the cache of answers holds and did: of the own tenant by `server`, of others by `tenant/NAME`",
    ),
    Action(
        name="cache:purge",
        protects="making kept answers be found no more: `tenant/NAME`, `model/ALIAS`, one entry or all: `server`",
    ),
    Action(name="job:read", protects="the queue of all tenants, without what is in the jobs"),
    Action(name="job:cancel", protects="cancelling jobs of all tenants", office="system"),
    Action(name="server:reload", protects="applying a changed ashore.toml", office="system"),
    Action(name="release:read", protects="releases and their state: `release/NAME`"),
    Action(
        name="release:pairs",
        protects="masked questions and answers on which two releases differ: `release/NAME`, and of other tenants "
        "`tenant/NAME` beside it",
    ),
    Action(
        name="release:write",
        protects="making and moving releases: `release/NAME` and `alias/ALIAS`, both for one move",
        office="system",
    ),
)

BY_NAME: Final[Mapping[str, Action]] = MappingProxyType({action.name: action for action in ACTIONS})


def matches_action(pattern: str, name: str) -> bool:
    """Return whether `pattern` (`*`, `noun:*` or a name) means the action `name`."""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def offices_of(pattern: str) -> frozenset[Office]:
    """Return the offices whose actions `pattern` means."""
    return frozenset(a.office for a in ACTIONS if a.office is not None and matches_action(pattern, a.name))
