"""Schedules requests over different back ends by cost, deadline and learned rates.

Owns: the service model of a back end and the choice among them. Refuses: sending requests, knowledge of engines,
reading a clock.

A request is not bound when it arrives. It waits, and a linear program over all waiting requests decides once a second
which begin now, where, and which are cheaper later; between two solutions the shadow prices of the last one decide (ADR
28). `benchmarks/dispatch` simulates the choice on a virtual clock, beside the usual policies and a lower bound.

Where to add what:

- Another form of a trace: its columns in `FORMS` of trace.py.
"""

from ashore.data.dispatch.fleet import Device, Fleet
from ashore.data.dispatch.model import Backend, Request
from ashore.data.dispatch.policies import EVERY_S, ByCost, CheapestInTime
from ashore.data.dispatch.program import choose
from ashore.data.dispatch.rates import LEARNED, Rates
from ashore.data.dispatch.trace import read_trace
