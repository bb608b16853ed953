"""Dependencies of the queue's calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ashore.control.jobs.operations.sources import Reach
from ashore.data.jobs import JobQueue
from ashore.kit.call import Rights
from ashore.kit.recorder import Recorder

if TYPE_CHECKING:
    from ashore.data.jobs.schedule.rows import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOffice:
    """The queue, its authority and its audit log."""

    queue: JobQueue
    rights: Rights
    recorder: Recorder
    reach: Reach = field(default_factory=Reach)
    """From where operations may read."""
    home: str = ""
    """Name of this home among those that share its state; empty: the state is its own."""
    result_ttl_ms: int = 30 * 86_400_000
    turns: Callable[[], Sequence[Turn]] = tuple
    """Reads the schedule. Blocks."""
