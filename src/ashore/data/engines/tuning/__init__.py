"""Tuning: finds by measurement which engine, precision, threads and options suit this model on this machine.

Owns: the candidates, the course of the measurement, the frontier and the choice, its record. Refuses: the plan that
uses the choice (`planning`), and making variants of a model (`store` and the engines' own preparation).
"""

from ashore.data.engines.tuning.candidates import Here, ModelSource, Proposal, propose
from ashore.data.engines.tuning.hostbench import HostBench
from ashore.data.engines.tuning.inventory import EngineHere, built_here, engines_here
from ashore.data.engines.tuning.machine import busy_note, computes_in_bf16, describe_machine, multiplies_bytes
from ashore.data.engines.tuning.model import (
    GOALS,
    Candidate,
    Goal,
    Machine,
    Measured,
    Rejected,
    Round,
    TunedChoice,
    TuneReport,
)
from ashore.data.engines.tuning.ports import Trial, Watcher
from ashore.data.engines.tuning.records import (
    Unused,
    read_report,
    record_choice,
    recorded_choice,
    report_json,
    report_path,
    save_report,
)
from ashore.data.engines.tuning.selftest import QUESTIONS, STEPS, Selftest, read_selftest, run_selftest
from ashore.data.engines.tuning.tuner import Tuner, require_choices
