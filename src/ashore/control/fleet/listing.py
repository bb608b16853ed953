"""The file that lists the nodes for the hosts of one home. The supervisor writes it; hosts poll it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from ashore.control.fleet.model import Node, entry_of, nodes_of
from ashore.control.fleet.section import FleetSection
from ashore.control.fleet.sql import FLEET_EPOCH, load_nodes
from ashore.core.errors import PermissionDenied
from ashore.data.engines import FleetServer
from ashore.kit.egress import LOOPBACK
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.state import Database, EpochWatch


class FleetFile:
    """Keeps the file in line with the state."""

    def __init__(self, file: Path, database: Database, say: Callable[[str], None]) -> None:
        """Create it; writes nothing yet. `say` is called with messages about nodes left out."""
        self._file = file
        self._database = database
        self._section = FleetSection()
        self._egress: Sequence[str] = ()
        self._say = say
        self._left_out: set[str] = set()
        self._writing = Lock()

    def follow(self, watch: EpochWatch) -> None:
        """Write the file after each change of the state."""
        watch.on_change(self._changed)

    def take(self, section: FleetSection, *, egress: Sequence[str]) -> None:
        """Write the file from ashore.toml; `egress`: `[egress] allow`.

        Raises:
            AshoreError: the state cannot be read, or the file cannot be written.
        """
        self._section, self._egress = section, egress
        self._write()

    def _changed(self, kind: str, value: int) -> None:
        """Runs on the thread of the watch. If it raises, the watch calls it again."""
        if kind == FLEET_EPOCH:
            self._write()

    def _write(self) -> None:
        with self._writing:
            with self._database.read() as connection:
                nodes = nodes_of(self._section, load_nodes(connection))
            listed: dict[str, list[FleetServer]] = {}
            for node in nodes:
                if (server := self._server(node)) is not None:
                    listed.setdefault(node.alias, []).append(server)
            write_launch(listed, self._file)

    def _server(self, node: Node) -> FleetServer | None:
        own = () if node.joined_s else LOOPBACK
        try:
            entry = entry_of(node.url, self._section, allow=[*own, *self._egress])
        except PermissionDenied as fault:
            if node.url not in self._left_out:
                self._say(f"node {node.node} of the fleet is not used: {fault.message} ({fault.hint})")
                self._left_out.add(node.url)
            return None
        return FleetServer(url=node.url.rstrip("/"), entry=entry, drains=node.drains)
