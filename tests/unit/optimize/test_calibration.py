"""Calibration text: what is refused, and how it is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.errors import InvalidRequest
from ashore.lab.optimize.calibration import (
    FEWEST_TOKENS,
    MOST_SAMPLES,
    RANKING_TOKENS,
    SAMPLE_TOKENS,
    cut_samples,
    read_text,
)


def words(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def numbers(count: int) -> str:
    return " ".join(map(str, range(count)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"caf\xe9 " * 2000, "not UTF-8: byte 3 is 0xe9"),
        (b"GGUF\0\0\0\3" * 100, "zero byte"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=said):
        read_text(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nothing\.txt cannot be read: No such file"):
        read_text(tmp_path / "nothing.txt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: Is a directory"):
        read_text(tmp_path)


def test_a_short_text_is_refused_with_its_length() -> None:
    with pytest.raises(InvalidRequest, match=f"has 100 tokens; at least {FEWEST_TOKENS}"):
        cut_samples(numbers(100), words, context_tokens=8192, seed=0)


def test_samples_are_pieces_of_the_text_and_chosen_by_the_seed() -> None:
    text = numbers(100 * SAMPLE_TOKENS)
    cut = cut_samples(text, words, context_tokens=8192, seed=1)
    assert len(cut.tuning) == MOST_SAMPLES
    assert all(len(s) == SAMPLE_TOKENS and list(s) == list(range(s[0], s[0] + SAMPLE_TOKENS)) for s in cut.tuning)
    assert cut == cut_samples(text, words, context_tokens=8192, seed=1)
    assert cut != cut_samples(text, words, context_tokens=8192, seed=2)


def test_what_layers_are_ranked_on_is_not_tuned_on() -> None:
    cut = cut_samples(numbers(20 * SAMPLE_TOKENS), words, context_tokens=8192, seed=0, ranking=2)
    assert len(cut.tuning) == 18 and [len(piece) for piece in cut.ranking] == [RANKING_TOKENS] * 2
    assert not {piece[0] for piece in cut.ranking} & {piece[0] for piece in cut.tuning}


def test_a_short_context_shortens_the_samples() -> None:
    cut = cut_samples(numbers(FEWEST_TOKENS), words, context_tokens=64, seed=0)
    assert {len(s) for s in cut.tuning} == {64}
