"""The doctor in the control process: its calls. It looks in a process of its own, and works without a server too."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.doctor.calls import CALLS, DoctorDesk, Found, Looks
from ashore.core.errors import EnvironmentFault
from ashore.kit.decode import UNDECODABLE
from ashore.kit.processes import python_command
from ashore.kit.rooms import Context, Opened, Room

COMMAND: Final = ("doctor", "--json", "--for", "1s")
KEPT_S: Final = 30.0
"""A look is good for so long, so that pages that ask again cost nothing."""
LONGEST_S: Final = 60.0
LESS_NICE: Final = 10
"""Requests come first: a look reads a thousand files and costs a second of a processor."""


class OwnLook:
    """Looks at a home by the command that an operator uses, in a process that gives way to requests.

    A look inside of the worker would hold up its requests: it waits for disks, and parses for a second.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = asyncio.Lock()
        self._last: Found | None = None
        self._at_s = float("-inf")
        self._failed: tuple[float, EnvironmentFault] | None = None
        """When the last look began, and why it failed; who waited for it looks no further."""

    async def __call__(self, *, fresh: bool) -> Found:
        began_s = time.monotonic()
        async with self._lock:
            good_since_s = began_s if fresh else began_s - KEPT_S
            if self._failed is not None and self._failed[0] >= good_since_s:
                raise self._failed[1]
            if self._last is None or self._at_s < good_since_s:
                at_s, self._failed = time.monotonic(), None
                try:
                    self._at_s, self._last = at_s, await self._look()
                except EnvironmentFault as fault:
                    self._failed = at_s, fault
                    raise
            return self._last

    async def _look(self) -> Found:
        process = await asyncio.create_subprocess_exec(
            *python_command("ashore.cli.main", *COMMAND),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "ASHORE_HOME": str(self._home)},
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, LESS_NICE)
        try:
            async with asyncio.timeout(LONGEST_S):
                said, errors = await process.communicate()
        except TimeoutError as fault:
            raise EnvironmentFault(
                f"the doctor did not end within {LONGEST_S:.0f} s", hint="run `ashore doctor` on the machine"
            ) from fault
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            return msgspec.json.decode(said, type=Found)
        except UNDECODABLE as fault:
            last = (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise EnvironmentFault(f"the doctor failed: {last}", hint="run `ashore doctor` on the machine") from fault


async def open_room(context: Context) -> Opened:
    """Open it; nothing where there is no home to look at."""
    home: str = context.told("home")
    if not home:
        return Opened()
    where = Path(home)
    look = OwnLook(where)
    return Opened(
        desk=DoctorDesk(rights=context.rights, recorder=context.recorder, look=look, home=where), gives={Looks: look}
    )


ROOM: Final = Room(name="doctor", calls=CALLS, acts=("doctor:undo",), administer=open_room)
