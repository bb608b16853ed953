"""Models on the disk, releases, and ashore.toml against what runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted, human_bytes
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

GARBAGE_SHARE: Final = 0.2
GARBAGE_BYTES: Final = 1 << 30


@rule("D308", "store", "Does the store hold what nothing uses?", needs=("stored.garbage_bytes",), down=True)
def garbage(seen: Readings) -> Iterator[Finding]:
    stored = seen.stored
    if stored.garbage_bytes > max(GARBAGE_BYTES, int(GARBAGE_SHARE * stored.store_bytes)):
        yield Finding(
            severity="advice",
            what=f"{human_bytes(stored.garbage_bytes)} of the store belong to no model",
            cause="models were removed or replaced",
            evidence=(
                evidence(
                    "unused",
                    human_bytes(stored.garbage_bytes),
                    f"{GARBAGE_SHARE:.0%} of {human_bytes(stored.store_bytes)}",
                ),
            ),
            sure="certain",
            remedy="delete it",
            commands=("ashore model gc --dry-run", "ashore model gc"),
        )


@rule("D309", "store", "Are files of a live model damaged or missing?", needs=("stored.missing",), down=True)
def damaged(seen: Readings) -> Iterator[Finding]:
    for one in seen.stored.missing[:5]:
        yield Finding(
            severity="critical",
            what=f"a file of a live model is missing or has another size: {one}",
            cause="it was deleted or cut; the host that has it open goes on, and the next start fails",
            evidence=(evidence("file", one, "as its manifest says"),),
            sure="certain",
            remedy="restore it from the backup, or pull the model again",
            commands=("ashore model verify", "ashore backup restore --help"),
        )


@rule("D310", "store", "Were downloads cut off and left?", needs=("stored.unfinished_bytes",), down=True)
def unfinished(seen: Readings) -> Iterator[Finding]:
    if seen.stored.unfinished_bytes > GARBAGE_BYTES:
        yield Finding(
            severity="advice",
            what=f"{human_bytes(seen.stored.unfinished_bytes)} of unfinished downloads were not touched for a day",
            cause="a pull was cut off and not taken up again",
            evidence=(evidence("unfinished", human_bytes(seen.stored.unfinished_bytes), human_bytes(GARBAGE_BYTES)),),
            sure="certain",
            remedy="pull the model again, which goes on where it ended; `gc` deletes them after a week",
            commands=("ashore model pull NAME",),
        )


@rule("D930", "release", "Did a release fail?", needs=("releases.failed",))
def failed(seen: Readings) -> Iterator[Finding]:
    for name, why in seen.releases.failed:
        yield Finding(
            severity="critical",
            what=f"release {name} failed: {why}",
            cause="its hosts could not load or were given up; what was live before answers",
            evidence=(evidence("state", "failed", "live"),),
            sure="certain",
            remedy="see why, and make another",
            commands=(f"ashore release show {name}",),
        )


@rule("D931", "release", "Does a rollback have to load first?", needs=("releases.cold_way_back",))
def cold_way_back(seen: Readings) -> Iterator[Finding]:
    for one in seen.releases.cold_way_back:
        yield Finding(
            severity="advice",
            what=f"the release before the live one of {one} is not loaded any more",
            cause="it stood by for as long as it was told to, or memory was short",
            evidence=(evidence("standby", "none", "loaded"),),
            sure="certain",
            remedy="a rollback loads it first; keep it warm while a new release is young (--standby)",
            commands=(f"ashore alias history {one}",),
        )


@rule("D932", "release", "Has a candidate got stuck?", needs=("releases.stuck",))
def stuck(seen: Readings) -> Iterator[Finding]:
    for one in seen.releases.stuck:
        yield Finding(
            severity="warning",
            what=f"{one} has got no further for a day",
            cause="too few requests reach it for the comparison to end, or nobody promoted it",
            evidence=(evidence("candidate", one),),
            sure="likely",
            remedy="look at its evidence; raise its share, promote it, or retire it",
            commands=(f"ashore release evidence {one.partition(' ')[0]}",),
        )


@rule("D934", "release", "Is a server of another machine not used?", needs=("releases.out",))
def servers_out(seen: Readings) -> Iterator[Finding]:
    for one in seen.releases.without_servers:
        yield Finding(
            severity="critical",
            what=f"no server of {one} can be used",
            cause="each of them does not answer, answers wrongly, or serves another model",
            evidence=(evidence("servers in use", 0, 1),),
            sure="certain",
            remedy="see why in the table of servers, and start one of them",
            commands=("ashore status",),
        )
    for one in seen.releases.out:
        yield Finding(
            severity="warning",
            what=f"no request goes to {one}",
            cause="it does not answer, answers wrongly, or serves another model",
            evidence=(evidence("state", "out", "ready"),),
            sure="certain",
            remedy="start it; it is used again once it answers",
            commands=("ashore status",),
        )


@rule("D940", "configuration", "Does ashore.toml differ from what runs?", needs=("configuration",))
def differs(seen: Readings) -> Iterator[Finding]:
    told = seen.configuration
    if told.unreadable:
        yield Finding(
            severity="warning",
            what=f"the file cannot be used any more, and the server continues with what it read: {told.unreadable}",
            cause="it was changed since the start; a restart would fail",
            evidence=(evidence("ashore.toml", told.unreadable, "readable"),),
            sure="certain",
            remedy="correct the file",
            commands=("ashore reload --dry-run",),
        )
    if told.needs_restart:
        yield Finding(
            severity="warning",
            what=f"ashore.toml differs from what runs: {'; '.join(told.needs_restart)}",
            cause="these keys are read at the start alone",
            evidence=(evidence("keys", len(told.needs_restart), 0),),
            sure="certain",
            remedy="stop `ashore up`, start it again",
            commands=("ashore stop", "ashore up"),
        )
    elif told.differs:
        yield Finding(
            severity="warning",
            what=f"ashore.toml differs from what runs: {'; '.join(told.differs)}",
            cause="it was changed, and not applied",
            evidence=(evidence("keys", len(told.differs), 0),),
            sure="certain",
            remedy="apply it",
            commands=("ashore reload --dry-run", "ashore reload"),
        )


@rule("D941", "configuration", "Would a start with this file warn?", needs=("configuration",))
def start_warns(seen: Readings) -> Iterator[Finding]:
    for one in seen.configuration.notes:
        yield Finding(
            severity="warning",
            what=one.what,
            cause="the file asks for it",
            evidence=(evidence("check at the start", "a warning", "none"),),
            sure="certain",
            remedy=one.do,
            commands=(),
        )


@rule(
    "D942",
    "configuration",
    "Is a variable set that ashore does not know?",
    needs=("configuration.unknown_variables",),
    down=True,
)
def unknown_variables(seen: Readings) -> Iterator[Finding]:
    for one in seen.configuration.unknown_variables:
        yield Finding(
            severity="advice",
            what=one,
            cause="a name was mistyped, or belongs to another version",
            evidence=(evidence("variable", one),),
            sure="likely",
            remedy="correct it",
            commands=("env | grep ^ASHORE_",),
        )


@rule("D943", "configuration", "Is a restore into this home unfinished?", needs=("stored.restoring",), down=True)
def restoring(seen: Readings) -> Iterator[Finding]:
    if seen.stored.restoring:
        yield Finding(
            severity="critical",
            what="a restore into this home is not finished",
            cause="it was cut off; half of it must not be taken for all",
            evidence=(evidence(".restoring", "there", "gone"),),
            sure="certain",
            remedy="give the same `ashore backup restore` again: it goes on",
            commands=("ashore backup restore …",),
        )


@rule("D944", "configuration", "Do traces get lost?", needs=("server.spans_failed",))
def lost_spans(seen: Readings) -> Iterator[Finding]:
    if seen.server.spans_failed:
        yield Finding(
            severity="advice",
            what=f"{counted(seen.server.spans_failed, 'span')} could not be sent to the collector",
            cause="the collector of [otel] endpoint does not answer",
            evidence=(evidence("not sent", seen.server.spans_failed, 0),),
            sure="certain",
            remedy="start the collector, or leave [otel] endpoint out",
            commands=("ashore config show --changed",),
        )
