"""Values of a drill: its definition, its events and its result."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Verdict = Literal["pass", "fail", "aborted", "unfit", "error"]
"""pass: everything that must hold held. fail: something did not. aborted: a bound or a person ended it. unfit: the
server was not steady before the fault, so the drill says nothing. error: the fault was not made, or not felt."""
Loss = Literal["none", "refused", "in-flight", "begun", "any"]
"""Which requests may fail while the fault lasts. none: not one. refused: those that are refused with a status that says
so (429, 502, 503, 504), before an answer began. in-flight: besides, as many as were being answered, with an error that
says so. begun: answers that had begun, with an error that says so, and no other. any: each."""
EXIT: Final[dict[str, int]] = {"pass": 0, "fail": 3, "aborted": 4, "unfit": 4, "error": 4}


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of values."""


class Twin(Value, frozen=True, kw_only=True):
    """A separate server to rehearse a drill on: made-up models in a temporary folder."""

    replicas: int = 2
    options: tuple[str, ...] = ()
    """Of `ashore up`."""
    more: str = ""
    """Lines of its ashore.toml."""
    group: bool = False
    """Whether it lives in a control group of its own. Needs root."""
    neighbours: tuple[str, ...] = ()
    """What stands beside it, each behind a line of the drill's own network: `cache`, `state` (Postgres), `bucket` (S3),
    `centre` (of which it is a branch office), `directory` (LDAP), `siem`, `mail-0`, `mail-1`, `engine-0`, `engine-1`,
    and `server`, a second one on the same state."""
    own_clock: bool = False
    """Whether its processes read the clock through libfaketime."""
    disk_bytes: int = 0
    """Size of a file system in memory for its home; 0: it lies where temporary files lie. Needs root."""


class Drill(Value, frozen=True, kw_only=True):
    """One rehearsal of a failure."""

    name: str
    title: str
    steady: str = "every request is answered for three seconds"
    """What is measured before, in words."""
    fault: str
    """What is broken, in words."""
    expects: str
    """What must hold, in words."""
    maker: str
    """Which fault it is; `faults.MAKERS` has it."""
    hold_s: float = 0.0
    """How long the fault stays; 0: it is over at once."""
    loss: Loss = "none"
    recovery_s: float = 10.0
    """Longest time from the end of the fault, or from its beginning where it ends at once, to a server that is well."""
    most_s: float = 90.0
    """Longest time that the fault may stay, whatever happens."""
    load: int = 4
    """Clients that ask at once."""
    cached: bool = False
    """Whether their answers go through the cache, which is then in the path of each request."""
    twin: Twin = Twin()
    twin_only: bool = False
    """Whether it is never run on the server that answers users."""
    needs: tuple[str, ...] = ()
    """`root`, or programs."""
    lines: tuple[str, ...] = ()
    """To which neighbours of the twin the trouble is."""
    spare: int = 0
    """Replicas that must be ready beside the one that is broken."""


class Outcome(Value, frozen=True, kw_only=True):
    """One request of the load."""

    at_s: float
    """Since the drill began."""
    first_s: float = 0.0
    """From the request to the first part of the answer; 0: there was none."""
    took_s: float
    ok: bool
    status: int = 0
    code: str = ""
    """What the error said; empty: none came."""
    silent_cut: bool = False
    """Whether a stream ended without its end mark and without an error."""


class Phase(Value, frozen=True, kw_only=True):
    """Requests in one part of a drill, aggregated."""

    requests: int
    failed: int
    first_p50_ms: float
    first_p95_ms: float
    longest_s: float
    codes: dict[str, int]


class Check(Value, frozen=True, kw_only=True):
    """One condition that had to hold."""

    name: str
    held: bool
    seen: str
    bound: str


class Report(Value, frozen=True, kw_only=True):
    """Result of a drill."""

    format: str = "ashore.drill/1"
    id: str
    drill: str
    title: str
    verdict: Verdict
    why: str
    on: str
    """`twin`, or the address of the server."""
    production: bool
    began_s: float
    """Seconds since 1970."""
    fault_at_s: float = 0.0
    """Since the drill began; 0: no fault was made."""
    fault_for_s: float = 0.0
    felt: str = ""
    """How it was seen that the fault was there."""
    recovered_s: float | None = None
    """From the end of the fault, or from its beginning where it ends at once, to a server that is well; None: that was
    not seen."""
    noticed: tuple[str, ...] = ()
    """Rules of the doctor that fired while the fault was there."""
    phases: dict[str, Phase] = {}
    checks: tuple[Check, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    actor: str = ""
    consent: str = ""
    """Who consented, in production."""
    versions: dict[str, str] = {}
