"""Who a caller is and what they may do: keys, tokens, the compiled policy, and the act that changes it.

Owns: the form, storage and comparison of keys, the names of actions, which rule decides, budgets. Refuses to own:
requests, HTTP headers, and what a right protects (each use case checks its own).
"""

from ashore.core.principal import DEFAULT_TENANT, NOBODY, KeyScope, Principal
from ashore.data.authority.actions import ACTIONS, INFER, KEY_CREATE_OWN, STORED_REMOVE, STORED_SHOW
from ashore.data.authority.acts import SYSTEM, Actor, Acts, Desk, is_officer
from ashore.data.authority.authority import Compiled, Decision, PolicyAuthority, raised_by, withheld
from ashore.data.authority.denials import denial_of
from ashore.data.authority.directory import Claims, Directory
from ashore.data.authority.doorkeeper import Doorkeeper
from ashore.data.authority.jwt import Issuer, JwtVerifier, check_issuer
from ashore.data.authority.keeping import KeyTable, OpenDoor, make_first_key, read_first_key
from ashore.data.authority.keys import digest_of, looks_like_key, new_key
from ashore.data.authority.names import SqlNames
from ashore.data.authority.onbehalf import OURSELVES, OnBehalf, make_internal_token, read_internal_token
from ashore.data.authority.policy import (
    Binding,
    Policy,
    Role,
    Rule,
    check_account_id,
    check_name,
    check_title,
    parse_rule,
)
from ashore.data.authority.ports import Authenticator, Authority
from ashore.data.authority.records import Account, AccountKind, Group, KeyRecord, Tenant
from ashore.data.authority.roles import BUILT_IN, OFFICERS
from ashore.data.authority.section import AccessSection, PriceSection
from ashore.data.authority.sql import keep_first_key, save_key
