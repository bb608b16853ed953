"""A teacher's log-probabilities: what rounding costs, what a kill or a flipped bit does to the store."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ashore.core import Digest
from ashore.errors import Conflict, CorruptBlob, DiskFull, NotFound
from ashore.optimize.distilling import LogitReader, LogitWriter, StoreKey, TopRows, decode_rows, encode_rows, top_rows

KEY = StoreKey(
    teacher=Digest("sha256:" + "1" * 64),
    engine="torch 2.13 fp32",
    tokenizer=Digest("sha256:" + "2" * 64),
    data=Digest("sha256:" + "3" * 64),
    vocab_size=49_152,
    num_examples=20,
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


def rows_of(seed: int, num_rows: int = 30) -> TopRows:
    return top_rows(zipfian(num_rows, 500, steepness=1.5, seed=seed), most=KEY.most, tail=KEY.tail)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(2, 300),
    st.integers(1, 80),
    st.floats(0.0, 6.0),
    st.integers(0, 99),
    st.sampled_from([1e-6, 1e-3, 0.1]),
)
def test_what_is_read_is_what_was_kept_but_for_rounding(
    num_rows: int, num_tokens: int, most: int, steepness: float, seed: int, tail: float
) -> None:
    exact_NV = zipfian(num_rows, num_tokens, steepness=steepness, seed=seed)
    kept = top_rows(exact_NV, most=most, tail=tail)
    read = decode_rows(encode_rows(kept, id_bits=17), id_bits=17)
    assert np.array_equal(read.ids_NK, kept.ids_NK)
    for row, exact_V in enumerate(exact_NV):
        used = kept.logprobs_NK[row] > -30
        ids = kept.ids_NK[row][used]
        assert np.array_equal(np.sort(exact_V)[::-1][: len(ids)], exact_V[ids])  # the best ones, best first
        assert len(ids) == min(most, num_tokens) or np.exp(kept.rest_N[row]) <= tail + 1e-6
        probability = np.exp(read.logprobs_NK[row][used]).sum() + np.exp(read.rest_N[row])
        assert probability == pytest.approx(1, abs=2e-3)
        span = exact_V[ids[0]] - exact_V[ids[-1]]
        assert np.abs(read.logprobs_NK[row][used] - exact_V[ids]).max() <= span / 255 * 1.1 + 2e-3


def test_rounding_costs_little_and_takes_few_bytes() -> None:
    exact_NV = zipfian(200, 49_152, steepness=1.3, seed=1)
    kept = top_rows(exact_NV, most=64, tail=1e-4)
    data = encode_rows(kept, id_bits=16)
    read = decode_rows(data, id_bits=16)
    p_NK = np.exp(kept.logprobs_NK.astype(np.float64))
    divergence_N = (p_NK * (kept.logprobs_NK - read.logprobs_NK)).sum(1) + np.exp(kept.rest_N) * (
        kept.rest_N - read.rest_N
    )
    assert abs(divergence_N).max() < 2e-3
    assert abs(divergence_N.mean()) < 1e-4
    assert len(data) / len(kept) <= 64 * 3 + 5.1  # a byte and 16 bits for a token, 5 bytes for a row


def test_the_store_gives_back_every_example_in_any_order(tmp_path: Path) -> None:
    with LogitWriter(tmp_path, KEY, segment_bytes=4_000) as writer:
        for number in range(KEY.num_examples):
            writer.append(rows_of(number))
    assert len(list(tmp_path.glob("*.seg"))) > 3
    with LogitReader(tmp_path, KEY) as reader:
        for number in (7, 0, 19, 7, 3):
            read, kept = reader.rows(number), rows_of(number)
            assert np.array_equal(read.ids_NK, kept.ids_NK)
            assert reader.num_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.seg"))


def test_a_writer_killed_at_any_byte_goes_on(tmp_path: Path) -> None:
    with LogitWriter(tmp_path, KEY, segment_bytes=6_000) as writer:
        for number in range(KEY.num_examples):
            writer.append(rows_of(number))
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.seg")}
    last = max(whole)
    for cut in [0, 3, 39, 40, 41, 55, 56, 57, len(whole[last]) - 1, len(whole[last])]:
        (tmp_path / last).write_bytes(whole[last][:cut])
        with LogitWriter(tmp_path, KEY, segment_bytes=6_000) as writer:
            assert writer.num_done <= KEY.num_examples
            for number in range(writer.num_done, KEY.num_examples):
                writer.append(rows_of(number))
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.seg")} == whole


def test_a_tail_that_never_reached_the_disk_is_said_again(tmp_path: Path) -> None:
    with LogitWriter(tmp_path, KEY) as writer:
        for number in range(KEY.num_examples):
            writer.append(rows_of(number))
    path = tmp_path / "000000.seg"
    whole = path.read_bytes()
    path.write_bytes(whole[:9_000] + bytes(len(whole) - 9_000))
    with pytest.raises(NotFound, match="of 20 examples"):
        LogitReader(tmp_path, KEY)
    with LogitWriter(tmp_path, KEY) as writer:
        assert 0 < writer.num_done < KEY.num_examples
        for number in range(writer.num_done, KEY.num_examples):
            writer.append(rows_of(number))
    assert path.read_bytes() == whole


def test_kill_minus_9_loses_at_most_the_example_at_hand(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_distil_logits import KEY, rows_of
        from ashore.optimize.distilling import LogitWriter
        writer = LogitWriter(Path({str(tmp_path)!r}), KEY, segment_bytes=6_000)
        for number in range(12):
            writer.append(rows_of(number))
            print(number, flush=True)
        import time; time.sleep(60)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "11":
            break
    with pytest.raises(Conflict, match="another process"):
        LogitWriter(tmp_path, KEY)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with LogitWriter(tmp_path, KEY, segment_bytes=6_000) as writer:
        assert writer.num_done == 12


def test_a_flipped_bit_is_told(tmp_path: Path) -> None:
    with LogitWriter(tmp_path, KEY, segment_bytes=4_000) as writer:
        for number in range(KEY.num_examples):
            writer.append(rows_of(number))
    path = tmp_path / "000000.seg"
    data = bytearray(path.read_bytes())
    data[1_000] ^= 4
    path.write_bytes(data)
    with LogitReader(tmp_path, KEY) as reader, pytest.raises(CorruptBlob, match=r"example 0 in .*is damaged"):
        reader.rows(0)
    path.write_bytes(data[:-10])
    with pytest.raises(CorruptBlob, match="is damaged"):
        LogitReader(tmp_path, KEY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": Digest("sha256:" + "9" * 64)}, "teacher sha256:1+; expected teacher sha256:9+"),
        ({"data": Digest("sha256:" + "9" * 64)}, "data sha256:3+; expected"),
        ({"tokenizer": Digest("sha256:" + "9" * 64)}, "tokenizer sha256:2+; expected"),
        ({"most": 32}, "most 64; expected most 32"),
    ],
)
def test_a_store_of_something_else_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with LogitWriter(tmp_path, KEY) as writer:
        writer.append(rows_of(0))
    other = StoreKey(**{name: getattr(KEY, name) for name in KEY.__struct_fields__} | change)
    for opened in (LogitWriter, LogitReader):
        with pytest.raises(Conflict, match=words):
            opened(tmp_path, other)


def test_an_unfinished_or_absent_store_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no log-probabilities"):
        LogitReader(tmp_path, KEY)
    with LogitWriter(tmp_path, KEY) as writer:
        writer.append(rows_of(0))
    with pytest.raises(NotFound, match="of 1 of 20 examples"):
        LogitReader(tmp_path, KEY)


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with LogitWriter(tmp_path, KEY) as writer:
        for number in range(3):
            writer.append(rows_of(number))
        size = (tmp_path / "000000.seg").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, limits[1]))
        try:
            with pytest.raises(DiskFull, match=r"disk that holds .* cannot grow"):
                writer.append(rows_of(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert (tmp_path / "000000.seg").stat().st_size == size
        for number in range(3, KEY.num_examples):
            writer.append(rows_of(number))
    with LogitReader(tmp_path, KEY) as reader:
        assert np.array_equal(reader.rows(3).ids_NK, rows_of(3).ids_NK)
