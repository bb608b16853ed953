"""ashore.toml: what the operator wants deployed.

Each part is declared once, as a struct in `ROOM/section.py`; `document.py` puts them together. Refuses: deciding
anything from it.
"""

from ashore.config.document import BROUGHT, Listening, Spec, parse_spec, read_spec

__all__ = ["BROUGHT", "Listening", "Spec", "parse_spec", "read_spec"]
