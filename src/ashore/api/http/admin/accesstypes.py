"""What the admin routes of the access room take and give. Times are seconds since the Unix epoch."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(max_length=128)]
Title = Annotated[str, msgspec.Meta(max_length=200)]
MAX_VERSION = 2**53
Names = Annotated[list[Annotated[str, msgspec.Meta(max_length=300)]], msgspec.Meta(max_length=1000)]


class TenantIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to make."""

    name: Name
    title: Title = ""


class TenantChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays."""

    title: Title | None = None
    disabled: bool | None = None


class TenantOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    name: str
    title: str
    disabled: bool
    created_at: int


class TenantList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/tenants`."""

    items: list[TenantOut]


class KeyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make, with what narrows it. Empty lists narrow nothing."""

    title: Title = ""
    models: Names = []
    """Patterns of aliases, `chat`, `deepseek-*`."""
    actions: Names = []
    """Patterns of actions, `infer`, `budget:*`."""
    networks: Names = []
    """Networks it may be used from, `10.1.0.0/16`."""
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=316_224_000)] | None = None
    """None: it does not expire."""


class OwnedKeyIn(KeyIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make for an account."""

    owner: Name
    """Id of the user or service account."""


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key. The key itself is shown when it is made, and never again."""

    id: str
    owner: str
    tenant: str
    title: str
    models: list[str]
    actions: list[str]
    networks: list[str]
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    """Within half a minute; None: never, or not since ashore counts it."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/keys`."""

    items: list[KeyOut]
    next: str | None
    """What to send as `after` for more; None: there is none."""


class NewKeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made: the only time that it is shown."""

    key: str
    record: KeyOut


class RotateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is replaced."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=2_592_000)] = 86_400
    """For how long both keys open."""


class AccountIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user or service account to make."""

    id: Name
    tenant: Name = "default"
    title: Title = ""
    groups: Names = []
    roles: Names = []
    key: KeyIn | None = None
    """A key to make with it."""


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays."""

    title: Title | None = None
    disabled: bool | None = None


class AccountOut(msgspec.Struct, frozen=True, kw_only=True):
    """A user or service account."""

    id: str
    kind: Literal["user", "service"]
    tenant: str
    title: str
    groups: list[str]
    disabled: bool
    created_at: int


class AccountList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of the lists of users and service accounts."""

    items: list[AccountOut]
    next: str | None


class AccountDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One account, with the roles that it has by itself and by its groups."""

    account: AccountOut
    roles: list[str]


class AccountMade(msgspec.Struct, frozen=True, kw_only=True):
    """An account that was made, and its key where one was asked for."""

    account: AccountOut
    key: NewKeyOut | None


class GroupIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group to make."""

    name: Name
    title: Title = ""


class GroupOut(msgspec.Struct, frozen=True, kw_only=True):
    """A group and who is in it."""

    name: str
    title: str
    members: list[str]
    created_at: int


class GroupList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/groups`."""

    items: list[GroupOut]


class MembersChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts to put into a group and to take out of it."""

    add: Names = []
    remove: Names = []


class MembersOut(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in a group now."""

    items: list[str]


class RoleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of a custom role."""

    title: Title = ""
    rules: Names
    """`infer on model/chat`, `deny infer on model/deepseek-*`."""


class RoleOut(msgspec.Struct, frozen=True, kw_only=True):
    """A role."""

    name: str
    title: str
    rules: list[str]
    built_in: bool


class RoleList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/roles`."""

    items: list[RoleOut]


class BindingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject has a role: `user/ID`, `service/ID`, `group/NAME`, `tenant/NAME`, `everyone`."""

    subject: Annotated[str, msgspec.Meta(max_length=200)]
    role: Name


class BindingChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Roles to give and to take away."""

    grant: Annotated[list[BindingBody], msgspec.Meta(max_length=1000)] = []
    revoke: Annotated[list[BindingBody], msgspec.Meta(max_length=1000)] = []


class BindingList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/bindings`."""

    items: list[BindingBody]


class NamedRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom role in a policy."""

    name: Name
    title: Title = ""
    rules: Annotated[list[Annotated[str, msgspec.Meta(max_length=500)]], msgspec.Meta(max_length=100_000)]


class PolicyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy to put in the place of the one in force."""

    base_version: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
    """Version that was read before the change; 409 when it is no longer the one in force."""
    roles: Annotated[list[NamedRole], msgspec.Meta(max_length=10_000)] = []
    bindings: Annotated[list[BindingBody], msgspec.Meta(max_length=100_000)] = []
    comment: Annotated[str, msgspec.Meta(max_length=500)] = ""
    dry_run: bool = False


class PolicyOut(msgspec.Struct, frozen=True, kw_only=True):
    """Custom roles and bindings. The built-in roles are in `GET /admin/v1/roles`."""

    version: int
    roles: list[NamedRole]
    bindings: list[BindingBody]


class PolicyApplied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change of the policy."""

    version: int
    """Of the policy in force now."""
    in_force: bool
    """False for a dry run, and where nothing changes."""
    changes: list[str]
    """`+ role reader: infer on model/chat`, `- user/alice has developer`."""


class VersionOut(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the policy."""

    version: int
    author: str
    comment: str
    created_at: int


class VersionList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/policy/history`, the newest first."""

    items: list[VersionOut]


class HeldRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role, and the subject it was given to."""

    role: str
    by: str


class CanOut(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an account may do something, by which rule, and why."""

    allowed: bool
    action: str
    resource: str
    why: str
    rule: str
    role: str
    by: str
    """Subject to which the role was given."""
    roles: list[HeldRole]


class ActionOut(msgspec.Struct, frozen=True, kw_only=True):
    """An action of which rules speak."""

    name: str
    protects: str
    office: str | None


class ActionList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/actions`."""

    items: list[ActionOut]


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of every removal."""

    removed: str


class Consented(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a consent."""

    consented_to: str
    holds_for_s: int
