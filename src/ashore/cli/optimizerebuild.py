"""`ashore optimize rebuild`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashore.bootstrap.homestore import open_store
from ashore.cli.modelstore import AsJson, print_json
from ashore.cli.progress import TerminalProgress
from ashore.optimize import RebuildReport

EXIT_DIFFERS = 4


def rebuild(
    model: str, /, *, data: Annotated[tuple[Path, ...], Parameter(negative=())] = (), as_json: AsJson = False
) -> int:
    """Rebuild a variant or a derived model from its recipe, and report whether the bytes are the same.

    The stored model stays as it is. Exits with 4 if the bytes differ.

    Parameters
    ----------
    model
        `name@variant`, or the name of a derived model.
    data
        The files that it was made with, at their present paths; the recipe identifies them by their digests.
    as_json
        Print JSON.
    """
    from ashore import bootstrap

    rebuilder = bootstrap.rebuilder(open_store())
    with TerminalProgress() as progress:
        report = rebuilder.rebuild(model, data, told=progress.share)
    if as_json:
        print_json({**asdict(report), "identical": report.identical})
    else:
        _show_rebuilt(report)
    return 0 if report.identical else EXIT_DIFFERS


def _show_rebuilt(report: RebuildReport) -> None:
    for file in report.files:
        print(f"{'same   ' if file.same else 'DIFFERS'}  {file.path}  {file.kept}")
        if not file.same:
            print(f"         made again: {file.again or 'no such file'}")
    for tool, (then, now) in report.versions_changed.items():
        print(f"{tool} was {then}, now {now or 'not installed'}")
    print(f"{report.reference}: {'bit for bit the same' if report.identical else 'not the same bytes'}")
