"""Authentication and authorisation: principals, keys as digests, roles, the policy, and the authority that applies it.

Owns: the form, storage and comparison of keys, the names of actions, which rule decides. Refuses to own: requests, HTTP
headers, and what a right protects (each use case checks its own).

Where to add what:

- An action that is protected: a row in actions.json of its room with its office; the built-in roles that have it in
  access/roles.py; the action of its call, or `authority.require` in its use case.
- A built-in role: a row in access/roles.py. A custom one needs no code (`ashore access role put`).
- A list: show each row by the decision for showing it alone (`page_of` and `Desk.allows` in access/acts.py, `may_on` in
  core/rights.py), and add a line to tests/integration/test_access_lists.py.
"""

from ashore.access.actions import ACTIONS, INFER, KEY_CREATE_OWN, STORED_REMOVE, STORED_SHOW
from ashore.access.acts import SYSTEM, Actor, Acts
from ashore.access.authority import Compiled, Decision, PolicyAuthority, raised_by, withheld
from ashore.access.book import PolicyBook
from ashore.access.denials import denial_of
from ashore.access.directory import Claims, Directory
from ashore.access.doorkeeper import Doorkeeper
from ashore.access.first_key import Revived, revive_first_key
from ashore.access.jwt import Issuer, JwtVerifier, check_issuer
from ashore.access.keyfile import make_first_key, read_first_key
from ashore.access.keyring import Keyring, KeyWish, NewKey, keep_administrators_keys
from ashore.access.keys import digest_of, looks_like_key, new_key
from ashore.access.memory import KeyTable, OpenDoor
from ashore.access.model import DEFAULT_TENANT, NOBODY, KeyScope, Principal
from ashore.access.names import SqlNames
from ashore.access.onbehalf import OURSELVES, OnBehalf, make_internal_token, read_internal_token
from ashore.access.people import AccountWish, People
from ashore.access.policy import Binding, Policy, Role, Rule, parse_rule
from ashore.access.ports import Authenticator, Authority
from ashore.access.records import Account, KeyRecord, Tenant
from ashore.access.roles import BUILT_IN, OFFICERS
from ashore.access.section import AccessSection, PriceSection
from ashore.access.sql import keep_first_key, save_key
