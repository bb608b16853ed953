"""`ashore optimize`: smaller and faster variants, and proof that they are still good."""

from __future__ import annotations

from cyclopts import App

from ashore.cli.operations import operation_command
from ashore.cli.optimizecompare import compare

app = App(name="optimize", help="Make models smaller and faster; evaluate.")
app.command(operation_command("optimize evaluate"), name="evaluate")
app.command(compare)
for _word in ("distill", "prune", "quantize"):
    app.command(operation_command(f"optimize {_word}"), name=_word)
