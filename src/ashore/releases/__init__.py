"""Releases: what answers under a name, how a new one takes its place, and the way back.

Owns: releases and their states, aliases and their weights, the moves between states, the comparison of a candidate with
the live release, and its verdict. Refuses to own: engine hosts (`deployment` starts them), requests (`serving` routes
them), whether a model is good (`evaluation`).

Where to add what:

- A state: `ReleaseState` and its sets (`HOSTED`, `WARM`, `CANDIDATE`) in releases/model.py, the moves in and out of
  it in releases/rules.py.
- A move: its states in releases/rules.py (`MOVES`); what it changes (pure) in releases/moves.py for people, in
  releases/byitself.py for automatic ones, built from releases/changes.py; its rights in releases/rights.py; its use
  case in releases/office.py or keeper.py; its call in releases/calls.py.
- What a release is rolled back for: a `Measure` in releases/betting.py (their stakes come to 1), observed under the
  same name in `compared` (serving/differences.py), a row in docs/reference/releases.md. Of what was promoted only
  errors and slowness count, since releases/given.py keeps nothing else.
- How two answers are compared: serving/differences.py; what needs a model or a process in serving/shadow.py
  and judges.py; when copies run in serving/background.py.
- Something that is bound to a model by its name (a right, a rule, a route): it also asks `core.Behind`, so that an
  alias created by a command cannot bypass it.
"""

from ashore.releases.allowed import check_adapters, check_options
from ashore.releases.betting import (
    BY_NAME,
    CHECK,
    EVERYTHING,
    MUCH_SLOWER,
    PREFERENCE,
    SLOWER,
    Finding,
    Tally,
    look,
    measure_of,
    observed,
    observed_failures,
    step_slice,
)
from ashore.releases.burn import ALONE, Count, Slo, burning
from ashore.releases.changes import Way
from ashore.releases.digests import digest_of_value
from ashore.releases.evaluated import KeptVerdicts
from ashore.releases.given import Given, GivenLevel
from ashore.releases.judges import JudgeSpec
from ashore.releases.keeper import ReleaseKeeper, Wanted
from ashore.releases.model import HOSTED, WHOLE, Alias, Book, Course, Release, ReleaseState, Sticky
from ashore.releases.office import ReleaseOffice
from ashore.releases.pairs import MOST_READ_CHARS, Pair, Widest, cut, pair_id_of, wording_distance
from ashore.releases.policy import ReleasePolicy
from ashore.releases.ports import EvaluationGate, ReleaseWish, Workshop
from ashore.releases.rights import resources_of
from ashore.releases.routes import AliasRoute, Shadowing, routes_of
from ashore.releases.rules import choose
from ashore.releases.sql import ALIASES_EPOCH, load_book
from ashore.releases.standing import with_standing
from ashore.releases.words import verdict_words
from ashore.releases.workshop import StoreWorkshop
