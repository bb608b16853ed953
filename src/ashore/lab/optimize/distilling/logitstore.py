"""A teacher's log-probabilities on disk: `FOLDER/000000.npz …`, each with the rows of `CHUNK` examples.

A file is written whole or not at all, so that a killed teacher continues with the next chunk. The folder's name is the
digest of what the numbers depend on; the archives of NumPy have checksums.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from blake3 import blake3

from ashore.core.errors import CorruptBlob
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.store import disk_errors
from ashore.kit.wholefile import write_whole
from ashore.lab.optimize.distilling.toprows import TopRows, join_rows

CHUNK: Final = 32
"""Examples of a file: what a kill costs at most."""


class StoreKey(msgspec.Struct, frozen=True, kw_only=True):
    """What the log-probabilities depend on. A store with an equal key can be reused."""

    teacher: Digest
    """Of the teacher's manifest."""
    engine: str
    """Kind, version and precision of what ran it."""
    tokenizer: Digest
    data: Digest
    """Of the token ids of all examples and of the positions that are asked for."""
    num_examples: int
    most: int
    """Tokens kept for a position at most."""
    tail: float
    """Probability that may be left out of a position before `most` is reached."""


class LogitStore:
    """The outputs of one teacher for one corpus. Two processes that write the same one write the same files."""

    def __init__(self, work: Path, key: StoreKey) -> None:
        """Open or create the store of `key` in the folder `work`. Raises `DiskFull` if there is no room for it."""
        self.key = key
        self.folder = work / f"logits-{blake3(msgspec.json.encode(key, order='sorted')).hexdigest()[:24]}"
        with disk_errors(self.folder):
            make_folder(self.folder)

    @property
    def num_done(self) -> int:
        """Examples on disk, from the first."""
        chunks = next(n for n in range(self.key.num_examples + 1) if not self._path(n).is_file())
        return min(chunks * CHUNK, self.key.num_examples)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npz"))

    def append(self, rows: Sequence[TopRows]) -> None:
        """Write the next `CHUNK` examples, or the last ones.

        Raises:
            DiskFull: no room; what was written before stays valid.
        """
        joined, out = join_rows(rows), io.BytesIO()
        np.savez(
            out,
            ids=joined.ids_NK.astype(np.uint32),
            logprobs=joined.logprobs_NK.astype(np.float16),
            rest=joined.rest_N.astype(np.float16),
            ends=np.cumsum([len(one) for one in rows]),
        )
        with disk_errors(self.folder):
            write_whole(self._path(self.num_done // CHUNK), out.getvalue(), mode=0o644)

    def rows(self, number: int) -> TopRows:
        """Return the teacher's output for one example.

        Raises:
            CorruptBlob: the file is missing, or its bytes were changed.
        """
        path, at = self._path(number // CHUNK), number % CHUNK
        try:
            with np.load(path, allow_pickle=False) as found:
                start, end = [0, *found["ends"].tolist()][at : at + 2]
                return TopRows(
                    found["ids"][start:end].astype(np.int64),
                    found["logprobs"][start:end].astype(np.float32),
                    found["rest"][start:end].astype(np.float32),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CorruptBlob(
                f"{path} is damaged: {error}", hint=f"delete {self.folder}; the teacher then computes it again"
            ) from error

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06d}.npz"
