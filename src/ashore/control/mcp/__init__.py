"""Which tools of other servers agents may call: who asks a server what it has, reads it and approves it.

Owns: the calls. Refuses to own: what agents reach (`data/mcp`), and who may call a tool, which are roles.
"""

from ashore.control.mcp.calls import McpDesk
