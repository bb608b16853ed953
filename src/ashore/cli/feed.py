"""`ashore feed`: receivers of the audit log, and the proof of what they have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import msgspec

from ashore.cli.calls import noun_of, table
from ashore.cli.sure import AsJson
from ashore.control.feeds.calls import CALLS, FeedRow
from ashore.core.counted import counted
from ashore.core.errors import NotFound
from ashore.core.visible import on_a_screen
from ashore.kit.call import Items
from ashore.kit.settings import read_settings

EXIT_WRONG: Final = 4
"""Records are missing there, or were changed."""


def _show_status(found: Items[FeedRow]) -> None:
    if not found.items:
        print("the audit log is sent nowhere; [[feed]] in ashore.toml names a receiver", file=sys.stderr)
        return
    print(table(found.items, ("feed", "state", "behind", "sent", "resent", "skipped", "proves", "to")))
    for one in found.items:
        if one.error:
            print(on_a_screen(f"{one.feed}: {one.error}"))


app = noun_of("feed", "Send the audit log to a SIEM, and prove what it has.", CALLS, {"status": _show_status})


@app.command
def verify(file: Path, /, *, public_key: Path | None = None, as_json: AsJson = False) -> int:
    """Prove what a receiver has: nothing missing, nothing changed, up to which number. Needs no server.

    Args:
        file: What the receiver stored: its log file, or an export of the events as JSON lines.
        public_key: File with a public key that you obtained separately; default: the keys of this home.
    """
    from ashore.control.feeds.proof import prove
    from ashore.data.audit import PUBLIC_KEYS, read_public_keys

    if not file.is_file():
        raise NotFound(f"{file} is not a file", hint="give the file that the receiver stored")
    proof = prove(file, read_public_keys(public_key or read_settings().home.audit_keys / PUBLIC_KEYS))
    if as_json:
        print(json.dumps({"ok": proof.ok, **msgspec.to_builtins(proof)}, ensure_ascii=False))
        return 0 if proof.ok else EXIT_WRONG
    for one in proof.chains:
        print(
            on_a_screen(f"{one.chain} of {one.home}: {counted(one.records, 'record')}, {one.first:,} to {one.last:,}")
        )
        if one.doubled:
            print(f"  {counted(one.doubled, 'line')} came again, as a feed sends after a failure")
        if one.torn:
            print(f"  {counted(one.torn, 'line')} torn or changed, beside a copy that is whole")
        if one.stubs:
            print(f"  of {counted(one.stubs, 'record')} the number and the hash alone are proved")
        if one.signed < one.last:
            print(f"  signed up to number {one.signed:,}; later records are not signed yet")
    for problem in proof.problems:
        print(on_a_screen(f"WRONG: {problem}"))
    records = counted(sum(one.records for one in proof.chains), "record")
    print(f"{counted(proof.checkpoints, 'checkpoint')}; {records}: {'as written' if proof.ok else 'NOT as written'}")
    return 0 if proof.ok else EXIT_WRONG
