"""The edge under the supervisor: start, reload, health, and certificate renewal."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.engines import read_inventory
from ashore.kit.processes import get_from
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import SITES_AUTHORITY
from ashore.machine.edge.binary import EDGE, edge_child, find_envoy, threads_for
from ashore.machine.edge.certificate import remove_other_keys
from ashore.machine.edge.model import EdgePlan
from ashore.machine.edge.section import EdgeSection
from ashore.machine.edge.service import keep_tls, plan_edge, read_fullness, tell_fullness, write_files

RENEWAL_LOOK_S: Final = 3600.0
LOOK_S: Final = 0.5
FULLNESS_LOOK_S: Final = 1.0
SITES_LOOK_S: Final = 1.0


class EdgeKeeper:
    """Keeps one Envoy. All methods are called from the supervisor's thread."""

    def __init__(
        self,
        *,
        run: Path,
        certificates: Path,
        log: Path,
        supervisor: Supervisor,
        clock: Clock,
        say: Callable[[str], None],
        num_workers: int,
        longest_answer_s: float,
        max_file_bytes: int,
    ) -> None:
        """Create it; nothing is started.

        Args:
            run: Folder of sockets and of the rendered configuration.
            certificates: Folder of generated certificates.
            log: Envoy's output, and its access log.
            supervisor: Owns the process.
            clock: Decides when a certificate is renewed.
            say: Called with messages for the operator.
            num_workers: Number of API workers behind it.
            longest_answer_s: Longest deadline that a request may have.
            max_file_bytes: Longest upload of a file.
        """
        self._run = run
        self._certificates = certificates
        self._log = log
        self._supervisor = supervisor
        self._clock = clock
        self._say = say
        self._num_workers = num_workers
        self._longest_answer_s = longest_answer_s
        self._max_file_bytes = max_file_bytes
        self._spec = EdgeSection()
        self._fullness = 0.0
        self._asks_sites = False
        """Whether the configuration asks for certificates of sites."""

    def start(self, spec: EdgeSection) -> None:
        """Write the configuration and start Envoy. Returns at once.

        Raises:
            MissingExtra: Envoy, or the package for certificates, is not installed.
            InvalidSpec: the operator's certificate is wrong.
        """
        program = find_envoy()
        self._spec = spec
        plan = self._plan()
        self._write(plan)
        plan.admin_socket.unlink(missing_ok=True)
        threads = threads_for(spec.threads, read_inventory().cores)
        self._supervisor.add(edge_child(plan, program, log=self._log, threads=threads))
        self._supervisor.call_every("certificate of the edge", RENEWAL_LOOK_S, self._renew)
        self._supervisor.call_every("sites of the edge", SITES_LOOK_S, self._ask_sites)
        self._supervisor.call_every("fullness of the edge", FULLNESS_LOOK_S, partial(self._tell_fullness, plan))

    def apply(self, spec: EdgeSection) -> tuple[Path, ...]:
        """Write the configuration again; Envoy reloads changes by itself. Returns the files that changed.

        Raises:
            InvalidSpec: the new certificate is wrong; nothing was written.
        """
        before, self._spec = self._spec, spec
        try:
            return self._write(self._plan())
        except AshoreError:
            self._spec = before
            raise

    def is_ready(self) -> bool:
        """Return whether Envoy has its whole configuration and accepts connections."""
        if get_from(self._run / "envoy-admin.sock", "/ready") is None:
            return False
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._spec.host, self._spec.host)
        try:
            socket.create_connection((host, self._spec.port), timeout=LOOK_S).close()
        except OSError:
            return False
        return True

    @property
    def _sites_ca(self) -> Path:
        return self._certificates.parent / SITES_AUTHORITY

    def _ask_sites(self) -> None:
        """Ask sites for their certificates once this home has an authority for them: at its first start as a centre
        that comes after the edge."""
        if self._asks_sites != self._sites_ca.exists():
            self._write(self._plan())

    def _plan(self) -> EdgePlan:
        self._asks_sites = self._sites_ca.exists()
        tls, made = keep_tls(self._spec, self._certificates, now_s=self._clock.now_s())
        if made:
            self._say(f"created a certificate for the edge: {made}")
        return plan_edge(
            self._spec,
            run=self._run,
            tls=tls,
            num_workers=self._num_workers,
            longest_answer_s=self._longest_answer_s,
            max_file_bytes=self._max_file_bytes,
            clients_ca=self._sites_ca,
        )

    def _write(self, plan: EdgePlan) -> tuple[Path, ...]:
        """Write Envoy's files; a key is removed only when no file names it any more, since Envoy may start at any
        time."""
        changed = write_files(plan)
        if plan.tls is not None and self._spec.tls == "generate":
            remove_other_keys(Path(plan.tls.key_file))
        return changed

    def _tell_fullness(self, plan: EdgePlan) -> None:
        """Report to Envoy how full it is, if that changed: the fuller, the shorter the time-out of silent
        connections."""
        if self._supervisor.state(EDGE) != "running":
            return
        share = round(read_fullness(plan), 2)
        if share == self._fullness:
            return
        try:
            tell_fullness(plan, share)
        except OSError as fault:
            self._say(f"cannot write the load of the edge: {fault.strerror}; free some space on the disk of {plan.run}")
        self._fullness = share

    def _renew(self) -> None:
        if self._supervisor.state(EDGE) not in ("running", "waiting"):
            return
        try:
            self._write(self._plan())
        except (AshoreError, OSError) as fault:
            self._say(f"cannot check or renew the certificate of the edge: {fault}")
