"""Authentication and authorisation: principals, keys as digests, roles, the policy, and the authority that applies it.

Owns: the form, storage and comparison of keys, the names of actions, which rule decides. Refuses to own: requests, HTTP
headers, and what a right protects (each use case checks its own).

Where to add what:

- An action that is protected: a row in actions.json of its room with its office; the built-in roles that have it in
  data/authority/roles.py; the action of its call, or `authority.require` in its use case.
- A built-in role: a row in data/authority/roles.py. A custom one needs no code (`ashore access role put`).
- A list: show each row by the decision for showing it alone (`page_of` and `Desk.allows` in data/authority/acts.py,
  `may_on` in kit/rights.py), and add a line to tests/integration/test_access_lists.py.
"""

from ashore.control.access.book import PolicyBook
from ashore.control.access.first_key import Revived, revive_first_key
from ashore.control.access.keyring import Keyring, KeyWish, NewKey, keep_administrators_keys
from ashore.control.access.people import AccountWish, People
