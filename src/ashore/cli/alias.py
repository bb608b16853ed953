"""`ashore alias`: the names that clients ask for, and the releases that answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from msgspec import structs

from ashore.cli.calls import Errand, noun_of
from ashore.cli.columns import table
from ashore.cli.release import at_home, event_line
from ashore.cli.sure import DryRun, say_only
from ashore.control.releases.answers import AliasOut, AliasRemoved, EventOut
from ashore.control.releases.calls import CALLS, LIST_ALIASES, LIST_RELEASES, WeightsIn
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Items, Nothing


def _set(errand: Errand, asked: WeightsIn, *, dry_run: DryRun = False) -> None:
    known = next((one for one in errand.ask(Nothing(), LIST_ALIASES).items if one.name == asked.alias), None)
    if dry_run:
        names = [one.name for one in errand.ask(LIST_RELEASES.takes(), LIST_RELEASES).items]
        for name in asked.weights_percent:  # without --dry-run the server reports it
            if name not in names:
                raise NotFound(f"there is no release {name!r}", hint=did_you_mean(name, names))
        before = _shares(known.weights_percent) if known else "nothing"
        say_only(f"change {asked.alias}: {before} -> {_shares(asked.weights_percent)}", as_json=errand.as_json)
    else:
        errand.tell(errand.ask(structs.replace(asked, version=known.version if known else None)))


def _tell_alias(one: AliasOut) -> None:
    print(f"{one.name}  {_shares(one.weights_percent)}  (version {one.version}, sticky by {one.sticky})")


def _tell_list(found: Items[AliasOut]) -> None:
    rows = [(one.name, _shares(one.weights_percent), str(one.version), one.sticky) for one in found.items]
    if rows:
        table(("alias", "releases", "version", "sticky by"), rows)
    else:
        print("no aliases yet: `ashore up` makes one of each model", file=sys.stderr)


def _tell_history(found: Items[EventOut]) -> None:
    for event in found.items:
        print(event_line(event).strip())


def _tell_removed(gone: AliasRemoved) -> None:
    print(f"removed {gone.name}")


def _shares(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{release} {percent:g} %" for release, percent in weights.items())


app = noun_of(
    "alias",
    "List, show, set and remove the names that clients ask for.",
    CALLS,
    {"list": _tell_list, "show": _tell_alias, "set": _tell_alias, "history": _tell_history, "remove": _tell_removed},
    {"set": _set},
    at_home,
)
