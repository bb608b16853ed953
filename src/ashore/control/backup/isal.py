"""The adapter of Intel's ISA-L from the wheel `pyeclib`; called through ctypes, because `pyeclib` itself
copies every fragment several times and is twenty times slower.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashore.control.backup.code import Code
from ashore.core.errors import MissingExtra

if TYPE_CHECKING:
    from ashore.control.backup.code import Bytes

TABLE_BYTES = 32
"""Of one element of the matrix, expanded. Source: ISA-L, `ec_init_tables`."""


class IsalCoder:
    """Reed-Solomon with the Cauchy matrix."""

    def __init__(self, code: Code) -> None:
        self._lib = isal()
        self._code = code
        matrix = ctypes.create_string_buffer(code.n * code.k)
        self._lib.gf_gen_cauchy1_matrix(matrix, code.n, code.k)
        self._matrix = matrix.raw
        self._tables = self._expand(self._matrix[code.k * code.k :], code.m)

    def encode(self, data: Sequence[Bytes], parity: Sequence[Bytes]) -> None:
        self._multiply(self._tables, data, parity)

    def rebuild(self, have: Mapping[int, Bytes], lost: Mapping[int, Bytes]) -> None:
        k = self._code.k
        if len(have) < k:
            raise ValueError(f"only {len(have)} fragments; {k} are needed")
        if not lost:
            return
        used = sorted(have)[:k]
        rows = self._rows(tuple(used), tuple(lost))
        self._multiply(self._expand(rows, len(lost)), [have[index] for index in used], list(lost.values()))

    def _rows(self, used: tuple[int, ...], lost: tuple[int, ...]) -> bytes:
        """Return the matrix rows that compute the lost fragments from the used ones."""
        k = self._code.k
        square = ctypes.create_string_buffer(b"".join(self._row(index) for index in used), k * k)
        inverse = ctypes.create_string_buffer(k * k)
        singular = self._lib.gf_invert_matrix(square, inverse, k)
        assert not singular, "every square part of a Cauchy matrix can be inverted"
        rows = bytearray()
        for index in lost:
            row = self._row(index)
            for column in range(k):
                total = 0
                for j in range(k):
                    total ^= self._lib.gf_mul(row[j], inverse.raw[j * k + column])
                rows.append(total)
        return bytes(rows)

    def _row(self, index: int) -> bytes:
        return self._matrix[index * self._code.k : (index + 1) * self._code.k]

    def _expand(self, rows: bytes, num_rows: int) -> Any:
        tables = ctypes.create_string_buffer(TABLE_BYTES * self._code.k * num_rows)
        self._lib.ec_init_tables(self._code.k, num_rows, ctypes.create_string_buffer(rows, len(rows)), tables)
        return tables

    def _multiply(self, tables: Any, sources: Sequence[Bytes], targets: Sequence[Bytes]) -> None:
        self._lib.ec_encode_data(
            len(sources[0]), len(sources), len(targets), tables, _addresses(sources), _addresses(targets)
        )


@cache
def isal() -> Any:
    """Return the library.

    Raises:
        MissingExtra: neither the wheel nor the system has it.
    """
    path = _bundled() or ctypes.util.find_library("isal")
    if path is None:
        raise MissingExtra(
            "this code needs Intel's ISA-L, which is not installed",
            hint="pip install pyeclib (Linux on x86-64 and arm64), or install your system's libisal; "
            "k+1 and 1+m need neither",
        )
    lib = ctypes.CDLL(path)
    for name in ("gf_gen_cauchy1_matrix", "ec_init_tables", "ec_encode_data"):
        getattr(lib, name).restype = None
    lib.gf_mul.restype = ctypes.c_ubyte
    lib.gf_mul.argtypes = (ctypes.c_ubyte, ctypes.c_ubyte)
    return lib


def _bundled() -> str | None:
    spec = importlib.util.find_spec("pyeclib")
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent.parent / "pyeclib.libs").glob("libisal*"))
    return str(found[0]) if found else None


def _addresses(fragments: Sequence[Bytes]) -> Any:
    return (ctypes.c_void_p * len(fragments))(*(fragment.ctypes.data for fragment in fragments))
