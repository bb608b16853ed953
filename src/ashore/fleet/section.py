"""`[fleet]`: engine nodes that come and go."""

from __future__ import annotations

import ipaddress
from typing import ClassVar, Self

from ashore.core import Section
from ashore.errors import InvalidSpec


class FleetSection(Section, frozen=True, kw_only=True):
    """Engine nodes that join with `ashore fleet join`."""

    WHOLE_KEPT: ClassVar[bool] = True

    networks: tuple[str, ...] = ()
    """Networks whose addresses may join, such as `10.0.0.0/24`. A host name may join if `[egress] allow` lists it.
    Empty: no address may join."""

    def checked(self, where: str) -> Self:
        for text in self.networks:
            try:
                ipaddress.ip_network(text)
            except ValueError as fault:
                raise InvalidSpec(f"{where} networks has {text!r}: {fault}", hint='write "10.0.0.0/24"') from fault
        return self
