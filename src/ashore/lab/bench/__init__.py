"""Load tests of any OpenAI-compatible server: first token, time per token, stalls, goodput.

Owns the load client (asyncio over plain sockets, about 30 us of processor time per event), prompts of a given
length, arrival schedules and the arithmetic of the report. Refuses to own: starting servers, judging answers
(`evaluation`), and drawing (`cli`).
"""

from ashore.lab.bench.model import LoadPlan, LoadReport, LookupReport, Slo
from ashore.lab.bench.prompts import PromptMaker
from ashore.lab.bench.report import percentile, report_json
from ashore.lab.bench.run import poisson_arrivals, run_load, run_with_and_without_lookup
from ashore.lab.bench.workloads import WorkloadPrompts
