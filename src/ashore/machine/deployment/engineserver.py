"""One engine behind vLLM's HTTP API and nothing else: a host, and an API worker without keys, state or audit log.

For a controller that places engines itself (Kubernetes, Ray Serve, an endpoint picker) or for ashore on another
machine, which names it in `[[fleet.node]]`. Access, cost and audit are decided there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ashore.core.clock import Clock
from ashore.data.cache import CachePolicy
from ashore.data.engines import EngineInfo, ModelFiles, ModelPlan
from ashore.data.path import HttpListen, MetricsSection, Topology, write_topology
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import Home, Settings
from ashore.machine.deployment.children import API, api_child
from ashore.machine.deployment.hosts import Hosts
from ashore.machine.deployment.topology import served_model


def serve_engine(
    model: ModelPlan,
    files: ModelFiles,
    listen: HttpListen,
    *,
    key_file: Path | None,
    settings: Settings,
    supervisor: Supervisor,
    clock: Clock,
    ready: Callable[[EngineInfo], None],
) -> None:
    """Serve one model until a stop is requested; running answers may finish. A host or worker that dies is replaced.

    Args:
        model: What is served, under its alias.
        files: Its files.
        listen: Where.
        key_file: File with the key that requests must carry; None: they need none.
        settings: How long to wait for a start and for the last answers.
        supervisor: Entered, with its signals.
        clock: For deadlines.
        ready: Called once requests are answered.

    Raises:
        AshoreError: the model cannot be loaded, or the worker fell too often.
    """
    with tempfile.TemporaryDirectory(prefix="ashore-engine-") as folder:
        scratch = Home(root=Path(folder))  # sockets and logs; the home of the store is not modified
        scratch.create()
        hosts = Hosts(home=scratch, settings=settings, supervisor=supervisor, clock=clock)
        running = hosts.start(model, files)
        info = hosts.wait(running, clock.monotonic_s() + settings.start_timeout_s)
        if info is None:
            return
        topology = Topology(
            models=(served_model(running),),
            http=listen,
            metrics=MetricsSection(vllm_names=True),
            cache=CachePolicy(mode="off"),
            first_key_file="" if key_file is None else str(key_file.absolute()),
            drain_timeout_s=settings.drain_timeout_s,
            start_timeout_s=settings.start_timeout_s,
            access_log=False,
        )
        write_topology(topology, scratch.topology)
        supervisor.add(api_child(0, home=scratch, settings=settings))
        if supervisor.state(API) != "stopped":
            ready(info)
        supervisor.run()
