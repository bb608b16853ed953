"""The administrative calls of the access room, by noun."""

from typing import Final

from ashore.control.access.calls import keys, people, policy
from ashore.control.access.calls.desk import open_desk
from ashore.kit.call import Call

CALLS: Final[tuple[Call, ...]] = (
    people.LIST_TENANTS,
    people.SHOW_TENANT,
    people.CREATE_TENANT,
    people.CHANGE_TENANT,
    *people.USERS,
    *people.SERVICES,
    people.CONSENT,
    people.LIST_GROUPS,
    people.SHOW_GROUP,
    people.CREATE_GROUP,
    people.CHANGE_MEMBERS,
    people.REMOVE_GROUP,
    keys.LIST_KEYS,
    keys.SHOW_KEY,
    keys.CREATE_KEY,
    keys.ROTATE_KEY,
    keys.REVOKE_KEY,
    policy.LIST_ROLES,
    policy.SHOW_ROLE,
    policy.PUT_ROLE,
    policy.REMOVE_ROLE,
    policy.HOLDERS,
    policy.BIND,
    policy.LIST_ACTIONS,
    policy.SHOW_POLICY,
    policy.APPLY_POLICY,
    policy.HISTORY,
    policy.CAN,
    policy.WHOAMI,
)
