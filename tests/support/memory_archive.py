"""In-memory archive of the audit log: the twin of the others."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.core.errors import NotFound, TamperedAudit


class MemoryArchive:
    """In-memory archive: the twin of the others."""

    place = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, name: str, data: bytes) -> None:
        if self.kept.setdefault(name, data) != data:
            raise TamperedAudit(f"the archive has a different {name}")

    def read(self, name: str) -> bytes:
        try:
            return self.kept[name]
        except KeyError as fault:
            raise NotFound(f"{name} is not in the archive") from fault

    def names(self, under: str) -> Iterator[str]:
        yield from sorted(name for name in self.kept if name.startswith(under + "/"))
