"""The gRPC server of the API worker: our services, health, reflection."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ashore.core.errors import PortTaken
from ashore.data.authority import Authenticator
from ashore.data.origin import Origins
from ashore.data.path import Limits, ServingService
from ashore.data.underway import Bodies
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Recorder

if TYPE_CHECKING:
    import grpc

SERVICES: Final = ("ashore.v1.Inference",)
HEALTH_POLL_S: Final = 0.25
"""Maximum age of the health service's answer."""
MAX_MESSAGE_BYTES: Final = 16 << 20
KEEPALIVE_MS: Final = 20_000
MAX_STREAMS: Final = 128
"""Calls at once on one connection; a client that wants more waits, or opens another."""
WINDOW_BYTES: Final = 65_535
"""Window of an unread message. gRPC would widen it to 64 MiB for a busy sender."""
HANDSHAKE_MS: Final = 10_000
"""Time-out of a connection's first settings frame."""
IDLE_MS: Final = 300_000
"""How long a connection stays open without a call."""


class GrpcServer:
    """Serves gRPC in the running event loop."""

    def __init__(
        self,
        serving: ServingService,
        authenticator: Authenticator,
        host: str = "127.0.0.1",
        port: int = 8081,
        *,
        metrics: Metrics,
        uds: str = "",
        recorder: Recorder | None = None,
        origins: Origins | None = None,
        limits: Limits | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self._serving = serving
        self._authenticator = authenticator
        self._metrics = metrics
        self._recorder = recorder
        self._origins = origins
        self._limits = limits or Limits()
        self._bodies = bodies
        self._host = host
        self._port = port
        self._uds = uds
        self._server: grpc.aio.Server | None = None
        self._health: Any = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Address for clients; with port 0, the chosen one after `start`."""
        if self._uds:
            return f"unix:{self._uds}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def start(self) -> None:
        """Listen and serve. Returns when connections are accepted.

        Raises:
            PortTaken: another process listens there.
        """
        import grpc
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        from ashore.data.grpc.gate import Gate
        from ashore.data.grpc.gen import inference_pb2
        from ashore.data.grpc.reception import CallReception
        from ashore.data.grpc.service import InferenceService

        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 4),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
                ("grpc.max_connection_idle_ms", IDLE_MS),
                ("grpc.max_allowed_incoming_connections", self._limits.connections_per_address or 1 << 20),
            ),
            interceptors=(Gate(),),
        )
        reception = CallReception(
            self._authenticator,
            self._metrics,
            limits=self._limits,
            bodies=self._bodies,
            recorder=self._recorder,
            origins=self._origins,
        )
        server.add_generic_rpc_handlers((InferenceService(self._serving, reception).handlers(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (
            inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, server)
        mask = os.umask(0o177) if self._uds else None
        try:
            port = server.add_insecure_port(self.address)
        except RuntimeError as fault:
            raise PortTaken(
                f"gRPC cannot listen on {self.address}: {fault}", hint="choose another port with --grpc-port"
            ) from fault
        finally:
            if mask is not None:
                os.umask(mask)
        self._port = self._port if self._uds else port
        await self._tell_health()
        await server.start()
        self._server = server
        self._watching = asyncio.create_task(self._watch_health(), name="grpc-health")

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuse new calls, wait up to `grace_s` for running ones, then cancel them. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._health.enter_graceful_shutdown()
        await server.stop(grace_s)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_POLL_S)
            await self._tell_health()

    async def _tell_health(self) -> None:
        """Report SERVING while `/readyz` is ready."""
        from grpc_health.v1 import health_pb2

        answers = health_pb2.HealthCheckResponse
        status = answers.SERVING if self._serving.state == "ready" else answers.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)
