"""The command line: one module for each noun. Each parses, calls a use case of a room, and renders the result.

Owns: texts, tables, progress, exit codes. Refuses: decisions. Every module exposes `app`, a `cyclopts.App`, and is
imported only when its noun is used.

Where to add what:

- A command by hand: cli/NOUN.py with an `app`, a row in cli/commands.py, an example in cli/examples.toml. A command of
  a declared call needs its example alone.
- Errors of the operating system: cli/systemerrors.py; tests/integration/test_every_command.py tries every command.
- What `up` serves by default: `DEFAULT_MODELS` in cli/upplan.py, and deploy/bundle/make_bundle.py.
- `make docs` writes docs/reference/commands.md again.
"""
