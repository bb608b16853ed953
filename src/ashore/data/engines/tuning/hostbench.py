"""Runs a candidate in an engine host of its own and measures it over the host's socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from ashore.core.errors import DeadlineExceeded, Draining, EngineFailed, HostDied
from ashore.data.engines.client import HostClient
from ashore.data.engines.hostlaunch import HostLaunch
from ashore.data.engines.hostprocess import HostProcess, host_process
from ashore.data.engines.model import ModelFiles
from ashore.data.engines.tuning.measure import Measurer
from ashore.data.engines.tuning.model import Candidate, Round
from ashore.data.engines.tuning.ports import Trial

FilesOf = Callable[[Candidate, float], ModelFiles]
"""Gives the files of a candidate's variant, made now, within so many seconds, if they must be. Raises an `AshoreError`
where they cannot."""


class HostBench:
    """Measures with real hosts, one after another."""

    def __init__(self, *, files_of: FilesOf, log: Path) -> None:
        """Make the bench.

        Args:
            files_of: Returns the files of a candidate.
            log: File to which every host's output is appended.
        """
        self._files_of = files_of
        self._log = log

    def visit(self, candidate: Candidate, *, rounds: int, limit_s: float) -> Trial:
        """See `Bench.visit`."""
        ends_s = time.monotonic() + limit_s
        files = self._files_of(candidate, limit_s)
        start_s = time.monotonic()
        launch = HostLaunch(files=files, options=candidate.options, drain_s=0.0)
        with host_process(launch, log=self._log) as host:
            try:
                return asyncio.run(_measure(host, rounds=rounds, start_s=start_s, ends_s=ends_s))
            except (HostDied, Draining) as error:  # it died, or was stopped
                code = host.stop()
                raise EngineFailed(f"its host died (exit code {code}); see {self._log}") from error


async def _measure(host: HostProcess, *, rounds: int, start_s: float, ends_s: float) -> Trial:
    taken: list[Round] = []
    client = HostClient(host.socket)
    try:
        async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
            await host.connect(client)
            ready_s = time.monotonic() - start_s
            measurer = Measurer(client)
            await measurer.warm_up()
            for _ in range(rounds):
                taken.append(await measurer.round())
    except TimeoutError as error:
        if not taken:
            raise DeadlineExceeded(f"no round fitted into the {ends_s - start_s:.0f} s left") from error
    finally:
        await client.close()
    took_s = time.monotonic() - start_s - ready_s
    return Trial(engine=client.info.version, start_s=ready_s, took_s=took_s, rounds=tuple(taken))
