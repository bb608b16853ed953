"""`ashore data`: shards of training data, in a folder or a bucket."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ashore.cli.progress import TerminalProgress
from ashore.cli.sure import AsJson, OwnJson, print_json
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted

if TYPE_CHECKING:
    from ashore.lab.training import SetLook

app = App(name="data", help="Write and verify shards of training data.")

Flag = Annotated[bool, Parameter(negative=())]
EXIT_BROKEN = 1


@app.command
def pack(
    data: Annotated[list[str], Parameter(negative=(), consume_multiple=True)],
    /,
    *,
    out: str,
    shard_mib: float = 64.0,
    skip_broken: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Write training data as WebDataset shards.

    Reads JSONL, Parquet, text and other shards. Equal data gives equal bytes. SHA256SUMS is written last: a set without
    it is not complete.

    Args:
        data: Files, folders or s3://BUCKET/PATH.
        out: Folder or s3://BUCKET/PATH. Shards that are there are never overwritten.
        shard_mib: Size of a shard, about, in MiB.
        skip_broken: Leave out shards and examples that are broken, and name them; default: a broken one stops the
            command.
    """
    from ashore.lab.training import pack_shards

    with TemporaryDirectory(prefix="ashore-data-") as cache, TerminalProgress() as progress:
        size = int(shard_mib * (1 << 20))
        packed = pack_shards(data, out, Path(cache), shard_bytes=size, skip_broken=skip_broken, told=_told(progress))
    if as_json:
        print_json(packed)
        return
    print(f"{counted(packed.samples, 'example')} in {counted(packed.shards, 'shard')}, {human_bytes(packed.num_bytes)}")
    print(f"{packed.place}  sha256:{packed.digest}")
    for line in packed.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if packed.num_skipped > len(packed.skipped):
        print(f"skipped: {packed.num_skipped - len(packed.skipped):,} more", file=sys.stderr)


@app.command
def verify(data: str, /, *, as_json: OwnJson = False) -> int:
    """Read every shard and every example, and compare the shards with SHA256SUMS. Exit status 1 if anything is broken.

    Args:
        data: A file, a folder or s3://BUCKET/PATH.
        as_json: Print JSON, with every shard.
    """
    with TemporaryDirectory(prefix="ashore-data-") as cache:
        found = _look(data, Path(cache))
    if as_json:
        print_json(found)
    else:
        for fault in found.faults:
            print(fault)
        sums = "as SHA256SUMS says" if found.sums else "no SHA256SUMS to compare with"
        broken = sum(bool(shard.fault or shard.num_broken) for shard in found.shards)
        verdict = f"{counted(broken, 'shard')} broken" if broken else f"all readable, {sums}"
        print(f"{counted(len(found.shards), 'shard')}, {counted(found.samples, 'example')}: {verdict}")
    return EXIT_BROKEN if found.faults else 0


def _look(data: str, cache: Path) -> SetLook:
    from ashore.lab.training import look_at

    with TerminalProgress() as progress:
        return look_at(data, cache, told=_told(progress))


def _told(progress: TerminalProgress) -> Any:
    return lambda stage, done, total: progress.steps(stage, done, total, f"shard {done:,} of {total:,}")
