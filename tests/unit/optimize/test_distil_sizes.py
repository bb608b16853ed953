"""How large a student becomes, and what its making takes: from counts alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import InvalidRequest, MemoryFull
from ashore.lab.optimize.distilling import DistilSettings
from ashore.lab.optimize.distilling.sizes import half_sizes, require_memory, student_sizes
from ashore.lab.optimize.surgery import Anatomy, Sizes

DEMO = Anatomy(
    sizes=Sizes(layers=30, groups=3, channels=1536),
    hidden_size=576,
    heads_in_group=3,
    head_dim=64,
    vocab_size=49_152,
    tied=True,
)


def test_the_demo_model_has_a_student_of_half_its_parameters() -> None:
    assert DEMO.parameters() == 134_515_008
    assert half_sizes(DEMO) == Sizes(layers=24, groups=3, channels=416)
    settings = DistilSettings(layers=24, intermediate=416)
    assert student_sizes(DEMO, settings).student_parameters == 66_825_792


@given(st.integers(1, 60), st.integers(1, 16), st.integers(8, 400), st.integers(1, 200), st.booleans())
def test_half_is_never_more_than_half(layers: int, groups: int, channels: int, vocabulary: int, tied: bool) -> None:
    teacher = Anatomy(
        sizes=Sizes(layers=layers, groups=groups, channels=32 * channels),
        hidden_size=128 * groups,
        heads_in_group=2,
        head_dim=64,
        vocab_size=1000 * vocabulary,
        tied=tied,
    )
    sizes = half_sizes(teacher)
    if sizes is None:
        return
    made = student_sizes(teacher, DistilSettings(layers=sizes.layers, intermediate=sizes.channels))
    assert made.student_parameters <= teacher.parameters() / 2
    assert 1 <= sizes.layers <= layers and sizes.channels % 32 == 0


def test_fewer_hidden_numbers_mean_fewer_groups_of_heads() -> None:
    made = student_sizes(DEMO, DistilSettings(hidden=384))
    assert made.after.sizes.groups == 2
    assert made.after.head_dim == 64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (DistilSettings(layers=31), "--layers is 31; expected at most 30, as in the teacher"),
        (DistilSettings(hidden=400), "--hidden is 400; .*multiple of 192"),
        (DistilSettings(intermediate=500), "--intermediate is 500; .*multiple of 32"),
    ],
)
def test_sizes_that_cannot_be_are_refused_with_the_nearest(settings: DistilSettings, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        student_sizes(DEMO, settings)
    assert "the nearest value is" in caught.value.hint


def test_what_memory_says_would_fit_does_fit() -> None:
    settings = DistilSettings(layers=24, intermediate=416, batch_tokens=4096, row_tokens=4096, window_tokens=1024)
    made = student_sizes(DEMO, settings)
    free = made.memory_bytes(settings) - (100 << 20)
    with pytest.raises(MemoryFull, match="needs about") as caught:
        require_memory(made, settings, free, name="it")
    words = caught.value.hint.split()
    batch, window = int(words[words.index("--batch-tokens") + 1]), int(words[words.index("--window-tokens") + 1])
    require_memory(made, msgspec.structs.replace(settings, batch_tokens=batch, window_tokens=window), free, name="it")
