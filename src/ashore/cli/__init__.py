"""The command line: one module for each noun. Each parses, calls a use case of a room, and renders the result.

Owns: words, tables, progress, exit codes. Refuses: decisions. Every module exposes `app`, a `cyclopts.App`, and is
imported only when its noun is used.
"""

__all__: list[str] = []
