"""Releases as the request path knows them: the book, routes, pairs, bets and judges.

Owns: states and the moves between them, weights, the comparison of a candidate with the live release and its verdict,
as rows and rules. Refuses: to decide what operators want.
"""

from ashore.data.releases.allowed import check_adapters, check_options
from ashore.data.releases.betting import (
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
from ashore.data.releases.burn import ALONE, Count, Slo, burning
from ashore.data.releases.changes import Way
from ashore.data.releases.judges import JudgeSpec
from ashore.data.releases.model import (
    HOSTED,
    WHOLE,
    Alias,
    Book,
    Course,
    Given,
    GivenLevel,
    Release,
    ReleaseState,
    Sticky,
    digest_of_value,
)
from ashore.data.releases.pairs import MOST_READ_CHARS, Pair, Widest, cut, pair_id_of, wording_distance
from ashore.data.releases.policy import ReleasePolicy
from ashore.data.releases.ports import EvaluationGate, ReleaseWish, Workshop
from ashore.data.releases.routes import AliasRoute, Shadowing, routes_of
from ashore.data.releases.rules import choose
from ashore.data.releases.sql import ALIASES_EPOCH, load_book
