"""Compact teacher outputs: the likeliest tokens of each position with their log-probabilities in a byte each, and the
rest.

A row keeps the fewest tokens that leave out less than `tail` of the probability, and at most `most`. A log-probability
is stored as its distance to the row's best, on a quadratic scale: fine steps at high probabilities, coarse ones at low.
Shapes in names: N positions, K tokens kept, V vocabulary.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.errors import CorruptBlob

MOST_KEPT: Final = 255
"""The number of tokens of a row is stored in a byte."""
NOTHING: Final = -30.0
"""Stands for the logarithm of a rest of nothing: e^-30 is below what float32 adds to 1."""

_HEAD: Final = struct.Struct("<I")
_STEPS: Final = 255


@dataclass(frozen=True, slots=True)
class TopRows:
    """The likeliest tokens of N positions, best first. Unused places have id 0 and `NOTHING`."""

    ids_NK: NDArray[np.int64]
    logprobs_NK: NDArray[np.float32]
    rest_N: NDArray[np.float32]
    """Logarithm of the probability of all other tokens together, `NOTHING` at least."""

    def __len__(self) -> int:
        return len(self.rest_N)


def top_rows(logprobs_NV: NDArray[np.float32], *, most: int, tail: float) -> TopRows:
    """Return the likeliest tokens of each row.

    Args:
        logprobs_NV: Natural logarithms of probabilities; each row sums to 1.
        most: Tokens kept at most, 1 to `MOST_KEPT`.
        tail: Probability that may be left out of a row before `most` is reached.
    """
    most = min(most, logprobs_NV.shape[1])
    found_NK = np.argpartition(logprobs_NV, -most, axis=1)[:, -most:]
    values_NK = np.take_along_axis(logprobs_NV, found_NK, axis=1)
    order_NK = np.argsort(-values_NK, axis=1, kind="stable")
    ids_NK = np.take_along_axis(found_NK, order_NK, axis=1)
    return cut_rows(ids_NK, np.take_along_axis(values_NK, order_NK, axis=1), tail=tail)


def cut_rows(ids_NK: NDArray[np.int64], logprobs_NK: NDArray[np.float32], *, tail: float) -> TopRows:
    """Return rows of tokens, best first, without those that `tail` leaves out."""
    mass_NK = np.cumsum(np.exp(logprobs_NK.astype(np.float64)), axis=1)
    kept_NK = np.concatenate([np.ones((len(mass_NK), 1), bool), mass_NK[:, :-1] < 1 - tail], axis=1)
    count_N = kept_NK.sum(axis=1)
    kept_mass_N = np.take_along_axis(mass_NK, count_N[:, None] - 1, axis=1)[:, 0] if len(mass_NK) else np.empty(0)
    rest_N = np.log(np.maximum(1 - kept_mass_N, np.exp(NOTHING)))
    width = int(count_N.max(initial=1))
    kept_NK = kept_NK[:, :width]
    return TopRows(
        np.where(kept_NK, ids_NK[:, :width], 0).astype(np.int64),
        np.where(kept_NK, logprobs_NK[:, :width], NOTHING).astype(np.float32),
        rest_N.astype(np.float32),
    )


def encode_rows(rows: TopRows, *, id_bits: int) -> bytes:
    """Return the bytes of `rows`; `decode_rows` returns them, rounded.

    Layout, little-endian: number of rows (u32); for each row the tokens kept (u8), the logarithm of the rest (f16) and
    of the distance from its best to its last token (f16); for each token kept a byte; the ids, `id_bits` bits each.
    """
    used_NK = rows.logprobs_NK > NOTHING
    used_NK[:, 0] = True
    count_N = used_NK.sum(axis=1)
    below_NK = np.where(used_NK, rows.logprobs_NK[:, :1] - rows.logprobs_NK, 0)
    span_N = _round_up(below_NK.max(axis=1))
    scale_NK = np.sqrt(np.clip(below_NK / np.maximum(span_N, 1e-3)[:, None], 0, 1))
    codes = np.rint(_STEPS * scale_NK[used_NK]).astype(np.uint8)
    bits = np.unpackbits(rows.ids_NK[used_NK].astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)[:, 32 - id_bits :]
    return b"".join(
        (
            _HEAD.pack(len(rows)),
            count_N.astype(np.uint8).tobytes(),
            rows.rest_N.astype("<f2").tobytes(),
            span_N.astype("<f2").tobytes(),
            codes.tobytes(),
            np.packbits(bits).tobytes(),
        )
    )


def decode_rows(data: bytes, *, id_bits: int) -> TopRows:
    """Return the rows in `data`, each with a total probability of 1.

    Raises:
        CorruptBlob: `data` is not as long as it says.
    """
    try:
        (num_rows,) = _HEAD.unpack_from(data)
        at = _HEAD.size
        count_N = np.frombuffer(data, np.uint8, num_rows, at).astype(np.int64)
        rest_N = np.frombuffer(data, "<f2", num_rows, at + num_rows).astype(np.float32)
        span_N = np.frombuffer(data, "<f2", num_rows, at + 3 * num_rows).astype(np.float32)
        total = int(count_N.sum())
        at += 5 * num_rows
        codes = np.frombuffer(data, np.uint8, total, at)
        packed = np.frombuffer(data, np.uint8, (total * id_bits + 7) // 8, at + total)
    except (ValueError, struct.error) as error:
        raise CorruptBlob(f"a record of a teacher's log-probabilities cannot be read: {error}") from error
    used_NK = np.arange(count_N.max(initial=1)) < count_N[:, None]
    ids_NK = np.zeros(used_NK.shape, np.int64)
    bits = np.unpackbits(packed, count=total * id_bits).reshape(total, id_bits)
    padded = np.concatenate([np.zeros((total, 32 - id_bits), np.uint8), bits], axis=1)
    ids_NK[used_NK] = np.packbits(padded, axis=1).view(">u4")[:, 0]
    below_NK = np.zeros(used_NK.shape, np.float32)
    below_NK[used_NK] = (codes / np.float32(_STEPS)) ** 2
    below_NK *= span_N[:, None]
    mass_NK = np.where(used_NK, np.exp(-below_NK), 0)
    share_N = np.log1p(-np.exp(np.minimum(rest_N, -1e-6))) - np.log(mass_NK.sum(axis=1))
    logprobs_NK = np.where(used_NK, share_N[:, None] - below_NK, NOTHING)
    return TopRows(ids_NK, logprobs_NK.astype(np.float32), rest_N)


def _round_up(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values that float16 holds exactly and that are not below `values`."""
    halves = values.astype(np.float16)
    up = np.where(halves < values, np.nextafter(halves, np.float16(np.inf)), halves)
    return up.astype(np.float32)
