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
    Verdict,
    look,
    measure_of,
    observed,
    observed_failures,
    step_slice,
)
from ashore.releases.burn import ALONE, Burning, Count, Objective, Slo, burn_rates, burning
from ashore.releases.changes import By, Way
from ashore.releases.digests import content_of_parts, digest_of_value, engine_digest, spec_content
from ashore.releases.evaluated import KeptVerdicts
from ashore.releases.given import Given, GivenLevel
from ashore.releases.judges import JudgeSpec
from ashore.releases.keeper import ReleaseKeeper, Wanted
from ashore.releases.model import (
    HOSTED,
    STANDBY_S,
    WARM,
    WHOLE,
    Alias,
    Book,
    Course,
    Event,
    Goal,
    Moved,
    Release,
    ReleaseState,
    Sticky,
)
from ashore.releases.office import ReleaseOffice, Standing
from ashore.releases.pairs import MOST_READ_CHARS, Pair, Widest, cut, pair_id_of, wording_distance
from ashore.releases.policy import ReleasePolicy
from ashore.releases.ports import (
    Described,
    EvaluationGate,
    GateVerdict,
    NoGate,
    NoWorkers,
    ReleaseWish,
    Workers,
    Workshop,
)
from ashore.releases.rights import Move, resources_of
from ashore.releases.routes import AliasRoute, Shadowing, routes_of
from ashore.releases.rules import MOVES, choose
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
    "MOVES",
    "MUCH_SLOWER",
    "PREFERENCE",
    "SLOWER",
    "STANDBY_S",
    "WARM",
    "WHOLE",
    "Alias",
    "AliasRoute",
    "Book",
    "Burning",
    "By",
    "Count",
    "Course",
    "Described",
    "EvaluationGate",
    "Event",
    "Finding",
    "GateVerdict",
    "Given",
    "GivenLevel",
    "Goal",
    "JudgeSpec",
    "KeptVerdicts",
    "Move",
    "Moved",
    "NoGate",
    "NoWorkers",
    "Objective",
    "Pair",
    "Release",
    "ReleaseKeeper",
    "ReleaseOffice",
    "ReleasePolicy",
    "ReleaseState",
    "ReleaseWish",
    "Shadowing",
    "Slo",
    "Standing",
    "Sticky",
    "StoreWorkshop",
    "Tally",
    "Verdict",
    "Wanted",
    "Way",
    "Widest",
    "Workers",
    "Workshop",
    "burn_rates",
    "burning",
    "check_adapters",
    "check_options",
    "choose",
    "content_of_parts",
    "cut",
    "digest_of_value",
    "engine_digest",
    "load_book",
    "look",
    "measure_of",
    "observed",
    "observed_failures",
    "pair_id_of",
    "resources_of",
    "routes_of",
    "spec_content",
    "step_slice",
    "verdict_words",
    "wording_distance",
]
