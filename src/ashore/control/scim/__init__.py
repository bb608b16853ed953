"""SCIM 2.0: an identity provider, such as Entra ID or Okta, pushes people and groups.

Owns: what its bodies mean, and what a push changes. Refuses: HTTP (`control/faces/scim.py`), offices, local accounts,
and deleting anybody.

Where to add what: a deviation of a provider: `bodies.py`, and its body in tests/unit/test_scim.py.
"""

from ashore.control.scim.bodies import ENTERPRISE, GROUP, USER, Kind, members
from ashore.control.scim.documents import MOST_RESULTS, schemas, service, types
from ashore.control.scim.office import PROVISION, ScimOffice
from ashore.control.scim.sql import Resource
