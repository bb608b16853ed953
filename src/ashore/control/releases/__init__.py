"""Releases: what answers under a name, how a new one takes its place, and the way back.

Owns: what operators may do with releases and aliases, and what they see of it. Refuses to own: rows, rules and verdicts
(`data/releases`), engine hosts (`machine/deployment` starts them), requests (`data/path` routes them), whether a model
is good (`lab/evaluation`).

Where to add what:

- A state: `ReleaseState` and its sets (`HOSTED`, `WARM`, `CANDIDATE`) in data/releases/model.py, the moves in and out
  of it in data/releases/rules.py.
- A move: its states in data/releases/rules.py (`MOVES`); what it changes (pure) in data/releases/moves.py for people,
  in data/releases/byitself.py for automatic ones, built from data/releases/changes.py; its rights in
  control/releases/rights.py; its use case in control/releases/office.py or data/releases/keeper.py; its call in
  control/releases/calls.py.
- What a release is rolled back for: a `Measure` in data/releases/betting.py (their stakes come to 1), observed under
  the same name in `compared` (data/path/differences.py), a row in docs/reference/releases.md. Of what was promoted only
  errors and slowness count, since data/releases/model.py keeps nothing else.
- How two answers are compared: data/path/differences.py; what needs a model or a process in data/path/shadow.py
  and judges.py; when copies run in data/path/background.py.
- Something that is bound to a model by its name (a right, a rule, a route): it also asks `Behind` (core/behind.py), so
  that an alias created by a command cannot bypass it.
"""

from ashore.control.releases.evaluated import KeptVerdicts
from ashore.control.releases.office import ReleaseOffice
from ashore.control.releases.rights import resources_of
from ashore.control.releases.words import verdict_words
