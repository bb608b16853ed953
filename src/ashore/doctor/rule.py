"""The form of a rule: a row of words, and a pure function from readings to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ashore.doctor.model import Area, Finding
from ashore.doctor.readings import Readings

Judge = Callable[[Readings], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that can be wrong."""

    id: str
    """`D101`. Never given to another rule."""
    area: Area
    question: str
    """What it asks; a healthy server answers no."""
    needs: tuple[str, ...]
    """Readings without which it cannot be judged: `cpu`, `cpu.stranger_cores`."""
    judge: Judge
    explains: tuple[str, ...] = ()
    """Rules whose finding is a consequence of this one's."""
    source: str = ""
    """Where the threshold or the remedy comes from."""
    down: bool = False
    """Whether it is asked while no server runs from this home, too."""


def rule(
    id: str,
    area: Area,
    question: str,
    *,
    needs: tuple[str, ...] = (),
    explains: tuple[str, ...] = (),
    source: str = "",
    down: bool = False,
) -> Callable[[Judge], Rule]:
    """Make a rule of the function below."""

    def make(judge: Judge) -> Rule:
        return Rule(
            id=id, area=area, question=question, needs=needs, judge=judge, explains=explains, source=source, down=down
        )

    return make
