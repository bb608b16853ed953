"""`ashore plan`: what can serve a load, before anything is bought or started."""

from __future__ import annotations

import cyclopts

from ashore.cli.plancalibrate import calibrate
from ashore.cli.plancheck import check
from ashore.cli.plangpus import gpus
from ashore.cli.plansize import size

app = cyclopts.App(name="plan", help="Plan what to buy; plan parts of GPUs.")
app.default(size)
for _command in (size, check, calibrate, gpus):
    app.command(_command)
