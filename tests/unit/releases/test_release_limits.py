"""Engine options of a release: limits that `[model.engine]` knows, and what goes to the engine unchanged."""

from __future__ import annotations

import pytest

from ashore.errors import InvalidRequest
from ashore.planning import ModelPlan
from ashore.releases import ReleaseWish
from ashore.workshop import StoreWorkshop, limits_of


def test_limits_are_told_from_the_options_of_the_engine() -> None:
    limits, options = limits_of((("context_tokens", 512), ("NUM_STREAMS", 1), ("prefix_cache", False), ("threads", 0)))
    assert limits == {"context_tokens": 512, "prefix_cache": False, "threads": 0}
    assert options == (("NUM_STREAMS", 1),)


@pytest.mark.parametrize(
    ("name", "value"),
    [("context_tokens", "long"), ("context_tokens", -1), ("kv_tokens", 1.5), ("threads", True), ("prefix_cache", 1)],
)
def test_a_limit_of_the_wrong_kind_is_refused_by_name(name: str, value: str | float | bool) -> None:
    with pytest.raises(InvalidRequest) as refused:
        limits_of(((name, value),))
    assert name in refused.value.message and repr(value) in refused.value.message


def described(*options: tuple[str, int], live: ModelPlan | None = None) -> ModelPlan:
    def no_store() -> None:
        return None

    workshop = StoreWorkshop(no_store, lambda alias: {})  # type: ignore[arg-type]
    wish = ReleaseWish(model="fake:echo", alias="chat", options=options)
    return workshop.describe(wish, live=live).plan


def test_what_is_not_said_is_as_with_the_live_release() -> None:
    live = described(("max_sequences", 7))
    assert live.options.max_sequences == 7
    assert described(live=live).options.max_sequences == 7
    narrow = described(("max_sequences", 3), ("context_tokens", 100), live=live).options
    assert (narrow.max_sequences, narrow.context_tokens, narrow.extra) == (3, 100, {})
