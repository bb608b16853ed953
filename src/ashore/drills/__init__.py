"""Rehearsed failures: what is measured before, what is broken for how long, what must hold, how fast it is well again.

Owns: the drills (`catalog.py`), the faults (`faults/`), the load, the verdict (`rules.py`, pure), the guard
(`guard.py`, pure), the watcher that undoes everything (`watcher.py`), reports. Refuses to own: how a server survives;
that is the business of the rooms that are broken here.

To add a drill: a row in `catalog.py`, and where its fault is new, a class in `faults/` named in `MAKERS`. A fault
writes down the way back (`Undoing.before`) before it breaks anything, and says how it is felt: a fault that nobody
felt is no pass.
"""

from ashore.drills.book import Book
from ashore.drills.catalog import BY_NAME, DRILLS
from ashore.drills.model import Drill, Report
from ashore.drills.run import Stage, run_drill
from ashore.drills.section import DrillsSection

__all__ = ["BY_NAME", "DRILLS", "Book", "Drill", "DrillsSection", "Report", "Stage", "run_drill"]
