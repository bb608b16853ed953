"""ashore.toml: the deployment that the operator wants.

Each part is declared once, as a struct in `ROOM/section.py`; `document.py` combines them. Refuses: any decision based
on it.

Where to add what:

- A part of ashore.toml: a struct in ROOM/section.py (types with bounds, defaults, the help under each field; further
  rules in `checked`), and a line in machine/config/document.py.
- A key: a field of its section, marked `Kept` where a running server keeps it. Children of the supervisor get the
  section as it is (data/path/topology.py, the launch files).
- A setting of a process: a field in settings.py, and its reader in the table below it.
- `make docs` writes docs/reference/ashore-toml.md again.
"""

from ashore.machine.config.document import BROUGHT, Listening, Spec, parse_spec, read_spec
