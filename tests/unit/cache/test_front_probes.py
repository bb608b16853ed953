"""The probes for answers of other tenants: they are answered, and from the cache, or they would show nothing."""

from __future__ import annotations

import asyncio

from benchmarks.front.tenants import Tally, probe


def test_probes_are_answered_and_hit_and_cross_no_tenant() -> None:
    tally = asyncio.run(probe(2_000))
    assert (tally.probes, tally.crossed, tally.refused) == (2_000, 0, 0)
    assert tally.proves


def test_probes_that_were_refused_or_never_hit_show_nothing() -> None:
    assert not Tally(probes=10, hits=3, refused=1).proves
    assert not Tally(probes=10).proves
