"""A teacher's log-probabilities: what is kept of them, and what a kill or a flipped bit does to the store."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ashore.core.errors import CorruptBlob, DiskFull
from ashore.core.ids import Digest
from ashore.lab.optimize.distilling import LogitStore, StoreKey, TopRows, top_rows
from ashore.lab.optimize.distilling.logitstore import CHUNK

KEY = StoreKey(
    teacher=Digest("sha256:" + "1" * 64),
    engine="torch 2.13 fp32",
    tokenizer=Digest("sha256:" + "2" * 64),
    data=Digest("sha256:" + "3" * 64),
    num_examples=2 * CHUNK + 5,
    most=64,
    tail=1e-4,
)


def zipfian(num_rows: int, num_tokens: int, *, steepness: float, seed: int) -> NDArray[np.float32]:
    """Return log-probabilities [N, V] shaped like those of a language model."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((num_rows, num_tokens)) - steepness * np.log(
        1 + rng.permuted(np.tile(np.arange(num_tokens), (num_rows, 1)), axis=1)
    )
    total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.asarray(logits - total, np.float32)


def rows_of(seed: int, num_rows: int = 9) -> TopRows:
    return top_rows(zipfian(num_rows, 500, steepness=1.5, seed=seed), most=KEY.most, tail=KEY.tail)


def filled(work: Path, to: int = KEY.num_examples) -> LogitStore:
    store = LogitStore(work, KEY)
    while (done := store.num_done) < to:
        store.append([rows_of(number) for number in range(done, min(done + CHUNK, KEY.num_examples))])
    return store


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(2, 300),
    st.integers(1, 80),
    st.floats(0.0, 6.0),
    st.integers(0, 99),
    st.sampled_from([1e-6, 1e-3, 0.1]),
)
def test_the_likeliest_are_kept_and_the_rest_is_known(
    num_rows: int, num_tokens: int, most: int, steepness: float, seed: int, tail: float
) -> None:
    exact_NV = zipfian(num_rows, num_tokens, steepness=steepness, seed=seed)
    kept = top_rows(exact_NV, most=most, tail=tail)
    for row, exact_V in enumerate(exact_NV):
        used = kept.logprobs_NK[row] > -30
        ids = kept.ids_NK[row][used]
        assert np.array_equal(np.sort(exact_V)[::-1][: len(ids)], exact_V[ids])  # the best ones, best first
        assert len(ids) == min(most, num_tokens) or np.exp(kept.rest_N[row]) <= tail + 1e-6


def test_rounding_costs_little_and_takes_few_bytes(tmp_path: Path) -> None:
    kept = top_rows(zipfian(200, 49_152, steepness=1.3, seed=1), most=64, tail=1e-4)
    store = LogitStore(tmp_path, KEY)
    store.append([kept])
    read = store.rows(0)
    p_NK = np.exp(kept.logprobs_NK.astype(np.float64))
    divergence_N = (p_NK * (kept.logprobs_NK - read.logprobs_NK)).sum(1) + np.exp(kept.rest_N) * (
        kept.rest_N - read.rest_N
    )
    assert abs(divergence_N).max() < 2e-3
    assert abs(divergence_N.mean()) < 1e-4
    assert store.num_bytes / len(kept) < 64 * 6 + 10


def test_the_store_gives_back_every_example_in_any_order(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.num_done == KEY.num_examples and len(list(store.folder.glob("*.npz"))) == 3
    for number in (7, 0, KEY.num_examples - 1, 7, CHUNK):
        read, kept = store.rows(number), rows_of(number)
        width = kept.ids_NK.shape[1]
        assert np.array_equal(read.ids_NK[:, :width], kept.ids_NK) and (read.logprobs_NK[:, width:] == -30).all()
        assert np.abs(read.logprobs_NK[:, :width] - kept.logprobs_NK).max() < 0.02


def test_a_killed_writer_goes_on_after_the_last_whole_chunk(tmp_path: Path) -> None:
    store = filled(tmp_path, to=CHUNK)
    (store.folder / ".000001.npz.part").write_bytes(b"half")
    assert LogitStore(tmp_path, KEY).num_done == CHUNK
    assert np.array_equal(filled(tmp_path).rows(CHUNK).ids_NK[:, :1], rows_of(CHUNK).ids_NK[:, :1])


def test_another_teacher_data_or_setting_is_another_store(tmp_path: Path) -> None:
    filled(tmp_path)
    for change in ({"teacher": Digest("sha256:" + "9" * 64)}, {"data": Digest("sha256:" + "9" * 64)}, {"most": 32}):
        other = StoreKey(**{name: getattr(KEY, name) for name in KEY.__struct_fields__} | change)
        assert LogitStore(tmp_path, other).num_done == 0


def test_a_flipped_bit_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder / "000000.npz"
    data = bytearray(path.read_bytes())
    data[1_000] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptBlob, match=r"000000\.npz is damaged"):
        store.rows(0)
    path.unlink()
    with pytest.raises(CorruptBlob, match=r"000000\.npz is damaged"):
        store.rows(0)


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = filled(tmp_path, to=CHUNK)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(DiskFull, match=r"disk that holds .* cannot grow"):
            store.append([rows_of(number) for number in range(CHUNK, 2 * CHUNK)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.num_done == CHUNK
    assert filled(tmp_path).num_done == KEY.num_examples
