"""Rehearsed failures: the steady state before, the fault and its duration, the conditions, and the recovery time.

Owns: the drills (`catalog.py`), the faults (`faults/`), the load, the verdict (`rules.py`, pure), the guard
(`guard.py`, pure), the watcher that undoes everything (`watcher.py`), reports. Refuses to own: how a server survives,
which belongs to the rooms under test.

To add a drill: a row in `catalog.py`, and where its fault is new, a class in `faults/` named in `MAKERS`. A fault
records its undo steps (`Undoing.before`) before it breaks anything, and defines how its effect is detected: without an
observed effect a drill does not pass.
"""

from ashore.control.drills.run import Stage, run_drill
