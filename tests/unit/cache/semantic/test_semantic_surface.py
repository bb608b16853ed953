"""What the strictest bound asks for: nothing but courtesy stands in one question and not in the other."""

import numpy as np
import pytest

from ashore.cache.semantic import EntryKey, SemanticIndex
from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.prior import level_of
from ashore.cache.semantic.reading import read
from ashore.core import TenantId

COURTESY = [
    ("How do I reset my password?", "how can I reset my password"),
    ("Where's the spare key of the boat shed?", "Could you please tell me where the spare keys of the boat shed are?"),
    ("怎么重置网上银行密码？", "请问如何重置网上银行的密码呢"),
]
SMALL_WORDS = [
    ("a light verb", "Which vaccines does a nurse on the ward give?", "Which vaccines does a nurse on the ward need?"),
    ("may for can", "Can the crane lift two loads?", "May the crane lift two loads?"),
    ("an adverb", "How do vaccines work?", "How well do vaccines work?"),
    ("a release", "Which new features came with Python 3.1?", "Which new features came with Python 3.10?"),
    ("a sign", "解方程3x-7=22。", "解方程3x+7=22。"),
    ("将来", "比赛谁赢了？", "比赛谁会赢？"),
    ("要", "供货商怎么给门店退款？", "供货商怎么向门店要退款？"),
]


@pytest.mark.parametrize(("one", "other"), COURTESY)
def test_courtesy_and_form_leave_the_bare_words_alone(one, other):
    assert read(one).surface == read(other).surface
    assert level_of(agree(read(one), read(other))) == 0
    assert level_of(agree(read(other), read(one))) == 0


@pytest.mark.parametrize(("why", "one", "other"), SMALL_WORDS)
def test_a_small_word_that_a_reading_leaves_out_still_counts(why, one, other):
    agreement = agree(read(one), read(other))
    assert read(one).surface != read(other).surface
    assert agreement.veto or level_of(agreement) > 0


@pytest.mark.parametrize("pair", [pair for _, *pair in SMALL_WORDS])
def test_at_a_bound_of_a_thousandth_only_the_same_bare_words_are_answered(pair):
    tenant, vector = TenantId("a"), np.ones(4, np.float32) / 2
    held = SemanticIndex(error_bound=0.001, bytes_per_tenant=1 << 20)
    held.add(b"p", tenant, EntryKey("k"), pair[0], vector)
    assert held.lookup(b"p", tenant, pair[1], vector) is None
    assert held.lookup(b"p", tenant, pair[0].rstrip("。？?.").lower(), vector).key == "k"
