"""Anchors: places outside the administrator's control that get a copy of every checkpoint, and their table."""

from __future__ import annotations

from pathlib import Path

from ashore.control.audit.anchors.ports import Anchor
from ashore.core.errors import InvalidRequest


def open_anchor(place: str, home: str) -> Anchor:
    """Return an anchor by its place: a folder, a file of lines, `s3://BUCKET/PATH`, `syslog+udp|tcp|unix://…`.

    Connects on first use.

    Raises:
        InvalidRequest: the place is malformed.
    """
    if place.startswith("s3://"):
        from ashore.control.audit.anchors.s3 import BucketAnchor

        return BucketAnchor(place, home)
    if place.startswith("syslog+"):
        from ashore.control.audit.anchors.syslog import SyslogAnchor

        return SyslogAnchor(place)
    path = Path(place)
    if not path.is_absolute():
        path = path.absolute()
    if path.is_file():
        from ashore.control.audit.anchors.lines import FileOfLines

        return FileOfLines(path, home)
    from ashore.control.audit.anchors.directory import FolderAnchor

    if "://" in place:
        raise InvalidRequest(
            f"{place!r} is not a valid anchor", hint="use a directory, a file, s3://… or syslog+tcp://…"
        )
    return FolderAnchor(path, home)
