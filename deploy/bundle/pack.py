"""Pack a directory into a tar.gz whose bytes depend on the files alone.   python pack.py FOLDER OUT.tar.gz

Run by the Python of a tree: its zlib is pinned by debs.lock. Names are sorted; times and owners are blank.
"""

import gzip
import sys
import tarfile
from pathlib import Path


def pack(root: Path, out: Path) -> None:
    with (
        open(out, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as tar,
    ):
        for path in (root, *sorted(root.rglob("*"))):
            member = tarfile.TarInfo(str(path.relative_to(root.parent)))
            member.mode = path.stat().st_mode & 0o755
            if path.is_dir():
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = path.stat().st_size
                with open(path, "rb") as file:
                    tar.addfile(member, file)


pack(Path(sys.argv[1]), Path(sys.argv[2]))
