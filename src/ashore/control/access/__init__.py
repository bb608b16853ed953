"""Accounts, keys, roles and the policy, as administrators change them.

Owns: the calls `access`, the keyring, the book of policies, the repair of a lost first key. Refuses to own: what a
request is checked against (`data/authority`), and what a right protects (each use case checks its own).

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
