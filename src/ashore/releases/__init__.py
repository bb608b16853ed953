"""Releases: what answers under a name, how a new one takes its place, and the way back.

Owns: releases and where each of them stands, aliases and their weights, the moves between states, the comparison of a
candidate with what is live, and the verdict on it. Refuses to own: engine hosts (`deployment` starts them), requests
(`serving` routes them), whether a model is good (`evaluation`).
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
from ashore.releases.ports import NoWorkers, ReleaseWish, Workshop
from ashore.releases.rights import resources_of
from ashore.releases.routes import AliasRoute, Shadowing, routes_of
from ashore.releases.rules import choose
from ashore.releases.sql import ALIASES_EPOCH, load_book
from ashore.releases.words import verdict_words
from ashore.releases.workshop import StoreWorkshop

__all__ = [
    "ALIASES_EPOCH",
    "ALONE",
    "BY_NAME",
    "CHECK",
    "EVERYTHING",
    "HOSTED",
    "MOST_READ_CHARS",
    "MUCH_SLOWER",
    "PREFERENCE",
    "SLOWER",
    "WHOLE",
    "Alias",
    "AliasRoute",
    "Book",
    "Count",
    "Course",
    "Finding",
    "Given",
    "GivenLevel",
    "JudgeSpec",
    "KeptVerdicts",
    "NoWorkers",
    "Pair",
    "Release",
    "ReleaseKeeper",
    "ReleaseOffice",
    "ReleasePolicy",
    "ReleaseState",
    "ReleaseWish",
    "Shadowing",
    "Slo",
    "Sticky",
    "StoreWorkshop",
    "Tally",
    "Wanted",
    "Way",
    "Widest",
    "Workshop",
    "burning",
    "check_adapters",
    "check_options",
    "choose",
    "cut",
    "digest_of_value",
    "load_book",
    "look",
    "measure_of",
    "observed",
    "observed_failures",
    "pair_id_of",
    "resources_of",
    "routes_of",
    "step_slice",
    "verdict_words",
    "wording_distance",
]
