"""`ashore optimize compare`: which of several models is better."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ashore.bootstrap.homestore import open_store
from ashore.core import make_folder
from ashore.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    pass

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
EXIT_GATE_FAILED = 1
DEFAULT_TASKS = ("reviews-zh", "stdlib-en")
HARNESS = "lm-eval:"


def compare(
    models: Annotated[tuple[str, ...], Parameter(negative=())],
    /,
    *,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest stored evaluations of several models on one page, compared with the first.

    Args:
        models: Names[@variant] that were evaluated.
        out: Folder to write compare.md, compare.html and compare.png to.
        as_json: Print JSON.
    """
    import msgspec

    from ashore.evaluation import (
        compare,
        comparison_markdown,
        comparison_page,
        comparison_png,
        gate_verdict,
        kept_reports,
    )

    if len(models) < 2:
        raise InvalidRequest(f"{len(models)} model given; expected at least two to compare")
    store = open_store()
    reports = []
    for name in models:
        kept = kept_reports(store, store.resolve(name))
        if not kept:
            raise NotFound(
                f"{name} was never evaluated",
                hint=f"`ashore optimize evaluate {name}`; without --against it needs memory for this model only",
            )
        verdict = kept[0].gate or gate_verdict(store, name)  # an earlier verdict on these bytes still holds
        reports.append(msgspec.structs.replace(kept[0], gate=verdict))
    if out is not None:
        png = comparison_png(reports)
        page = comparison_page(reports, png)
        _write(
            out,
            {"compare.md": comparison_markdown(reports).encode(), "compare.html": page.encode(), "compare.png": png},
        )
    if as_json:
        items = [{"report": report, "change": compare(reports[0], report)} for report in reports]
        print(msgspec.json.format(msgspec.json.encode({"items": items}), indent=1).decode())
        return
    print(comparison_markdown(reports))


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, each whole or not at all."""
    from ashore.store import write_file

    make_folder(folder)
    for name, data in files.items():
        write_file(folder / name, data)
    print(f"written: {folder}", file=sys.stderr)
