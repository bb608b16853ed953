"""Who is asking, and may they: principals, keys as digests, roles, the policy, and the authority that decides by it.

Owns: what a key looks like, how it is kept and compared, what an action is called, which rule decides. Refuses to own:
requests, HTTP headers, and what a right protects (each use case asks for its own).
"""

from ashore.access.actions import ACTIONS, INFER, METRICS_READ, Action
from ashore.access.authority import Compiled, Decision, PolicyAuthority, raised_by
from ashore.access.denials import denial_of
from ashore.access.first_key import make_first_key, read_first_key
from ashore.access.keys import KeyDigest, digest_of, looks_like_key, new_key
from ashore.access.memory import KeyTable, OpenDoor
from ashore.access.model import DEFAULT_TENANT, NOBODY, KeyScope, Principal
from ashore.access.onbehalf import OnBehalf, make_internal_token, read_internal_token
from ashore.access.policy import Binding, Policy, Role, Rule, parse_rule
from ashore.access.ports import Authenticator, Authority
from ashore.access.roles import BUILT_IN, OFFICERS

__all__ = [
    "ACTIONS",
    "BUILT_IN",
    "DEFAULT_TENANT",
    "INFER",
    "METRICS_READ",
    "NOBODY",
    "OFFICERS",
    "Action",
    "Authenticator",
    "Authority",
    "Binding",
    "Compiled",
    "Decision",
    "KeyDigest",
    "KeyScope",
    "KeyTable",
    "OnBehalf",
    "OpenDoor",
    "Policy",
    "PolicyAuthority",
    "Principal",
    "Role",
    "Rule",
    "denial_of",
    "digest_of",
    "looks_like_key",
    "make_first_key",
    "make_internal_token",
    "new_key",
    "parse_rule",
    "raised_by",
    "read_first_key",
    "read_internal_token",
]
