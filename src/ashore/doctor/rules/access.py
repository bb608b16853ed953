"""Keys, budgets, files that others may read."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.core import counted
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule


@rule("D920", "access", "May others read secrets of the home?", needs=("access.open_paths",), down=True)
def readable(seen: Readings) -> Iterator[Finding]:
    for one in seen.access.open_paths:
        mode, _, path = one.partition(" ")
        closed = f"{int(mode, 8) & 0o700:04o}"
        yield Finding(
            severity="critical",
            what=f"other users of this machine may read {path} ({mode})",
            cause="its permissions were opened: a copy, an archive, a umask",
            evidence=(evidence("mode", mode, closed),),
            sure="certain",
            remedy="close it; make new keys if somebody may have read them",
            commands=(f"chmod {closed} {path}",),
            change=Change(kind="mode", target=path, value=closed),
        )


@rule("D921", "access", "Is the first key still lying there?", needs=("access.first_key_left",))
def first_key(seen: Readings) -> Iterator[Finding]:
    if seen.access.first_key_left:
        yield Finding(
            severity="advice",
            what="the file with the first key is there, and the key opens nothing any more",
            cause="three administrators have keys of their own",
            evidence=(evidence("first-key", "there", "gone"),),
            sure="certain",
            remedy="delete it",
            commands=("rm first-key  # in the home",),
        )


@rule("D922", "access", "Do keys in use end soon?", needs=("access.ending_keys",))
def keys_end(seen: Readings) -> Iterator[Finding]:
    if seen.access.ending_keys:
        yield Finding(
            severity="warning",
            what=f"{counted(len(seen.access.ending_keys), 'key')} in use "
            f"{'ends' if len(seen.access.ending_keys) == 1 else 'end'} within a week: "
            f"{', '.join(seen.access.ending_keys[:3])}",
            cause="they were made with an end; requests with them fail from then on",
            evidence=(evidence("keys", len(seen.access.ending_keys), 0),),
            sure="certain",
            remedy="make new ones, and give them to their users in time",
            commands=("ashore access key list", "ashore access key create OWNER --expires 90d"),
        )


@rule("D923", "access", "Is an office of the three without a person?", needs=("access.missing_offices",))
def no_officer(seen: Readings) -> Iterator[Finding]:
    if seen.access.missing_offices:
        yield Finding(
            severity="advice",
            what=f"nobody with a live key is {', '.join(seen.access.missing_offices)}",
            cause="the first key was not handed over, or keys ended",
            evidence=(evidence("offices without a person", len(seen.access.missing_offices), 0),),
            sure="certain",
            remedy="hand over to three administrators",
            commands=(f"ashore access user create NAME --role {seen.access.missing_offices[0]}",),
        )


@rule("D924", "access", "Is a budget nearly used up?", needs=("access.full_budgets",))
def budget_ends(seen: Readings) -> Iterator[Finding]:
    for one in seen.access.full_budgets[:5]:
        yield Finding(
            severity="warning",
            what=f"a budget is nearly used up: {one}",
            cause="more was asked than it allows; its users get 429 until it begins anew",
            evidence=(evidence("used", one, "95%"),),
            sure="certain",
            remedy="raise it, or see who uses it",
            commands=("ashore access budget list", "ashore access usage --by user,day"),
        )


@rule("D925", "access", "Do secrets lie in clear although they could be sealed?", needs=("access.unsealed",))
def unsealed(seen: Readings) -> Iterator[Finding]:
    if seen.access.unsealed:
        yield Finding(
            severity="warning",
            what=f"{counted(len(seen.access.unsealed), 'secret')} of the home "
            f"{'lies' if len(seen.access.unsealed) == 1 else 'lie'} in clear: {', '.join(seen.access.unsealed[:4])}",
            cause="a sealing key is set, and they were written before",
            evidence=(evidence("in clear", len(seen.access.unsealed), 0),),
            sure="certain",
            remedy="seal them",
            commands=("ashore secret seal --dry-run",),
        )
