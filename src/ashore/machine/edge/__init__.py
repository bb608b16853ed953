"""Envoy in front of the API: TLS, one port for every protocol, limits, health, and several workers behind it.

Owns: Envoy's configuration, rendered from the spec, its certificate, and how its program is run. Refuses:
authentication and budgets; the API workers do that.

Where to add what:

- Envoy's behaviour: the templates of edge/envoy (the bootstrap; listeners: requests; clusters: workers and machines),
  machine/edge/service.py (where a request goes) and machine/edge/replies.py (its own answers).
"""

from ashore.machine.edge.binary import EDGE, edge_child, find_envoy, threads_for
from ashore.machine.edge.certificate import (
    CertificateFacts,
    check_files,
    keep_certificate,
    make_node_certificate,
    names_for,
    needs_renewal,
    remove_other_keys,
)
from ashore.machine.edge.keeper import EdgeKeeper
from ashore.machine.edge.model import EdgePlan, Machine, Tls, WorkerSockets
from ashore.machine.edge.reasons import edge_choices
from ashore.machine.edge.section import EdgeKind, EdgeSection
from ashore.machine.edge.service import (
    keep_tls,
    plan_edge,
    read_fullness,
    render,
    show_files,
    tell_fullness,
    worker_sockets,
    write_files,
)
