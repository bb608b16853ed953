"""Tools of other servers for agents: one address for each, behind keys, roles, approval, masking, budgets and audit.

Owns: the wire towards clients and servers, what was approved, the bounds of a call. Refuses to own: who approves
(`control/mcp`), the HTTP route (`data/http/mcp.py`).
"""

from ashore.data.mcp.gateway import Caller, Gateway, ServerTools
from ashore.data.mcp.pins import (
    Pin,
    Tool,
    changed_lines,
    digest_of,
    load_pins,
    remove_pins,
    save_pin,
    shown_lines,
    state_of,
)
from ashore.data.mcp.section import McpSection, McpServer
from ashore.data.mcp.upstream import Standing, Upstream, standing_of
from ashore.data.mcp.wire import UnknownTool, answer
