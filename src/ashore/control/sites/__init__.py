"""Sites: a centre, and branch offices that are each a whole ashore of their own, behind links that fail.

The centre publishes a tree of plain files: signed metadata, what each site shall serve, and models in segments of at
most 4 MiB. A site reads that tree over HTTPS, from a bucket, or from a stick that was carried there, verifies it, and
serves on what it has while there is no link.

Owns: the tree, differences between models, the trust between centre and site, the sites of a centre and their waves,
the loop of a site and what it reports. Refuses: serving models, routing requests, and deciding whether a release is
good; those are the rooms of a whole ashore, and a site asks them as its operator would.

Where to add what:

- A form of model file whose parts can be compared: a reader in control/sites/delta/regions.py.
- A way to write a difference: control/sites/delta/forms.py. Nothing of it is trusted: the digest of the whole file
  stands in the signed list.
- A place to publish to, or to read from: a class with the methods of `CentreLink` in control/sites/links.py, and a
  parameter in tests/contract/test_site_links.py.
"""

from ashore.control.sites.centre import Office
from ashore.control.sites.parts import SETTABLE, Parts, checked, merged, read_parts
from ashore.control.sites.report import Status
from ashore.control.sites.rows import ROWS
from ashore.control.sites.section import SitesSection
