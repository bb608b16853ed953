"""The YAML that people read says what the tree says."""

from __future__ import annotations

import yaml as reader
from hypothesis import given
from hypothesis import strategies as st

from ashore.kit.yaml import Why, plain, write_yaml

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)
scalars = st.one_of(texts, st.integers(-(2**40), 2**40), st.booleans(), st.just("two\nlines\n"))
keys = st.text(
    st.characters(codec="ascii", categories=("L", "Nd"), include_characters="_.-/@: "), min_size=1, max_size=12
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner.map(lambda value: Why("because\nof that", value)), max_size=3),
    ),
    max_leaves=20,
)


@given(st.dictionaries(keys, trees, max_size=5))
def test_a_reader_finds_what_was_written(tree: dict[str, object]) -> None:
    text = write_yaml(tree, head="head")  # type: ignore[arg-type]
    assert (reader.safe_load(text) or {}) == plain(tree)  # type: ignore[arg-type]


def test_a_reason_stands_above_its_key_and_its_item() -> None:
    text = write_yaml({"a": {"b": Why("why b", 1)}, "c": [Why("why this", {"d": 2, "e": "on"})]}, head="top")
    assert text.splitlines() == [
        "# top", "a:", "  # why b", "  b: 1", "c:", "  # why this", "  - d: 2", '    e: "on"',
    ]  # fmt: skip
