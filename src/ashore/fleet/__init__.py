"""More than one machine: the servers that share one state, and the engine nodes that answer for their models.

Owns: which nodes an operator let join, drain and leave; the file that lists them for hosts; `[fleet]`, `ashore fleet`.
Refuses: placing engines on machines, restarting them, and deciding whether a node is alive. The first two are
Kubernetes's, Ray Serve's or the service manager's; the last is what each host finds when it asks (`engines/vllm`).
"""

from ashore.fleet.listing import FleetFile
from ashore.fleet.model import Front, Node, View
from ashore.fleet.section import FleetSection

__all__ = ["FleetFile", "FleetSection", "Front", "Node", "View"]
