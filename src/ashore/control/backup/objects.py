"""Reads whole objects of a backup from the fastest nodes: contents, and the listing of a backup."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import msgspec

from ashore.control.backup.coding import coder_of
from ashore.control.backup.model import FORMAT, Commit, Listing, ObjectRef
from ashore.control.backup.reading import ObjectReader, open_object
from ashore.control.backup.vault import Reading, header_of
from ashore.core.errors import BackupDamaged
from ashore.core.foreign import foreign_errors


class Objects:
    """Reads objects; remembers slow nodes between them."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.lanes = {lane.index: lane for lane in reading.lanes()}
        self.coder = coder_of(reading.code)

    def read(
        self, ref: ObjectRef, target: int, *, what: str, told: Callable[[int], None] = lambda num_bytes: None
    ) -> None:
        """Write an object's plaintext to the descriptor `target`; `told` is called with each piece.

        Raises:
            BackupDamaged: too few good shards of it are reachable.
        """
        expected = header_of(self.reading.key, self.reading.code, ref)
        reader = ObjectReader(tuple(self.lanes.values()), self.coder, expected, ref)
        open_object(reader, expected, self.reading.key.data_key, target, what=what, told=told)

    def listing(self, commit: Commit) -> Listing:
        """Return the contents of a backup.

        Raises:
            BackupDamaged: too few good shards of it are reachable, or a newer ashore wrote it.
        """
        what = f"the listing of backup {commit.generation}"
        with tempfile.TemporaryFile() as file:
            self.read(commit.listing, file.fileno(), what=what)
            data = file.read()
        with foreign_errors(f"{what} cannot be read", BackupDamaged, hint="use the ashore version that wrote it"):
            listing = msgspec.json.decode(data, type=Listing)
        if listing.format != FORMAT:
            raise BackupDamaged(f"{what} is of format {listing.format}; this ashore reads {FORMAT}")
        return listing

    def close(self) -> None:
        """Release the nodes. Does not wait for a hanging one."""
        for lane in self.lanes.values():
            lane.close()


@contextmanager
def open_objects(reading: Reading) -> Iterator[Objects]:
    """Yield the objects of a backup for the block."""
    with closing(Objects(reading)) as objects:
        yield objects
