"""`ashore assistant`: assistants of the page Chat."""

from __future__ import annotations

from ashore.cli.calls import noun_of
from ashore.control.chats.calls import CALLS

app = noun_of("assistant", "Manage your assistants: a model with a system prompt.", CALLS)
