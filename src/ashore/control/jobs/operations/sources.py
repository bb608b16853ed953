"""Allowed sources of an operation over the API: hubs, hosts in `[egress]`, and folders in `[jobs] folders`.

API callers can neither read arbitrary files of the server nor make it call arbitrary addresses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ashore.core.errors import PermissionDenied
from ashore.kit.egress import Allowed, check_url
from ashore.kit.folders import is_below
from ashore.kit.store import Catalog, is_source, name_of_source, parse_reference, pip_addresses

HUBS: Final = ("hf:", "ms:")
"""Sources that are always allowed: the hubs, or the mirrors that the operator named. Offline, the pull refuses them."""
HOW: Final = "add it to [jobs] folders in ashore.toml on the server, and restart it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The sources that operations may read."""

    folders: Sequence[str] = ()
    """Folders and `s3://BUCKET/PATH` of `[jobs] folders`."""
    allow: Sequence[Allowed] = ()
    """Of `[egress] allow`."""
    indexes: Callable[[], Sequence[str]] = pip_addresses
    """Addresses that a pull of `pypi:` goes to: the operator sets pip up."""

    def source(self, said: str) -> str:
        """Return the allowed source of a pull: as given, or the path that it resolves to. Addresses are checked on
        connect (`kit/outgoing.py`).

        Raises:
            PermissionDenied: the operator does not allow it.
            UnknownModel: it is neither a source nor a name of the catalogue.
        """
        kind, _, rest = said.partition(":")
        if said.startswith(HUBS):
            return said
        if kind == "pypi":
            for index in self.indexes():
                check_url(index, self.allow)
        elif kind in ("oci", "oci+http"):
            scheme = "http" if kind == "oci+http" else "https"
            check_url(f"{scheme}://{rest.removeprefix('//').partition('/')[0]}/", self.allow)
        elif is_source(said) or "/" in said:
            return self.path(said.removeprefix("file:"))
        else:
            Catalog.load().get(said)
        return said

    def path(self, said: str) -> str:
        """Return the real path of a file, folder or bucket in `[jobs] folders`, links followed: changing a link later
        has no effect.

        Raises:
            PermissionDenied: it is outside of them.
        """
        if said.startswith("s3://"):
            roots = [one for one in self.folders if one.startswith("s3://")]
            found = said
            inside = ".." not in said.split("/") and any(is_below(said.rstrip("/"), one) for one in roots)
        else:
            found = os.path.realpath(os.path.expanduser(said))
            roots = [os.path.realpath(one) for one in self.folders if not one.startswith("s3://")]
            inside = os.path.isabs(os.path.expanduser(said)) and any(is_below(found, root) for root in roots)
        if not inside:
            what = f"{said[:200]!r} is not in the folders that jobs may read"
            raise PermissionDenied(what, hint=HOW, resource=f"path/{said[:200]}")
        return found + "/" if said.endswith("/") and not found.endswith("/") else found


def check_stored(name: str) -> str:
    """Return the name in the store of `name[@variant]`.

    Raises:
        InvalidRequest: it is a path or an address, not a reference.
    """
    return parse_reference(name).name


def pulled_name(source: str, name: str | None) -> str:
    """Return the name that a pulled model gets.

    Raises:
        InvalidRequest: no name can be formed from it.
    """
    if name:
        return parse_reference(name).name
    entry = Catalog.load().find_source(source)
    if entry is not None:
        return entry.name
    return name_of_source(source) if is_source(source) or "/" in source else parse_reference(source).name
