"""The file that lists the nodes for the hosts of one home. The supervisor writes it; hosts look at it all the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from ashore.engines import FleetServer
from ashore.errors import PermissionDenied
from ashore.fleet.model import Node, entry_of
from ashore.fleet.section import FleetSection
from ashore.fleet.sql import FLEET_EPOCH, load_nodes
from ashore.processes import write_launch_file
from ashore.state import Database, EpochWatch


class FleetFile:
    """Keeps the file as the state says."""

    def __init__(
        self,
        file: Path,
        database: Database,
        section: FleetSection,
        *,
        egress: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """Make it; nothing is written yet. `egress`: `[egress] allow`; `say` hears of nodes that are left out."""
        self._file = file
        self._database = database
        self._section = section
        self._egress = egress
        self._say = say
        self._left_out: set[str] = set()
        self._writing = Lock()

    def follow(self, watch: EpochWatch) -> None:
        """Write the file, and again after each change.

        Raises:
            AshoreError: the state cannot be read, or the file cannot be written.
        """
        watch.on_change(self._changed)
        self._write()

    def _changed(self, kind: str, value: int) -> None:
        """Runs on the thread of the watch. What it raises makes the watch call it again."""
        if kind == FLEET_EPOCH:
            self._write()

    def _write(self) -> None:
        with self._writing:
            with self._database.read() as connection:
                nodes = load_nodes(connection)
            listed: dict[str, list[FleetServer]] = {}
            for node in nodes:
                if (server := self._server(node)) is not None:
                    listed.setdefault(node.alias, []).append(server)
            write_launch_file(listed, self._file)

    def _server(self, node: Node) -> FleetServer | None:
        try:
            entry = entry_of(node.url, networks=self._section.networks, allow=self._egress)
        except PermissionDenied as fault:
            if node.url not in self._left_out:
                self._say(f"node {node.node} of the fleet is not used: {fault.message} ({fault.hint})")
                self._left_out.add(node.url)
            return None
        return FleetServer(url=node.url.rstrip("/"), entry=entry, drains=node.drains)
