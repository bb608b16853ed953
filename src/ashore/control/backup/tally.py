"""What backups, scrubs and repairs of a home found: `backup/tally.json`, written by each of them under the lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from ashore.control.backup.model import Finding


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of all that was found."""

    reached: str = ""
    """Name of the last shard that a scrub under way has read; empty: none is."""
    found: int = 0
    """Harms that were found since the first backup."""
    repaired: int = 0
    away: tuple[int, ...] = ()
    """Nodes that lack something."""
    spare: int | None = None
    """Nodes that could still be lost after the last backup; negative: something is lost. None: none was made."""

    def counted(self, findings: Sequence[Finding]) -> Tally:
        """Return it with more findings."""
        repaired = sum(finding.repaired for finding in findings)
        return msgspec.structs.replace(self, found=self.found + len(findings), repaired=self.repaired + repaired)

    def standing(self, spare: int, away: Collection[int]) -> Tally:
        """Return it with the nodes as they are now."""
        return msgspec.structs.replace(self, spare=spare, away=tuple(sorted(away)))
