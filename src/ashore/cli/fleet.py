"""`ashore fleet`: servers that share one state, and the engine nodes behind them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from msgspec.structs import replace

from ashore.cli.calls import Errand, noun_of, table
from ashore.control.fleet.calls import CALLS, DrainIn, FleetOut, NodeOut
from ashore.core.errors import NotReady
from ashore.kit.call import Items
from ashore.kit.settings import read_settings

PIECE_S: Final = 5
"""Longest wait in one request to the server."""

_NODE = ("node", "model", "state", "running", "used_by", "kind", "address", "leaves", "why")


def _show_fleet(found: FleetOut) -> None:
    print(table(found.nodes, _NODE) if found.nodes else "no nodes")
    print()
    print(table(found.servers))


def _show_nodes(found: Items[NodeOut]) -> None:
    print(table(found.items, _NODE))


def _show_gone(found: Items[NodeOut]) -> None:
    for one in found.items:
        print(f"{one.node} left {one.model}; {one.running} requests still run on it")


def _drain(errand: Errand, asked: DrainIn) -> None:
    """Drain a node, polling in intervals shorter than HTTP timeouts."""
    end_s = time.monotonic() + asked.wait_s
    while True:
        left_s = max(0, round(end_s - time.monotonic()))
        answer: Items[NodeOut] = errand.ask(replace(asked, wait_s=min(PIECE_S, left_s)))
        running = sum(one.running for one in answer.items if one.state != "drained")
        if not left_s or all(one.state == "drained" for one in answer.items):
            break
    errand.tell(answer)
    if asked.wait_s and any(one.state != "drained" for one in answer.items):
        raise NotReady(
            f"{running} requests still run on {asked.node} after {asked.wait_s} s",
            hint="run the command again to wait longer; the node takes no new requests meanwhile",
        )


app = noun_of(
    "fleet",
    "Add engine nodes to a model, drain them and remove them.",
    CALLS,
    {"status": _show_fleet, "join": _show_nodes, "drain": _show_nodes, "undrain": _show_nodes, "leave": _show_gone},
    {"drain": _drain},
)


@app.command
def certificate(
    name: str, /, *, address: Annotated[tuple[str, ...], Parameter(consume_multiple=False)], to: Path | None = None
) -> None:
    """Make a certificate for one machine of the fleet, signed by the fleet's authority.

    The authority is made in this home the first time, and stays here: run the command in the same home for every
    machine. Copy the folder to the machine, as fleet/ in its home. A certificate is good for 90 days; make another
    one to replace it.

    Args:
        name: Name of the machine, for logs.
        address: Host name or IP address by which the other machines call it. May be given several times.
        to: Folder for ca.pem, node.pem and node.key; default: fleet/ in this home, for this machine.
    """
    import datetime

    from ashore.machine.edge import make_node_certificate

    home = read_settings().home
    home.create()
    folder = to or home.fleet
    made = make_node_certificate(home.fleet / "authority", folder, name, address, datetime.datetime.now(datetime.UTC))
    if made:
        print(f"made the authority of the fleet in {home.fleet / 'authority'}; keep its key on this machine")
    print(f"certificate of {name} for {', '.join(address)} in {folder}")


@app.command
def ray(
    model: str,
    /,
    *,
    alias: str,
    replicas: int = 1,
    replicas_per_node: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    port: int = 8000,
    key_file: Path | None = None,
) -> None:
    """Print the file with which Ray Serve runs `ashore engine serve` on several machines: `serve deploy FILE`.

    Ray places the replicas and starts them again. The proxy of each machine is then a node of the fleet, at
    http://MACHINE:PORT/ALIAS. Every machine needs the extra [fleet], the model in its store, and the same path to both.

    Args:
        model: Store name of the model, as each machine has it.
        alias: Name under which it is served.
        replicas: Number of engines on all machines together.
        replicas_per_node: Most engines on one machine.
        cpus: Processors that Ray reserves for one engine.
        gpus: GPUs that Ray reserves for one engine.
        port: Port of the proxy on every machine.
        key_file: File on each machine with the key that engines ask for.
    """
    from ashore.control.fleet.rayserve import serve_file

    words = [model, "--served-model-name", alias, *(["--key-file", str(key_file)] if key_file else [])]
    print(
        serve_file(
            alias=alias, words=words, replicas=replicas, cpus=cpus, gpus=gpus, port=port, per_node=replicas_per_node
        ),
        end="",
    )
