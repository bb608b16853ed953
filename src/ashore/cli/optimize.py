"""`ashore optimize`: smaller and faster variants, and proof that they are still good. Each verb has a module."""

from __future__ import annotations

from cyclopts import App

from ashore.cli.optimizedistill import distill
from ashore.cli.optimizeevaluate import compare, evaluate
from ashore.cli.optimizeprune import prune
from ashore.cli.optimizequantize import quantize, rebuild

app = App(name="optimize", help="Make models smaller and faster; evaluate; rebuild.")
app.command(evaluate)
app.command(compare)
app.command(distill)
app.command(prune)
app.command(quantize)
app.command(rebuild)
