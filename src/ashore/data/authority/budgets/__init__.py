"""Budgets: limits of tokens, requests and concurrency, by key, user, tenant and model, in windows of time.

Owns: the rules, the ledger that the processes of a machine share, and what was used. Refuses to own: requests, how a
refusal travels in HTTP or gRPC, and what a token costs to make.

Where to add what:

- A kind of budget: `Kind` in model.py. One that is counted on the request path is also a `Part` (ports.py; a slot of
  the ledger has two bits for it, so one more fits) with its row in `PARTS` (rulebook.py); its words in service.py; its
  cost per request in ledger.py and its twin memory.py; where amounts come from: `Budgets.reserve` and `settle`
  (data/path/guards.py) and their callers; docs/reference/budgets.md. A kind that nothing enforces is refused at import
  and by tests/unit/test_budgets_admin.py.
- A window: model.py and rulebook.py (when it begins: `window_at`). Windows touch; a limit that holds on some days only
  is a field of `BudgetRule`, with its column in kit/state/schema.py and a migration.
"""

from ashore.data.authority.budgets.ledger import MappedLedger
from ashore.data.authority.budgets.model import (
    KINDS,
    UNBOUND,
    WINDOWS,
    Asker,
    BudgetRule,
    Count,
    Standing,
    Usage,
    check_names,
    check_rule,
)
from ashore.data.authority.budgets.opening import open_budgets
from ashore.data.authority.budgets.ports import CountRow, Hold, Line, Part, Short
from ashore.data.authority.budgets.reporter import Pulse, Reporter
from ashore.data.authority.budgets.rulebook import RuleBook
from ashore.data.authority.budgets.service import LedgerBudgets, rate_headers
from ashore.data.authority.budgets.sql import SqlAuthority
