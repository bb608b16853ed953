"""`[state]`: the SQL database of what must not be lost."""

from __future__ import annotations

from ashore.kit.section import Section


class StateSection(Section, frozen=True, kw_only=True):
    """The SQL database for everything that must not be lost."""

    url: str = ""
    """`postgresql://…`, which several machines can share, or `sqlite:///…`; empty: SQLite in the home."""
