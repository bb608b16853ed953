"""Engines that Ray Serve places: each replica starts `ashore engine serve` beside it and passes requests on to it.

Ray places replicas, restarts dead ones, and keeps a proxy on every machine.
`ashore fleet ray` prints the file for `serve deploy`; the proxies are nodes of the fleet like any other.
Needs the extra `[fleet]`, only on the machines that run Ray.

Source: Ray Serve 2.60, `serve.deployment`, `serve.run` with typed application builders.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from ashore.core.errors import EngineFailed, MissingExtra
from ashore.kit.extras import how_to_install
from ashore.kit.processes import python_command
from ashore.kit.processes.ports import free_port
from ashore.kit.yaml import write_yaml

START_S: Final = 900.0
"""Longest that an engine may take to load."""
LOOK_S: Final = 0.2
HEALTH_S: Final = 4.0
STOP_S: Final = 30.0
READ_S: Final = 300.0
_PR_SET_PDEATHSIG: Final = 1
_HOP_BY_HOP: Final = frozenset(("connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade"))


def build(args: Mapping[str, Any]) -> Any:
    """Return the application for `serve deploy`.

    Args:
        args: `words`: the arguments of `ashore engine serve`, without host and port.

    Raises:
        MissingExtra: Ray is not installed here.
    """
    try:
        from ray import serve
    except ModuleNotFoundError as fault:
        raise MissingExtra(
            f"engines on Ray need {fault.name}, which is not installed", hint=how_to_install("fleet")
        ) from fault
    return serve.deployment(Engine, name="Engine").bind(list(args["words"]))


class Engine:
    """One replica: an engine server on loopback, and the proxy to it."""

    def __init__(self, words: Sequence[str]) -> None:
        import httpx

        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._command = python_command("ashore.cli.main", "engine", "serve", *words, "--port", str(port))
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        threading.Thread(target=self._keep, name="engine", daemon=True).start()
        self._started.wait()
        self._client = httpx.AsyncClient(
            base_url=self._url, timeout=httpx.Timeout(READ_S, connect=5.0), trust_env=False
        )
        self._wait_loaded()

    def _keep(self) -> None:
        """Start the engine and wait for its end. The kernel ends it with the thread that started it, so this thread
        lives as long as the replica.
        """
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

        self._process = subprocess.Popen(self._command, preexec_fn=die_with_parent)
        self._started.set()
        self._process.wait()

    def _wait_loaded(self) -> None:
        import httpx

        end_s = time.monotonic() + START_S
        while True:
            self._check_runs()
            try:
                if httpx.get(f"{self._url}/health", timeout=HEALTH_S, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > end_s:
                raise EngineFailed(f"the engine had not loaded within {START_S:g} s", hint="see the log of the replica")
            time.sleep(LOOK_S)

    def _check_runs(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            code = None if process is None else process.returncode
            raise EngineFailed(f"`ashore engine serve` ended with {code}", hint="see the log of the replica")

    async def check_health(self) -> None:
        """Return while the engine answers; Ray replaces a replica whose check raises."""
        self._check_runs()
        answer = await self._client.get("/health", timeout=HEALTH_S)
        if answer.status_code != 200:
            raise EngineFailed(f"the engine answered {answer.status_code} to /health")

    async def __call__(self, request: Any) -> Any:
        """Forward one request, and stream its answer back."""
        from starlette.responses import Response, StreamingResponse

        path = request.url.path.removeprefix(str(request.scope.get("root_path", "")).rstrip("/")) or "/"
        sent = self._client.build_request(
            request.method,
            path,
            params=dict(request.query_params),
            headers=_passed(request.headers.items()),
            content=await request.body(),
        )
        answer = await self._client.send(sent, stream=True)
        headers = _passed(answer.headers.items())
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            try:
                return Response(await answer.aread(), answer.status_code, headers)
            finally:
                await answer.aclose()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await asyncio.shield(answer.aclose())

        return StreamingResponse(pieces(), answer.status_code, headers)

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)


def _passed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _HOP_BY_HOP}


def serve_file(
    *, alias: str, words: Sequence[str], replicas: int, cpus: float, gpus: float, port: int, per_node: int
) -> str:
    """Return the file for `serve deploy`: one application under `/ALIAS`, and a proxy on every machine."""
    return write_yaml(
        {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": port, "request_timeout_s": int(READ_S) * 12},
            "applications": [
                {
                    "name": alias,
                    "route_prefix": f"/{alias}",
                    "import_path": "ashore.control.fleet.rayserve:build",
                    "args": {"words": list(words)},
                    "deployments": [
                        {
                            "name": "Engine",
                            "num_replicas": replicas,
                            "max_replicas_per_node": per_node,
                            "max_ongoing_requests": 256,
                            "health_check_period_s": 2,
                            "health_check_timeout_s": 5,
                            "graceful_shutdown_timeout_s": STOP_S,
                            "ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus},
                        }
                    ],
                }
            ],
        }
    )
