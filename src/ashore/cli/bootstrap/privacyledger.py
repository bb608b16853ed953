"""The privacy ledger as a command of this machine opens it: on the state and the audit log of the home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.records import audit_opener, command_recorder
from ashore.cli.bootstrap.state import open_state
from ashore.core.clock import SystemClock

if TYPE_CHECKING:
    from ashore.control.ledger import Ledger
    from ashore.kit.settings import Settings


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """Yield the ledger; the server may run meanwhile, because the database arbitrates.

    Raises:
        AshoreError: the state or the audit log cannot be opened; private work must not proceed.
    """
    from ashore.control.audit import AuditService
    from ashore.control.ledger import Ledger

    home = settings.home
    with command_recorder(home) as recorder, closing(open_state(settings)) as database:
        remembers = AuditService(home.audit, home.audit_keys, recorder, opener=audit_opener(home))
        yield Ledger(database, clock=SystemClock(), recorder=recorder, remembers=remembers)
