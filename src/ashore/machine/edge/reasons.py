"""The decisions of the edge, each with its reason, for `ashore up --dry-run`."""

from __future__ import annotations

from ashore.data.engines import Choice
from ashore.machine.edge.binary import threads_for
from ashore.machine.edge.section import EdgeSection


def edge_choices(spec: EdgeSection, *, num_workers: int, cores: int, address: str) -> tuple[Choice, ...]:
    """Return the decisions of an edge, in display order."""
    tls = {
        "generate": ("own authority", "no certificate is configured; clients verify it with edge/ca.pem of the home"),
        "files": (spec.certificate, "[edge] certificate"),
        "off": ("none", '[edge] tls = "off": keys and prompts cross the network in plain text'),
    }[spec.tls]
    machines = ", ".join(spec.machines) or "none"
    return (
        Choice(field="address", value=address, why="HTTP/1.1, HTTP/2 and gRPC on one port"),
        Choice(field="tls", value=tls[0], why=tls[1]),
        Choice(
            field="workers",
            value=str(num_workers),
            why="on unix sockets of mode 0600, so that nobody can bypass the edge",
        ),
        Choice(
            field="threads",
            value=str(threads_for(spec.threads, cores)),
            why="[edge] threads" if spec.threads else "of Envoy; two on machines with four cores or more",
        ),
        Choice(
            field="machines",
            value=machines,
            why="answer when no worker here can" if spec.machines else "[edge] machines names none",
        ),
        Choice(
            field="limits",
            value=f"{spec.max_body_bytes:,} bytes, {spec.flood_per_s:,}/s",
            why="body of one request ([edge] max_body_bytes), all requests together (flood_per_s)",
        ),
    )
