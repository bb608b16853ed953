"""Runs a candidate in an engine host of its own and measures it over the host's socket."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ashore.engines.client import HostClient
from ashore.engines.hostlaunch import HostLaunch, host_command, write_launch
from ashore.engines.model import ModelFiles
from ashore.engines.tuning.measure import Measurer
from ashore.engines.tuning.model import Candidate, Round
from ashore.engines.tuning.ports import Trial
from ashore.errors import DeadlineExceeded, EngineFailed, HostDied

STOP_S: Final = 5.0
"""A host that still runs so long after SIGTERM is killed: nothing of a measurement is worth keeping."""

LONGEST_LOAD_S: Final = 3600.0
"""The limit of the visit ends a load long before."""
POLL_S: Final = 0.1

FilesOf = Callable[[Candidate, float], ModelFiles]
"""Gives the files of a candidate's variant, made now, within so many seconds, if they must be. Raises an `AshoreError`
where they cannot."""


class HostBench:
    """Measures with real hosts, one after another."""

    def __init__(self, *, files_of: FilesOf, log: Path) -> None:
        """Make the bench.

        Args:
            files_of: Gives the files of a candidate.
            log: File to which every host's own words are appended.
        """
        self._files_of = files_of
        self._log = log

    def visit(self, candidate: Candidate, *, rounds: int, limit_s: float) -> Trial:
        """See `Bench.visit`."""
        ends_s = time.monotonic() + limit_s
        files = self._files_of(candidate, limit_s)
        with tempfile.TemporaryDirectory(prefix="ashore-tune-") as scratch, self._log.open("ab") as log:
            launch = Path(scratch) / "launch.json"
            write_launch(HostLaunch(files=files, options=candidate.options, drain_s=0.0), launch)
            socket = Path(scratch) / "host.sock"
            read_end, write_end = os.pipe()
            start_s = time.monotonic()
            try:
                host = subprocess.Popen(
                    host_command(socket, launch, control_fd=read_end),
                    pass_fds=(read_end,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            finally:
                os.close(read_end)
            try:
                return asyncio.run(_measure(host, socket, rounds=rounds, start_s=start_s, ends_s=ends_s))
            except HostDied as error:
                code = _stop(host)
                raise EngineFailed(f"its host died (exit code {code}); its last words are in {self._log}") from error
            finally:
                _stop(host)
                os.close(write_end)


async def _measure(host: subprocess.Popen[bytes], socket: Path, *, rounds: int, start_s: float, ends_s: float) -> Trial:
    taken: list[Round] = []
    client = HostClient(socket)
    try:
        async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
            await _connect(client, host)
            ready_s = time.monotonic() - start_s
            measurer = Measurer(client)
            await measurer.warm_up()
            for _ in range(rounds):
                taken.append(await measurer.round())
    except TimeoutError as error:
        if not taken:
            raise DeadlineExceeded(f"not one round fitted into the {ends_s - start_s:.0f} s that were left") from error
    finally:
        await client.close()
    took_s = time.monotonic() - start_s - ready_s
    return Trial(engine=client.info.version, start_s=ready_s, took_s=took_s, rounds=tuple(taken))


async def _connect(client: HostClient, host: subprocess.Popen[bytes]) -> None:
    """Wait for the greeting, but no longer than the host lives. The caller's timeout bounds it.

    Raises:
        AshoreError: the host said why it cannot load.
        HostDied: it ended without a word.
    """
    greeting = asyncio.create_task(client.connect(timeout_s=LONGEST_LOAD_S))
    try:
        while not (await asyncio.wait({greeting}, timeout=POLL_S))[0]:
            if host.poll() is not None:
                raise HostDied(f"the host ended with exit code {host.returncode} before its engine was loaded")
        greeting.result()
    finally:
        greeting.cancel()


def _stop(host: subprocess.Popen[bytes]) -> int:
    """Stop the host, the hard way if it must be, and return its exit code. May be called twice."""
    if host.poll() is None:
        host.terminate()
        try:
            host.wait(STOP_S)
        except subprocess.TimeoutExpired:
            host.kill()
    return host.wait()
