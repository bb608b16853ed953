"""More than one machine: servers that share one state, and the engine nodes that serve their models.

Owns: which nodes joined, drain and left; the file that lists them for hosts; `[fleet]`, `ashore fleet`. Refuses:
placing engines on machines, restarting them, and deciding whether a node is alive. The first two belong to Kubernetes,
Ray Serve or the service manager; the last to each host's own probes (`engines/vllm`).
"""

from ashore.control.fleet.listing import FleetFile
from ashore.control.fleet.model import Front, Node, View, leaves_to
from ashore.control.fleet.section import FleetSection
