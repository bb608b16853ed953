"""The precisions that weights can be rounded to, and which engine runs each."""

from __future__ import annotations

from typing import Final

from ashore.core.errors import InvalidRequest
from ashore.core.kinds import EngineKind
from ashore.core.nearest import did_you_mean
from ashore.data.engines import CARDS, Precision, card_of

PRECISIONS: Final = tuple(precision for card in CARDS for precision in card.precisions)


def choose_precision(to: str, engine: EngineKind | None) -> Precision:
    """Return the precision called `to`.

    Args:
        to: Name, in any case.
        engine: The engine; None: the one that runs it.

    Raises:
        InvalidRequest: there is no such precision, or another engine runs it.
    """
    if to.lower() == "auto":
        raise InvalidRequest(
            "ashore no longer searches for a mixture of four and eight bits (auto)",
            hint="use int8 (fastest, keeps quality), or int4 with --calibration FILE (smallest)",
            param="to",
        )
    found = next((p for p in PRECISIONS if p.name == to.lower()), None)
    if found is None:
        raise InvalidRequest(
            f"there is no precision {to!r}", hint=did_you_mean(to.lower(), [p.name for p in PRECISIONS]), param="to"
        )
    why, hint = ("", "") if engine is None else card_of(engine).no_precisions
    if why:
        raise InvalidRequest(why, hint=hint, param="engine")
    if engine is not None and engine != found.engine:
        theirs = [p.name for p in PRECISIONS if p.engine == engine]
        raise InvalidRequest(
            f"{found.name} is run by the {found.engine} engine, not by {engine}",
            hint=f"{engine} runs {', '.join(theirs)}" if theirs else f"omit --engine, or pass --engine {found.engine}",
            param="engine",
        )
    return found


def choose_group_size(precision: Precision, asked: int | None) -> int:
    """Return the requested or default group size; 0 if the format has none.

    Raises:
        InvalidRequest: the format does not have it.
    """
    if asked is None:
        return precision.group_sizes[0] if precision.group_sizes else 0
    if asked not in precision.group_sizes:
        sizes = ", ".join(map(str, sorted(precision.group_sizes)))
        raise InvalidRequest(
            f"{precision.name} does not support groups of {asked}",
            hint=f"one of {sizes}" if sizes else "omit --group-size; the format has only one",
            param="group_size",
        )
    return asked
