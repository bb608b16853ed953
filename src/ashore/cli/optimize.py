"""`ashore optimize`: smaller and faster variants, and proof that they are still good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ashore.cli.bootstrap.homestore import open_store
from ashore.cli.operations import operation_command
from ashore.cli.sure import AsJson, print_json
from ashore.core.errors import InvalidRequest, NotFound
from ashore.kit.folders import make_folder


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
        out: Folder to write compare.md to.
    """
    import msgspec

    from ashore.kit.store import gate_verdict, write_file
    from ashore.lab.evaluation import compare, comparison_markdown, kept_reports

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
        make_folder(out)
        write_file(out / "compare.md", comparison_markdown(reports).encode())
        print(f"written: {out}", file=sys.stderr)
    if as_json:
        items = [{"report": report, "change": compare(reports[0], report)} for report in reports]
        print_json({"items": items})
        return
    print(comparison_markdown(reports))


app = App(name="optimize", help="Make models smaller and faster; evaluate.")
app.command(operation_command("optimize evaluate"), name="evaluate")
app.command(compare)
for _word in ("distill", "prune", "quantize"):
    app.command(operation_command(f"optimize {_word}"), name=_word)
