"""Schedules requests over different back ends by cost, deadline and learned rates.

Owns: the service model of a back end, the choice among them, and the simulator that runs a policy on a trace with a
virtual clock. Refuses: sending requests, knowledge of engines, reading a clock.

A request is not bound when it arrives. It waits, and a linear program over all waiting requests decides once a second
which begin now, where, and which are cheaper later; between two solutions the shadow prices of the last one decide (ADR
28).

Where to add what:

- Another policy to compare with: a class with the methods of `Policy` in policies.py, and its row in `POLICIES`.
- Another form of a trace: its columns in `FORMS` of trace.py.
"""

from ashore.dispatch.bound import lower_bound
from ashore.dispatch.fleet import Device, Fleet
from ashore.dispatch.model import Backend, Request, load_backends
from ashore.dispatch.policies import POLICIES, ByCost, CheapestInTime
from ashore.dispatch.pool import WAYS, Pool, Shared, bound, most, share
from ashore.dispatch.program import Prices, Solved, choose
from ashore.dispatch.rates import LEARNED, Rates
from ashore.dispatch.simulate import EVERY_S, Outcome, simulate
from ashore.dispatch.trace import SHAPES, read_trace, synthesise

__all__ = [
    "EVERY_S",
    "LEARNED",
    "POLICIES",
    "SHAPES",
    "WAYS",
    "Backend",
    "ByCost",
    "CheapestInTime",
    "Device",
    "Fleet",
    "Outcome",
    "Pool",
    "Prices",
    "Rates",
    "Request",
    "Shared",
    "Solved",
    "bound",
    "choose",
    "load_backends",
    "lower_bound",
    "most",
    "read_trace",
    "share",
    "simulate",
    "synthesise",
]
