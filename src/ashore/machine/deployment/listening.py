"""Where each API worker listens and writes its audit log, derived from ashore.toml."""

from __future__ import annotations

from ashore.data.audit import AuditLink, AuditSection
from ashore.data.jobs import ApiAddress
from ashore.data.path import GrpcListen, HttpListen, WorkerListen
from ashore.kit.settings import Home
from ashore.machine.config import Listening
from ashore.machine.edge import worker_sockets


def worker_listen(listening: Listening, home: Home, index: int) -> WorkerListen:
    """Return where API worker `index` listens: behind an edge only on unix sockets, so that clients cannot bypass
    it.
    """
    if listening.has_edge:
        sockets = worker_sockets(home.run, index)
        return WorkerListen(http=HttpListen(uds=sockets.http), grpc=GrpcListen(uds=sockets.grpc))
    grpc = listening.grpc
    return WorkerListen(
        http=HttpListen(host=listening.http.host, port=listening.http.port),
        inner=worker_sockets(home.run, index).http,
        grpc=GrpcListen(host=grpc.host, port=grpc.port) if grpc.port else None,
    )


def api_address(where: HttpListen) -> ApiAddress:
    """Return how a process of this machine reaches an API worker."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
    return ApiAddress(uds=where.uds) if where.uds else ApiAddress(host=host, port=where.port)


def audit_link(section: AuditSection, home: Home) -> AuditLink:
    """Return where and how the processes of a home write audit records."""
    return AuditLink(path=str(home.audit), keys=str(home.audit_keys), key=str(home.audit_key), section=section)
