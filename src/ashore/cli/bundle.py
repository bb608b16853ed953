"""`ashore bundle`: the stick of a release, checked on the machine that it is carried to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest
from ashore.kit.carried import carried

app = App(name="bundle", help="Check a stick with a new release before it is installed.")

Flag = Annotated[bool, Parameter(negative=())]


@app.command
def verify(directory: Path, /, *, key: Path | None = None, older: Flag = False, list_only: Flag = False) -> None:
    """Check who signed a stick, and that its files are those that were signed. Unpacks nothing.

    The installer of the stick does this with a copy; check a copy as well, since a stick can be exchanged.

    Args:
        directory: The stick, as `make bundle` wrote it, or a copy.
        key: Public Ed25519 key of the release, as ssh-keygen writes it; default: the one that this ashore came with.
        older: Accept an older release than this one.
        list_only: Check the signature and the age alone, and no file.

    Raises:
        CorruptBlob: another key signed it, a file has changed, or a tar has what no release has.
        Conflict: it is older than this release.
    """
    from ashore.machine.deployment.stick import check_files, read_list, refuse_older

    tree = carried()
    used = key or (tree.key if tree else None)
    if used is None or not used.is_file():
        raise InvalidRequest(
            "this ashore came without the key of its release",
            hint="name the public key with --key; it must have come another way than the stick",
        )
    listed = read_list(directory, used)
    if not older:
        refuse_older(listed.release, tree.release if tree else None)
    print(f"ashore {listed.release.version} for {listed.release.system}, signed by {used}")
    if not list_only:
        num_bytes = check_files(directory, listed)
        print(f"{counted(len(listed.hashes), 'file')}, {human_bytes(num_bytes)}, as they were signed")
