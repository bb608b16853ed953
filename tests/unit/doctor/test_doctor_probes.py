"""What the doctor asks of the kernel, of workers and of the topology."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from audit_notes import a_log, a_note
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from waiting import eventually

from ashore.control.doctor.look import Between, Look
from ashore.control.doctor.probes import listeners, machine, serving
from ashore.control.doctor.probes.home import read_audit
from ashore.control.doctor.topology import Part, ServedPart, TopologyPart
from ashore.core.errors import InvalidSpec
from ashore.data.audit import AuditLink, AuditSection
from ashore.data.path import EdgeAddress, HttpListen, ServedModel, Topology, WorkerListen, write_topology
from ashore.kit.processes.launchfiles import read_launch
from ashore.kit.settings import Home


def test_the_doctor_reads_of_a_topology_what_the_supervisor_wrote(tmp_path: Path) -> None:
    model = ServedModel(alias="a", release="a-1", kind="fake", sockets=("/s0", "/s1"))  # type: ignore[arg-type]
    whole = Topology(
        models=(model,),
        workers=(WorkerListen(http=HttpListen(uds="/w0")), WorkerListen(http=HttpListen(host="::", port=9))),
        edge=EdgeAddress(url="https://there"),
        audit=AuditLink(section=AuditSection(anchors=("/worm",))),
    )
    write_topology(whole, tmp_path / "topology.json")
    part = read_launch(tmp_path / "topology.json", TopologyPart)
    assert part.served == (ServedPart(alias="a", release="a-1", kind=model.kind, sockets=("/s0", "/s1")),)
    assert part.listening == (Path("/w0"), ("::", 9))
    assert part.edge is not None and part.audit.section.anchors == ("/worm",)
    with pytest.raises(InvalidSpec):
        read_launch(tmp_path / "none.json", TopologyPart)


def test_what_the_doctor_reads_of_a_topology_has_the_names_of_the_whole() -> None:
    """Else a field that gets another name would be read as its default for ever."""

    def compare(part: Any, whole: Any, where: str) -> None:
        names = {one.name: one for one in msgspec.structs.fields(whole)}
        for field in msgspec.structs.fields(part):
            assert field.name in names, f"{where}.{field.name}"
            for inner, outer in zip(structs(field.type), structs(names[field.name].type), strict=True):
                compare(inner, outer, f"{where}.{field.name}")

    def structs(kind: Any) -> list[Any]:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return [kind]
        return [one for part in getattr(kind, "__args__", ()) for one in structs(part)]

    compare(TopologyPart, Topology, "topology")
    assert issubclass(TopologyPart, Part) and get_type_hints(TopologyPart)


@contextmanager
def flooded() -> Iterator[int]:
    """Give the port of a listener of this process that has refused connections."""
    with ExitStack() as stack:
        one = stack.enter_context(socket.socket())
        one.bind(("127.0.0.1", 0))
        one.listen(1)
        port = int(one.getsockname()[1])
        for _ in range(6):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        eventually(lambda: any(each.port == port and each.dropped for each in listeners.listeners()))
        yield port


def test_a_full_queue_is_told_of_the_listener_that_has_it_and_not_of_other_programs() -> None:
    with flooded() as port:
        own = dict(listeners.count(Path("/"), [os.getpid()]))
        others = dict(listeners.count(Path("/"), [os.getppid()]))
    (name,) = [name for name in own if name.startswith(f"listener.{port}.")]
    assert own[name] > 0 and name not in others
    looks = [
        Look(at_s=at_s, mono_s=at_s, boot="b", numbers={**own, name: dropped, "net.ListenOverflows": 50 * at_s})
        for at_s, dropped in ((1.0, 0.0), (2.0, own[name]))
    ]
    told = machine.read_network(Path("/"), Between(*looks))
    assert (told.overflows, told.full_ports) == (own[name], (port,))
    quiet = [msgspec.structs.replace(one, numbers={**one.numbers, name: 3.0}) for one in looks]
    assert machine.read_network(Path("/"), Between(*quiet)).overflows == 0, "another program's"


class Worker(BaseHTTPRequestHandler):
    """Answers by its port's entry."""

    answers: dict[int, tuple[int, dict[str, Any]]]

    def do_GET(self) -> None:
        status, body = self.answers[self.server.server_address[1]]  # type: ignore[index]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_worker_that_says_nothing_holds_up_no_other_one() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        servers = [stack.enter_context(HTTPServer(("127.0.0.1", 0), Worker)) for _ in range(2)]
        Worker.answers = {
            servers[0].server_port: (200, {"status": "ready"}),
            servers[1].server_port: (503, {"error": {"message": "no host of m is ready"}}),
        }
        for one in servers:
            threading.Thread(target=one.serve_forever, daemon=True).start()
            stack.callback(one.shutdown)
        ports = [silent.getsockname()[1], *(one.server_port for one in servers)]
        began_s = time.monotonic()
        told = serving.ask_workers({("127.0.0.1", port): 1.0 for port in ports})
        took_s = time.monotonic() - began_s
    assert [one.is_silent for one in told] == [True, False, False]
    assert [one.why_not for one in told] == ["API worker 0 says nothing within 1 s", "", "no host of m is ready"]
    assert took_s >= 1.0


@pytest.mark.parametrize(("shift_s", "least_s", "most_s"), [(-1, 0, 0), (600, 300, 600)])
def test_an_audit_record_is_compared_with_the_moment_at_which_it_is_read(
    tmp_path: Path, shift_s: float, least_s: float, most_s: float
) -> None:
    home = Home(root=tmp_path)
    home.audit_keys.mkdir()
    key = Ed25519PrivateKey.generate().public_key()
    (home.audit_keys / "public-keys.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    log = a_log(home.audit, clock_us=int((time.time() + shift_s) * 1e6))
    log.note(a_note())
    log.close()
    _, ahead_s = read_audit(home, 0, {})
    assert least_s <= ahead_s <= most_s
