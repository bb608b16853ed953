"""Verifies a whole audit folder: checkpoints, then every chain against them. Needs no home and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ashore.control.audit.anchors import open_anchor
from ashore.control.audit.verify import ChainReport, Problem, verify_chain
from ashore.control.audit.vouching import CheckpointReport, verify_checkpoints, vouched_of
from ashore.data.audit import ChainName, PublicKey
from ashore.data.audit.checkpoints import CHECKPOINTS, ChainHead, read_checkpoints
from ashore.data.audit.segments import LocalShelf, Shelf
from ashore.kit.decode import UNDECODABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Result of `verify`."""

    path: str
    anchor: str
    checkpoints: CheckpointReport
    chains: tuple[ChainReport, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The first fault of the checkpoints and of each chain."""
        found = [self.checkpoints.problem, *(chain.problem for chain in self.chains)]
        return tuple(problem for problem in found if problem is not None)

    @property
    def num_records(self) -> int:
        return sum(chain.records for chain in self.chains)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_folder(
    root: Path,
    *,
    trusted: Sequence[PublicKey],
    anchor: str = "",
    shelf: Shelf | None = None,
    told: Callable[[ChainName], None] = lambda chain: None,
) -> VerifyReport:
    """Verify an audit folder and return the result.

    Args:
        root: Its folder, or a copy of it.
        trusted: Public keys from another source, never from `root`.
        anchor: Place with copies of the checkpoints; empty: none; a missing tail is then undetectable.
        shelf: Source of segments; default: only `root`, without the archive.
        told: Called with each chain before it is read.

    Raises:
        AshoreError: the anchor cannot be read.
    """
    path = root / CHECKPOINTS
    anchored = open_anchor(anchor, _home(path, trusted)).read() if anchor else None
    checkpoints = verify_checkpoints(path, trusted, anchored=anchored)
    last = checkpoints.last
    heads = {head.chain: head for head in last.chains} if last is not None else {}
    reports, shelf = [], shelf or LocalShelf(root)
    for chain in sorted({*shelf.chains(), *(ChainName(name) for name in heads)}):
        told(chain)
        vouched = vouched_of(path, chain, up_to=checkpoints.count)
        numbers, first = _begin(shelf.numbers(chain), None if shelf.is_whole else heads.get(chain))
        path_of = partial(shelf.path, chain)
        reports.append(verify_chain(chain, numbers, path_of, vouched=vouched, first=first))
    return VerifyReport(path=str(root), anchor=anchor, checkpoints=checkpoints, chains=tuple(reports))


def _begin(numbers: list[int], head: ChainHead | None) -> tuple[list[int], tuple[int, int, str] | None]:
    """Return the segments that must be here, and where the chain begins.

    A signed checkpoint records which are archived. Local copies of those are ignored; name the archive to have them
    read.
    """
    if head is None or head.first == 1 or (numbers and numbers[0] == 1):
        return numbers, None
    return [number for number in numbers if number >= head.first], (head.first, head.after_seq, head.after_hash)


def _home(path: Path, trusted: Sequence[PublicKey]) -> str:
    """Return the name of the home: from its first checkpoint, else from the oldest key."""
    first: Iterator[str] = (line.checkpoint().home for line in read_checkpoints(path) if line.whole)
    try:
        named = next(first, "")
    except UNDECODABLE:
        named = ""
    return named or (trusted[0].key_id if trusted else "")
