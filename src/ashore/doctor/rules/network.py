"""The network, names, and the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

STEP_S: Final = 0.5
SLOW_LOOKUP_S: Final = 0.5
BACKLOG: Final = 1024
SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"


@rule(
    "D402",
    "clock",
    "Did the clock jump?",
    needs=("clock",),
    source="tokens, certificates and audit records go by the wall clock",
    down=True,
)
def jumped(seen: Readings) -> Iterator[Finding]:
    step = seen.clock.stepped_s
    if abs(step) > STEP_S:
        yield Finding(
            severity="warning",
            what=f"the clock was set {'forward' if step > 0 else 'back'} by {abs(step):.1f} s while the doctor looked",
            cause="somebody or a time service set it; tokens end early or late, and records are out of order",
            evidence=(evidence("step against the monotonic clock", f"{step:+.1f} s", f"{STEP_S:g} s"),),
            sure="certain",
            remedy="let a time service slew the clock instead of setting it",
            commands=("chronyc tracking",),
        )
    if seen.clock.behind_record_s > 2.0:
        yield Finding(
            severity="warning",
            what=f"the newest audit record is {seen.clock.behind_record_s:.0f} s in the future",
            cause="the clock was ahead when it was written, or is behind now",
            evidence=(evidence("newest record", f"{seen.clock.behind_record_s:+.0f} s", "2 s"),),
            sure="certain",
            remedy="set the clock right. Records keep their order by number; their times stay as they are",
            commands=("date -u", "ashore audit verify"),
        )


@rule("D403", "network", "Do names of other machines take long to look up?", needs=("lookups",))
def slow_names(seen: Readings) -> Iterator[Finding]:
    for one in seen.lookups:
        if one.error or one.took_s > SLOW_LOOKUP_S:
            yield Finding(
                severity="warning",
                what=f"the name {one.name} {f'of {one.used_by} ' if one.used_by else ''}"
                f"{'cannot be looked up: ' + one.error if one.error else f'takes {one.took_s:.1f} s to look up'}",
                cause="a name server of /etc/resolv.conf does not answer, or the name is wrong",
                evidence=(evidence("look-up", one.error or f"{one.took_s:.2f} s", f"{SLOW_LOOKUP_S:g} s"),),
                sure="certain",
                remedy="correct the name servers, or write the address into the file",
                commands=("cat /etc/resolv.conf", f"getent hosts {one.name}"),
            )


@rule(
    "D405",
    "network",
    "Are connections refused because nobody takes them?",
    needs=("network.overflows",),
    source="ListenOverflows; net.core.somaxconn bounds what a server asks for",
)
def queue_full(seen: Readings) -> Iterator[Finding]:
    if seen.network.overflows:
        small = seen.network.backlog_most < BACKLOG
        ports = " and ".join(map(str, seen.network.full_ports))
        where = f"port {ports}" if ports else "this machine"
        yield Finding(
            severity="warning",
            what=f"{counted(seen.network.overflows, 'connection')} to {where} found the queue full and had to wait or "
            "were lost",
            cause="the server took them too slowly, or the queue is short",
            evidence=(
                evidence("refused connections", seen.network.overflows, 0),
                evidence("net.core.somaxconn", seen.network.backlog_most, BACKLOG),
            ),
            sure="likely",
            remedy="make the queue longer" if small else "see whether an API worker is busy; add workers",
            commands=("ss -ltn", f"sysctl -w net.core.somaxconn={4 * BACKLOG}"),
            change=Change(kind="kernel", target=SOMAXCONN, value=str(4 * BACKLOG), safe=False) if small else None,
        )


@rule("D409", "network", "Would a proxy variable send requests astray?", needs=("processes",))
def proxy_set(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        held = [name for name in one.variables if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
        if one.role == "supervisor" and held and "no_proxy" not in {name.lower() for name in one.variables}:
            yield Finding(
                severity="advice",
                what=f"the server was started with {held[0]} and without no_proxy",
                cause="clients of other makers that inherit these variables ask the proxy for addresses of this "
                "machine",
                evidence=(evidence(held[0], "set"), evidence("no_proxy", "not set", "127.0.0.1,localhost")),
                sure="possible",
                remedy="set no_proxy beside it",
                commands=("export no_proxy=127.0.0.1,localhost,::1",),
            )
